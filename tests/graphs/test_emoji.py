"""The shipped graph `emoji`, read without the loader, and the parts of its builder."""

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import graphs
from graphs.building.emoji_facts import components, is_base_emoji, neutral_form
from graphs.building.leakage import no_name, reciprocal_ranks
from graphs.building.sources import OPENMOJI_VERSION, BuildError, openmoji_folder
from graphs.building.splitting import spells

FOLDER = Path(graphs.__file__).parent / "data" / "emoji"
SCRIPT = Path(__file__).parents[2] / "scripts" / "prepare.py"
SPLITS = ("train", "valid", "test")


def table(name):
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.fixture(scope="module")
def card():
    return json.loads((FOLDER / "card.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def entities():
    return table("entities.tsv")


@pytest.fixture(scope="module")
def relations():
    return [row["name"] for row in table("relations.tsv")]


@pytest.fixture(scope="module")
def splits():
    return {
        split: np.loadtxt(FOLDER / f"{split}.tsv", dtype=np.int64, delimiter="\t")
        for split in SPLITS
    }


@pytest.fixture(scope="module")
def facts(entities, relations, splits):
    """All triples as (head key, relation name, tail key)."""
    keys = [row["key"] for row in entities]
    return {
        (keys[head], relations[relation], keys[tail])
        for triples in splits.values()
        for head, relation, tail in triples.tolist()
    }


def arrays(name):
    with np.load(FOLDER / name, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


# --- shipped files ---------------------------------------------------------------------------


def test_card_lists_every_file_with_its_hash(card):
    found = {
        path.relative_to(FOLDER).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in FOLDER.rglob("*")
        if path.is_file() and path.name != "card.json"
    }
    assert card["files"] == found


def test_folder_has_at_most_three_megabytes():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 3_000_000


def test_licence_and_attribution_are_beside_the_data(card):
    licence = (FOLDER / "LICENSE-CC-BY-SA-4.0.txt").read_text(encoding="utf-8")
    assert licence.startswith("Attribution-ShareAlike 4.0 International")
    assert "Section 8 -- Interpretation." in licence
    attribution = " ".join((FOLDER / "ATTRIBUTION.md").read_text(encoding="utf-8").split())
    assert "all emojis designed by [OpenMoji](https://openmoji.org/)" in attribution
    for source in card["sources"]:
        assert source["license"]
        if source["name"] != "resvg-py":  # a tool, nothing of it is in the data
            assert source["name"] in attribution.lower()
            assert source["version"] in attribution


def test_card_counts_what_is_in_the_files(card, entities, relations, splits):
    kinds = Counter(row["type"] for row in entities)
    assert card["entities"] == {"total": len(entities), **kinds}
    assert card["triples"]["total"] == sum(map(len, splits.values()))
    for split, triples in splits.items():
        assert card["triples"][split] == len(triples)
        counts = np.bincount(triples[:, 1], minlength=len(relations)).tolist()
        assert card["triples"]["relations"][split] == dict(zip(relations, counts, strict=True))


def test_ids_are_row_numbers_and_keys_are_distinct(entities, relations):
    assert [row["id"] for row in entities] == [str(row) for row in range(len(entities))]
    assert [row["id"] for row in table("relations.tsv")] == [str(r) for r in range(len(relations))]
    assert len({row["key"] for row in entities}) == len(entities)
    assert all(row["key"].split(":", 1)[0] == row["type"] for row in entities)
    assert all(row["name"].strip() for row in entities)


# --- splits ----------------------------------------------------------------------------------


def test_sizes_are_those_of_a_graph_worth_evaluating_on(entities, relations, splits):
    total = sum(map(len, splits.values()))
    assert len(entities) > 3400
    assert len(relations) == 12
    assert total > 11_000
    for split in ("valid", "test"):
        assert 0.09 <= len(splits[split]) / total <= 0.11


def test_triples_are_sorted_distinct_and_without_loops(splits):
    rows = [tuple(row) for triples in splits.values() for row in triples.tolist()]
    assert len(set(rows)) == len(rows)
    assert all(head != tail for head, _, tail in rows)
    for triples in splits.values():
        assert triples.tolist() == sorted(triples.tolist())


def test_no_pair_of_entities_is_in_two_splits(splits):
    pairs = {
        split: {frozenset((head, tail)) for head, _, tail in triples.tolist()}
        for split, triples in splits.items()
    }
    assert not pairs["train"] & pairs["valid"]
    assert not pairs["train"] & pairs["test"]
    assert not pairs["valid"] & pairs["test"]


def test_borders_is_symmetric_within_each_split(relations, splits):
    borders = relations.index("borders")
    for triples in splits.values():
        pairs = {(h, t) for h, r, t in triples.tolist() if r == borders}
        assert pairs
        assert pairs == {(t, h) for h, t in pairs}


def test_no_other_relation_holds_in_both_directions(facts):
    both = {r for h, r, t in facts if (t, r, h) in facts}
    assert both == {"borders"}


def test_train_has_every_entity_and_relation(entities, relations, splits):
    train = splits["train"]
    assert set(train[:, [0, 2]].ravel().tolist()) == set(range(len(entities)))
    for split in ("valid", "test"):
        assert set(splits[split][:, 1].tolist()) <= set(train[:, 1].tolist())
    assert set(splits["test"][:, 1].tolist()) == set(range(len(relations)))


def plain_words(name):
    """The decided rule, written without the builder: whole words, no stop words."""
    decomposed = unicodedata.normalize("NFKD", name.lower())
    plain = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return set(re.findall(r"[a-z0-9]+", plain)) - {
        "a",
        "an",
        "and",
        "in",
        "of",
        "on",
        "the",
        "with",
    }


def test_no_name_in_valid_or_test_spells_its_answer(entities, splits):
    names = [row["name"] for row in entities]
    for split in ("valid", "test"):
        for head, relation, tail in splits[split].tolist():
            assert not spells(names[head], names[tail]), (split, head, relation, tail)
            one, other = plain_words(names[head]), plain_words(names[tail])
            assert not (one and other and (one <= other or other <= one)), (
                names[head],
                names[tail],
            )


def test_train_keeps_the_spelled_triples_that_the_card_counts(card, entities, relations, splits):
    names = [row["name"] for row in entities]
    counts = Counter(
        relations[relation]
        for head, relation, tail in splits["train"].tolist()
        if spells(names[head], names[tail])
    )
    assert counts == Counter(card["leak_check"]["spelled_triples"])
    assert counts["has_keyword"] > 1000


# --- facts, by hand --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fact",
    [
        ("emoji:1F1EB-1F1F7", "flag_of", "country:FR"),
        ("country:FR", "borders", "country:BE"),
        ("country:CH", "language", "language:it"),
        ("country:RS", "language", "language:sr"),
        ("country:JP", "currency", "currency:JPY"),
        ("country:IQ", "borders", "country:KW"),
        ("country:PS", "borders", "country:IL"),
        ("country:IT", "in_subregion", "subregion:Southern Europe"),
        ("subregion:Southern Europe", "subregion_of", "region:Europe"),
        ("emoji:1F993", "in_subgroup", "subgroup:animal-mammal"),
        ("subgroup:animal-mammal", "subgroup_of", "group:animals-nature"),
        ("emoji:1F600", "has_keyword", "keyword:happy"),
        ("emoji:1F9DF-200D-2640-FE0F", "gender_variant_of", "emoji:1F9DF"),
        ("emoji:1F385", "gender_variant_of", "emoji:1F9D1-200D-1F384"),
        ("emoji:1F9D1-200D-1F680", "zwj_component", "emoji:1F680"),
    ],
)
def test_a_known_fact_is_there(facts, fact):
    assert fact in facts


@pytest.mark.parametrize(
    "pair", [("MM", "BT"), ("TD", "SS"), ("KW", "IR"), ("SR", "FR"), ("RS", "AL")]
)
def test_a_wrong_border_of_the_source_is_left_out(facts, pair):
    assert (f"country:{pair[0]}", "borders", f"country:{pair[1]}") not in facts


def test_switzerland_borders_its_five_neighbors(facts):
    neighbors = {t for h, r, t in facts if h == "country:CH" and r == "borders"}
    assert neighbors == {f"country:{code}" for code in ("AT", "DE", "FR", "IT", "LI")}


def test_functional_relations_have_one_tail(facts):
    for relation in ("in_subgroup", "subgroup_of", "in_region", "in_subregion", "flag_of"):
        heads = Counter(h for h, r, _ in facts if r == relation)
        assert max(heads.values()) == 1, relation


# --- modalities and thumbnails ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["image", "text"])
def test_features_are_finite_half_precision_rows(card, entities, name):
    stored = arrays(f"modalities/{name}.npz")
    assert stored["entities"].dtype == np.int32
    assert stored["features"].dtype == np.float16
    rows = stored["entities"]
    assert (np.diff(rows) > 0).all()
    assert rows[0] >= 0
    assert rows[-1] < len(entities)
    assert stored["features"].shape == (len(rows), card["modalities"][name]["columns"])
    assert card["modalities"][name]["entities"] == len(rows)
    assert np.isfinite(stored["features"]).all()
    assert stored["features"].shape[1] <= 128
    assert (stored["features"].astype(np.float32).std(axis=0) > 0).all()


def test_text_covers_all_entities_and_images_exactly_the_emoji(entities):
    assert arrays("modalities/text.npz")["entities"].tolist() == list(range(len(entities)))
    emoji = [int(row["id"]) for row in entities if row["type"] == "emoji"]
    assert arrays("modalities/image.npz")["entities"].tolist() == emoji
    assert arrays("thumbnails.npz")["entities"].tolist() == emoji


def test_thumbnails_are_pictures_on_white():
    stored = arrays("thumbnails.npz")
    rgb = stored["rgb"]
    assert rgb.dtype == np.uint8
    assert rgb.shape == (len(stored["entities"]), 32, 32, 3)
    assert (rgb.reshape(len(rgb), -1).min(axis=1) < 200).all(), "an empty picture"
    corners = rgb[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 255).mean() > 0.9


def test_thumbnails_show_the_colours_of_what_they_depict(entities):
    stored = arrays("thumbnails.npz")
    rows = {int(entity): row for row, entity in enumerate(stored["entities"])}
    ids = {row["key"]: int(row["id"]) for row in entities}

    def middle(key):
        return stored["rgb"][rows[ids[key]], 12:20, 12:20].reshape(-1, 3).mean(axis=0)

    red, green, blue = middle("emoji:1F7E5")  # red square
    assert red > 180
    assert max(green, blue) < 120
    red, green, blue = middle("emoji:1F7E6")  # blue square
    assert blue > 180
    assert red < 170
    assert middle("emoji:2B1B").max() < 80  # black large square


def test_features_know_more_than_chance(facts, entities):
    """Nearest neighbors share the subgroup far more often than random emoji would."""
    subgroup = {h: t for h, r, t in facts if r == "in_subgroup"}
    keys = [row["key"] for row in entities]
    for name in ("image", "text"):
        stored = arrays(f"modalities/{name}.npz")
        keep = [row for row, e in enumerate(stored["entities"]) if keys[e] in subgroup]
        features = stored["features"][keep].astype(np.float32)
        labels = np.array([subgroup[keys[stored["entities"][row]]] for row in keep])
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        similarity = features @ features.T
        np.fill_diagonal(similarity, -np.inf)
        assert (labels[similarity.argmax(axis=1)] == labels).mean() > 0.4, name


# --- builder ---------------------------------------------------------------------------------


def test_components_of_joined_sequences():
    assert components("1F469-200D-2764-FE0F-200D-1F468") == ["1F468", "1F469", "2764"]
    assert components("1F600") == []
    assert components("1F1EB-1F1F7") == []


@pytest.mark.parametrize(
    ("hexcode", "neutral"),
    [
        ("1F9DF-200D-2640-FE0F", "1F9DF"),
        ("1F468-200D-1F3A8", "1F9D1-200D-1F3A8"),
        ("1F6B6-200D-2640-FE0F-200D-27A1-FE0F", "1F6B6-200D-27A1"),
        ("1F478", "1FAC5"),
        ("1F468", "1F9D1"),
        ("1F468-200D-1F469-200D-1F466", None),  # a family has no variant of its own
        ("1F468-200D-1F466", None),
        ("1F600", None),
    ],
)
def test_neutral_forms(hexcode, neutral):
    assert neutral_form(hexcode) == neutral


def test_base_emoji_leave_out_skin_tones_and_extras():
    assert is_base_emoji({"skintone": "", "group": "flags"})
    assert not is_base_emoji({"skintone": 3, "group": "people-body"})
    assert not is_base_emoji({"skintone": "", "group": "extras-openmoji"})


def test_reciprocal_ranks_by_hand():
    # Entities 0..4; 0 -r-> 1 is asked, 0 -r-> 2 is known from train.
    splits = {
        "train": np.array([(0, 0, 2), (3, 0, 2), (4, 0, 1)]),
        "valid": np.empty((0, 3), dtype=np.int64),
        "test": np.array([(0, 0, 1)]),
    }

    def scorer(entity):
        return np.array([9.0, 2.0, 8.0, 3.0, 2.0]) if entity == 0 else np.zeros(5)

    # Tail query: 0 is the query, 2 is known; above the answer: 3; tied with it: 4.
    # Head query from 1: itself and the known head 4 are out; 2 and 3 tie with the answer 0.
    ranks = reciprocal_ranks(scorer, splits, 5, 1, of_right_type=False)
    np.testing.assert_allclose(ranks, [[1 / 2.5, 1 / 2]])
    # Of right type: tails of r in train are 1 and 2, heads are 0, 3 and 4.
    ranks = reciprocal_ranks(scorer, splits, 5, 1, of_right_type=True)
    np.testing.assert_allclose(ranks, [[1, 1 / 1.5]])
    assert no_name(5)(0).tolist() == [0] * 5


def test_card_reports_baselines_for_every_test_relation(card, relations):
    baselines = card["leak_check"]["test_baselines"]
    for report in baselines.values():
        assert set(report["relations"]) == set(relations)
        assert 0 < report["mrr"] < 1
        assert report["mrr"] == pytest.approx((report["tails"] + report["heads"]) / 2, abs=1e-3)
    # What a name gives away must stay well below what there is to learn.
    assert baselines["nearest_name"]["mrr"] < 0.15
    assert baselines["token_overlap"]["mrr"] < 0.05


def test_another_version_of_openmoji_is_refused(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "package.json").write_text('{"name": "openmoji", "version": "16.0.0"}')
    with pytest.raises(BuildError, match=r"expected openmoji 17\.0\.0 .* found openmoji 16\.0\.0"):
        openmoji_folder(tmp_path, tmp_path)
    text = json.dumps({"name": "openmoji", "version": OPENMOJI_VERSION})
    (package / "package.json").write_text(text)
    assert openmoji_folder(tmp_path, tmp_path) == package


def test_missing_npm_is_one_clear_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="npm is missing: install it, or pass --openmoji"):
        openmoji_folder(None, tmp_path)


def test_script_refuses_bad_input_with_one_sentence_and_code_two(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("mine")
    command = [sys.executable, str(SCRIPT), "emoji", "--openmoji", str(tmp_path / "absent")]
    # Without the extra the sentence is about that; the code and the form are the same.
    for out in ("new", "out"):
        done = subprocess.run(
            [*command, "--out", str(tmp_path / out)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
        assert done.stderr.startswith("prepare.py: ")
    assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious.txt"]
