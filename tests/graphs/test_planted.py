"""Planted graphs do what they say: checked with numpy alone, without any teacher."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs import MultimodalGraph, PlantedSpec, planted_graph, planted_levels
from graphs.planted_spec import parse_planted
from graphs.true_masks import TrueMasks, true_masks

# Three modalities, two of them competent in each block.
WIDE = PlantedSpec(
    entities=720,
    relations=7,
    blocks=3,
    codes=4,
    modalities=("text", "image", "audio"),
    competent_per_block=2,
    tails_per_head=4,
)


def all_triples(graph: MultimodalGraph) -> np.ndarray:
    return np.concatenate([graph.triples[split] for split in ("train", "valid", "test")])


def percentile_ranks(
    graph: MultimodalGraph, relation: int, modality: str, split: str
) -> list[float]:
    """Where a ridge regression from head to tail features puts the true tails: 0 best, ½ chance.

    The regression is fitted to training triples of the relation; candidates are the entities of
    the range group that are no known answer (the filtered setting) and have the modality.
    """
    features = np.zeros((graph.num_entities, graph.modalities[modality].width))
    features[graph.modalities[modality].entities] = graph.modalities[modality].features
    present = graph.modalities[modality].presence(graph.num_entities)
    types = np.array(graph.metadata["entity_types"])

    def rows(name: str) -> np.ndarray:
        triples = graph.triples[name]
        triples = triples[triples[:, 1] == relation]
        return triples[present[triples[:, 0]] & present[triples[:, 2]]]

    train = rows("train")
    inputs = np.c_[features[train[:, 0]], np.ones(len(train))]
    gram = inputs.T @ inputs + np.eye(inputs.shape[1])
    weights = np.linalg.solve(gram, inputs.T @ features[train[:, 2]])
    group = np.flatnonzero((types == types[train[0, 2]]) & present)
    known = set(map(tuple, all_triples(graph).tolist()))
    ranks = []
    for head, _, tail in rows(split).tolist():
        predicted = np.r_[features[head], 1] @ weights
        others = [other for other in group.tolist() if (head, relation, other) not in known]
        distances = ((features[others] - predicted) ** 2).sum(axis=1)
        own = ((features[tail] - predicted) ** 2).sum()
        ranks.append(float((distances < own).mean()))
    return ranks


@pytest.mark.parametrize("level", ["easy", "medium", "hard"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_competent_modalities_tell_and_the_others_mislead(level: str, seed: int) -> None:
    graph = planted_graph(replace(planted_levels[level], seed=seed))
    assert graph.planted_mask is not None
    held_out: dict[bool, list[float]] = {True: [], False: []}
    memorised: dict[bool, list[float]] = {True: [], False: []}
    for relation in range(graph.num_relations):
        for column, modality in enumerate(sorted(graph.modalities)):
            competent = bool(graph.planted_mask[relation, column])
            ranks = percentile_ranks(graph, relation, modality, "test")
            # About 60 held-out triples for a pair, so ±.2 is more than four standard errors.
            if competent:
                assert np.mean(ranks) < 0.4, (relation, modality)
            else:
                assert 0.3 < np.mean(ranks) < 0.7, (relation, modality)
            held_out[competent] += ranks
            memorised[competent] += percentile_ranks(graph, relation, modality, "train")
    assert np.mean(held_out[True]) < {"easy": 0.02, "medium": 0.1, "hard": 0.3}[level]
    assert abs(np.mean(held_out[False]) - 0.5) < 0.08
    # What makes the others misleading and not just useless: on triples it was fitted to, the
    # regression looks as if it had learned something.
    assert np.mean(memorised[False]) < np.mean(held_out[False]) - 0.08


def test_each_of_two_competent_modalities_adds_something() -> None:
    graph = planted_graph(WIDE)
    assert graph.planted_mask is not None
    assert graph.planted_mask.sum(axis=1).tolist() == [2] * 14
    means: dict[bool, list[float]] = {True: [], False: []}
    for relation in range(graph.num_relations):
        for column, modality in enumerate(sorted(graph.modalities)):
            ranks = percentile_ranks(graph, relation, modality, "test")
            means[bool(graph.planted_mask[relation, column])].append(float(np.mean(ranks)))
    # One of two codes narrows the group to a quarter, so the mean percentile is about an eighth.
    assert 0.05 < np.mean(means[True]) < 0.2
    assert abs(np.mean(means[False]) - 0.5) < 0.08


@pytest.mark.parametrize(
    "spec", [PlantedSpec(), PlantedSpec(seed=5, relations=9), WIDE, PlantedSpec(modalities=("a",))]
)
def test_rules_hold_exactly_without_label_noise(spec: PlantedSpec) -> None:
    graph = planted_graph(spec)
    assert graph.planted_mask is not None
    heads, relations, tails = all_triples(graph).T
    for column, modality in enumerate(sorted(graph.modalities)):
        codes = np.array(graph.metadata["codes"][modality])
        for relation, rule in enumerate(graph.metadata["rules"][modality]):
            assert (rule is not None) == graph.planted_mask[relation, column]
            if rule is not None:
                rows = relations == relation
                assert sorted(rule) == list(range(spec.codes))
                np.testing.assert_array_equal(
                    codes[tails[rows]], np.array(rule)[codes[heads[rows]]]
                )
    types = np.array(graph.metadata["entity_types"])
    for _, relation, tail in all_triples(graph)[:200].tolist():
        assert types[tail] == f"block{relation % spec.blocks}-range"


def test_label_noise_breaks_the_rules_of_that_fraction_and_no_other_triple() -> None:
    clean = planted_graph(PlantedSpec(seed=3))
    noisy = planted_graph(PlantedSpec(seed=3, label_noise=0.2))
    before = set(map(tuple, all_triples(clean).tolist()))
    after = set(map(tuple, all_triples(noisy).tolist()))
    assert len(before) == len(after)
    # A random tail may by chance be one that another triple gave up.
    assert 0.17 < len(after - before) / len(after) <= 0.2
    # Four of five random tails are of a wrong code.
    codes, rules = clean.metadata["codes"], clean.metadata["rules"]
    broken = sum(
        any(
            rules[m][r] is not None and codes[m][t] != rules[m][r][codes[m][h]]
            for m in clean.modalities
        )
        for h, r, t in after
    )
    assert 0.1 < broken / len(after) < 0.2


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**63 - 1),
    blocks=st.integers(1, 4),
    extra=st.integers(0, 3),
    count=st.integers(1, 4),
    missing=st.sampled_from([0.0, 0.3, 0.9]),
    label_noise=st.sampled_from([0.0, 0.3, 0.9]),
)
def test_every_graph_is_well_formed(
    seed: int, blocks: int, extra: int, count: int, missing: float, label_noise: float
) -> None:
    spec = PlantedSpec(
        entities=40 * blocks + 5,
        blocks=blocks,
        relations=blocks + extra,
        codes=3,
        modalities=tuple("abcd"[:count]),
        tails_per_head=4,
        missing=missing,
        label_noise=label_noise,
        seed=seed,
    )
    graph = planted_graph(spec)
    triples = all_triples(graph)
    assert len(np.unique(triples, axis=0)) == len(triples)
    assert set(graph.split_overlaps().values()) == {0}
    for split in ("valid", "test"):
        assert len(graph.triples[split]) == round(0.1 * len(triples))
        held_out = graph.triples[split]
        assert np.isin(held_out[:, [0, 2]], graph.triples["train"][:, [0, 2]]).all()
        assert np.isin(held_out[:, 1], graph.triples["train"][:, 1]).all()
    for modality in graph.modalities.values():
        assert len(modality.entities) == spec.entities - round(missing * spec.entities)
    mask = graph.planted_mask
    assert mask is not None
    assert mask.shape == (2 * spec.relations, count)
    np.testing.assert_array_equal(mask[: spec.relations], mask[spec.relations :])
    assert mask.any(axis=1).all()
    if count > 1:
        assert not mask.all(axis=1).any()


def test_blocks_are_dealt_evenly_to_the_modalities() -> None:
    graph = planted_graph(PlantedSpec(entities=1200, relations=8, blocks=8, seed=1))
    assert graph.planted_mask is not None
    assert graph.planted_mask.sum(axis=0).tolist() == [8, 8]


def test_columns_of_the_mask_follow_sorted_names_whatever_their_order() -> None:
    one = planted_graph(PlantedSpec(modalities=("text", "image")))
    other = planted_graph(PlantedSpec(modalities=("image", "text")))
    np.testing.assert_array_equal(one.planted_mask, other.planted_mask)
    for name in ("text", "image"):
        np.testing.assert_array_equal(
            one.modalities[name].features, other.modalities[name].features
        )


def test_same_seed_same_bits_and_the_global_generator_is_left_alone() -> None:
    state = np.random.get_state()[1].tobytes()  # type: ignore[index]  # noqa: NPY002
    one, other = planted_graph(PlantedSpec(seed=7)), planted_graph(PlantedSpec(seed=7))
    assert np.random.get_state()[1].tobytes() == state  # type: ignore[index]  # noqa: NPY002
    different = planted_graph(PlantedSpec(seed=8))
    np.testing.assert_array_equal(all_triples(one), all_triples(other))
    assert not np.array_equal(all_triples(one), all_triples(different))
    for name, modality in one.modalities.items():
        assert modality.features.tobytes() == other.modalities[name].features.tobytes()
        assert modality.features.tobytes() != different.modalities[name].features.tobytes()
    assert one.metadata == other.metadata


def test_noise_and_gaps_leave_codes_and_triples_alone() -> None:
    easy = planted_graph(PlantedSpec())
    gaps = planted_graph(PlantedSpec(noise=1.0, missing=0.4))
    np.testing.assert_array_equal(all_triples(easy), all_triples(gaps))
    assert easy.metadata["codes"] == gaps.metadata["codes"]
    assert len(gaps.modalities["text"].entities) == 360
    both = set(gaps.modalities["text"].entities) & set(gaps.modalities["image"].entities)
    assert len(both) < 300  # drawn for each modality by itself: about 216 have both


def test_misleading_features_look_like_the_others() -> None:
    graph = planted_graph(PlantedSpec(noise=0.0))
    types = graph.metadata["entity_types"]
    for modality in graph.modalities.values():
        shown: dict[str, Counter[bytes]] = {}
        for entity, row in zip(modality.entities, modality.features, strict=True):
            shown.setdefault(types[entity], Counter())[row.tobytes()] += 1
        # Without noise every group shows its five centroids, 15 times each, told or misled.
        assert {tuple(sorted(counts.values())) for counts in shown.values()} == {(15,) * 5}


def test_default_size() -> None:
    graph = planted_graph()
    assert (graph.num_entities, graph.num_relations) == (600, 8)
    assert {split: len(rows) for split, rows in graph.triples.items()} == {
        "train": 2880,
        "valid": 360,
        "test": 360,
    }
    assert graph.metadata["spec"]["entities"] == 600


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("entities", 0),
        ("entities", 10.0),
        ("entities", True),
        ("relations", 3),
        ("blocks", 0),
        ("codes", 0),
        ("codes", 50),
        ("modalities", ()),
        ("modalities", "text"),
        ("modalities", ("a", "a")),
        ("modalities", ("../a", "b")),
        ("competent_per_block", 0),
        ("competent_per_block", 2),
        ("tails_per_head", 16),
        ("feature_width", 0),
        ("noise", -0.1),
        ("noise", float("nan")),
        ("missing", 1.0),
        ("missing", "a"),
        ("label_noise", 1.5),
        ("valid_fraction", 0.9),
        ("seed", -1),
    ],
)
def test_what_cannot_be_planted_is_named(argument: str, value: object) -> None:
    # Two arguments may be at odds; the sentence then begins with the one to change.
    begins = {"relations": "blocks", "codes": "codes|tails_per_head"}.get(argument, argument)
    with pytest.raises(ValueError, match=rf"^({begins}): "):
        replace(PlantedSpec(), **{argument: value})  # type: ignore[arg-type]


def test_too_little_to_hold_out_is_refused() -> None:
    spec = PlantedSpec(relations=4, tails_per_head=1, valid_fraction=0.4, test_fraction=0.4)
    with pytest.raises(ValueError, match=r"valid_fraction: .* cannot be held out"):
        planted_graph(spec)


def test_options_as_text() -> None:
    spec = parse_planted(
        PlantedSpec(), {"seed": "3", "noise": "1", "modalities": "a+b+c", "entities": "800"}
    )
    assert spec == PlantedSpec(seed=3, noise=1.0, modalities=("a", "b", "c"), entities=800)
    with pytest.raises(ValueError, match="did you mean 'noise'"):
        parse_planted(PlantedSpec(), {"nois": "1"})
    with pytest.raises(ValueError, match="seed: expected a value of type int"):
        parse_planted(PlantedSpec(), {"seed": "1.5"})


def test_true_masks_follow_the_names_of_teachers() -> None:
    """Teachers in any order, and those that see no single modality left out."""
    graph = planted_graph(WIDE)
    assert graph.planted_mask is not None
    truth = true_masks(graph, ("text", "structure", "audio", "fused", "image"))
    assert truth is not None
    np.testing.assert_array_equal(truth.scored, [0, 2, 4])
    # Columns of the planted mask are in sorted order: audio, image, text.
    np.testing.assert_array_equal(truth.by_relation, graph.planted_mask[:, [2, 0, 1]])
    for relation, label in enumerate(graph.relation_labels):
        for position, name in enumerate(("text", "audio", "image")):
            assert truth.by_relation[relation, position] == (name in label)
    assert true_masks(graph, ("structure", "fused")) is None
    assert true_masks(replace(graph, planted_mask=None), ("text",)) is None


def test_distances_to_the_true_mask_by_hand() -> None:
    """Relation 0 has the modalities a and b right of a, b, c; relation 1 has none right."""
    truth = TrueMasks(np.array([1, 2, 3]), np.array([[1, 1, 0], [0, 0, 0]], dtype=np.bool_))
    relations = np.array([0, 0, 0, 0, 1, 1])
    # The first teacher, and the last, see no modality.
    rows = ("01101", "11000", "01010", "10000", "10001", "00010")
    masks = np.array([[bit == "1" for bit in row] for row in rows])
    np.testing.assert_allclose(truth.wrong_bits(relations, masks), np.array([0, 1, 2, 2, 0, 1]) / 3)
    jaccard = truth.jaccard_distance(relations, masks)
    np.testing.assert_allclose(jaccard, [0, 1 / 2, 1 - 1 / 3, 1, 0, 1])
