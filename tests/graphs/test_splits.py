"""A broken valid split is drawn anew; options of folders; overlaps by brute force."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs import GraphWarning, MultimodalGraph, describe, graph_card, load_graph, save_graph
from graphs.splits import resplit_valid, valid_is_broken
from tests.graphs.folders import OPENKE, write

SPLITS = ("train", "valid", "test")
Rows = list[tuple[int, int, int]]


def make(train: Rows, valid: Rows, test: Rows, entities: int = 8) -> MultimodalGraph:
    return MultimodalGraph(
        name="toy",
        triples={
            split: np.array(rows, dtype=np.int64).reshape(-1, 3)
            for split, rows in zip(SPLITS, (train, valid, test), strict=True)
        },
        entity_labels=tuple(f"e{i}" for i in range(entities)),
        relation_labels=("r0", "r1", "r2"),
    )


def rows_of(graph: MultimodalGraph, split: str) -> Rows:
    return [tuple(row) for row in graph.triples[split].tolist()]  # type: ignore[misc]


# A full graph over 6 entities by one relation: many triples can be spared.
FULL: Rows = [(h, 0, t) for h in range(6) for t in range(6)]


class TestResplit:
    # Of four distinct valid triples three are in train, and one of these and the fourth in test.
    BROKEN: Rows = [(0, 0, 1), (0, 0, 1), (0, 0, 2), (0, 0, 3), (6, 1, 7)]  # noqa: RUF012
    TRAIN: Rows = [*FULL, (0, 0, 4), (6, 1, 6), (7, 2, 7)]  # noqa: RUF012
    TEST: Rows = [(0, 0, 3), (6, 1, 7)]  # noqa: RUF012

    def test_more_than_half_in_train_is_broken(self) -> None:
        assert valid_is_broken(make(FULL, [(0, 0, 1), (0, 0, 1), (6, 0, 0)], [])) is False
        assert valid_is_broken(make(FULL, [(0, 0, 1), (0, 0, 2), (6, 0, 0)], [])) is True
        assert valid_is_broken(make(FULL, [], [])) is False

    def test_what_is_promised_holds(self) -> None:
        graph, note = resplit_valid(make(self.TRAIN, self.BROKEN, self.TEST))
        train, valid, test = (rows_of(graph, split) for split in SPLITS)
        assert len(valid) == len(set(valid)) == 4
        assert set(valid) <= set(self.TRAIN)
        assert not set(valid) & (set(train) | set(test))
        assert train == [row for row in self.TRAIN if row not in valid]  # order and repeats stay
        assert test == self.TEST
        assert {e for h, _, t in train for e in (h, t)} == set(range(8))
        assert {r for _, r, _ in train} == {0, 1, 2}
        assert note == (
            "graph 'toy': the published valid split has 5 triples, 4 of them distinct, of which 3 "
            "are in train and 2 in test; it is replaced by 4 triples of train, which keeps "
            f"{len(train)} of 39 (the option valid=published keeps the published one)"
        )

    def test_neither_ids_nor_order_matter(self) -> None:
        rng = np.random.default_rng(0)
        graph = make(self.TRAIN, self.BROKEN, self.TEST)
        expected = rows_of(resplit_valid(graph)[0], "valid")
        new_id = rng.permutation(8)
        triples = {}
        for split in SPLITS:
            rows = rng.permutation(graph.triples[split])
            triples[split] = np.stack([new_id[rows[:, 0]], rows[:, 1], new_id[rows[:, 2]]], axis=1)
        labels = np.array(graph.entity_labels)[np.argsort(new_id)]
        other = MultimodalGraph("o", triples, tuple(labels.tolist()), graph.relation_labels)
        found = rows_of(resplit_valid(other)[0], "valid")
        assert found == [(new_id[h], r, new_id[t]) for h, r, t in expected]

    def test_the_choice_is_pinned(self) -> None:
        # Neither a new Python nor a new numpy may draw another split.
        graph, _ = resplit_valid(make(self.TRAIN, self.BROKEN, self.TEST))
        assert rows_of(graph, "valid") == [(0, 0, 0), (4, 0, 0), (1, 0, 3), (0, 0, 2)]

    def test_a_train_split_without_triples_to_spare_keeps_the_published_one(self) -> None:
        graph = make([(0, 0, 1), (2, 1, 3)], [(0, 0, 1)], [])
        same, note = resplit_valid(graph)
        assert same is graph
        assert note.endswith("; it is kept, because train has no triple to spare")

    @settings(deadline=None, max_examples=100)
    @given(st.data())
    def test_any_graph(self, data: st.DataObject) -> None:
        entity = st.integers(0, 4)
        rows = st.lists(st.tuples(entity, st.integers(0, 1), entity), max_size=12)
        train, valid, test = (data.draw(rows) for _ in SPLITS)
        train = train or [(0, 0, 0)]
        graph, _ = resplit_valid(make(train, valid, test))
        if rows_of(graph, "valid") == valid:
            return
        new_train, new_valid = rows_of(graph, "train"), rows_of(graph, "valid")
        assert len(set(new_valid)) == len(new_valid) <= len(set(valid))
        assert not set(new_valid) & (set(new_train) | set(test))
        assert set(new_train) | set(new_valid) == set(train)
        assert {e for h, _, t in new_train for e in (h, t)} == {
            e for h, _, t in train for e in (h, t)
        }
        assert {r for _, r, _ in new_train} == {r for _, r, _ in train}


BROKEN_OPENKE = {
    **OPENKE,
    "train2id.txt": "7\n3 1 1\n1 2 0\n0 2 1\n4 2 1\n2 1 0\n0 1 0\n4 3 0\n",
    "valid2id.txt": "2\n3 1 1\n1 2 0\n",
}


class TestOptions:
    @pytest.mark.parametrize("name", ["toy", "a:b", "c:valid=x"])
    def test_a_broken_valid_split(self, tmp_path: Path, name: str) -> None:
        folder = write(tmp_path / name, BROKEN_OPENKE)
        expected = "has 2 triples, 2 of them distinct, of which 2 are in train and 0 in test"
        with pytest.warns(GraphWarning, match=expected):
            graph = load_graph(folder)
        assert graph.split_overlaps()["train/valid"] == 0
        assert [len(graph.triples[split]) for split in SPLITS] == [5, 2, 2]
        with pytest.warns(GraphWarning, match=expected):
            assert load_graph(f"{folder}:valid=resplit").fingerprint == graph.fingerprint
        overlap = "splits share triples .train/valid 2; sizes train 7, valid 2"
        for load in (
            lambda: load_graph(folder, valid="published"),
            lambda: load_graph(f"{folder}:valid=published"),
            lambda: load_graph(f"{folder}:coverage=0.5,valid=published"),
            lambda: load_graph(f"{folder}:valid=resplit", valid="published"),  # the call wins
        ):
            with pytest.warns(GraphWarning, match=overlap):
                published = load()
            assert published.triples["valid"].tolist() == [[3, 1, 1], [1, 0, 2]]
            assert published.name == name

    def test_a_relative_folder_takes_options(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(tmp_path / "toy", BROKEN_OPENKE)
        monkeypatch.chdir(tmp_path)
        with pytest.warns(GraphWarning, match="splits share triples"):
            assert load_graph("toy:valid=published").name == "toy"

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            ("valid=publishd", "valid: unknown 'publishd'; did you mean 'published'"),
            ("vald=published", "unknown 'vald'; did you mean 'valid'"),
            ("coverage=2", "coverage: expected 0 to 1, got '2'"),
            ("coverage=x", "coverage: expected 0 to 1, got 'x'"),
            ("coverage=nan", "coverage: expected 0 to 1, got 'nan'"),
            ("valid=published,valid=resplit", "expected distinct key=value options"),
            ("valid=published,x", "expected distinct key=value options, got 'x'"),
        ],
    )
    def test_bad_options_are_named(self, tmp_path: Path, options: str, complaint: str) -> None:
        folder = write(tmp_path / "toy", OPENKE)
        with pytest.raises(ValueError, match=complaint):
            load_graph(f"{folder}:{options}")

    def test_names_take_no_options_of_folders(self) -> None:
        with pytest.raises(ValueError, match="graph 'emoji' takes no valid: only folders do"):
            load_graph("emoji", valid="published")

    def test_a_missing_folder_with_options_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="is neither a folder nor a known graph"):
            load_graph(f"{tmp_path / 'none'}:valid=published")


def brute_card(graph: MultimodalGraph) -> dict[str, object]:
    splits = {split: rows_of(graph, split) for split in SPLITS}
    train = set(splits["train"])
    seen = {e for h, _, t in train for e in (h, t)}

    def share(split: str, holds: object) -> float:
        rows = splits[split]
        return sum(map(holds, rows)) / len(rows) if rows else 0.0  # type: ignore[arg-type]

    return {
        "shared": {
            f"{a}/{b}": len(set(splits[a]) & set(splits[b]))
            for a, b in (("train", "valid"), ("train", "test"), ("valid", "test"))
        },
        "leakage": {
            split: {
                "reverse": share(
                    split, lambda row: any((row[2], r, row[0]) in train for r in range(3))
                ),
                "parallel": share(
                    split,
                    lambda row: any((row[0], r, row[2]) in train for r in range(3) if r != row[1]),
                ),
            }
            for split in ("valid", "test")
        },
        "repeated": {split: len(rows) - len(set(rows)) for split, rows in splits.items()},
        "queries_unseen": {
            split: share(split, lambda row: not {row[0], row[2]} <= seen)
            for split in ("valid", "test")
        },
    }


class TestCard:
    @settings(deadline=None, max_examples=100)
    @given(st.data())
    def test_figures_by_brute_force(self, data: st.DataObject) -> None:
        entity = st.integers(0, 3)
        rows = st.lists(st.tuples(entity, st.integers(0, 2), entity), max_size=10)
        train, valid, test = (data.draw(rows) for _ in SPLITS)
        graph = make(train or [(0, 0, 0)], valid, test, entities=4)
        card, expected = graph_card(graph), brute_card(graph)
        assert card["shared"] == expected["shared"] == graph.split_overlaps()
        assert card["leakage"] == expected["leakage"]
        for split in SPLITS:
            assert card["splits"][split]["repeated"] == expected["repeated"][split]  # type: ignore[index]
        for split in ("valid", "test"):
            part = card["splits"][split]
            assert part["queries_unseen"] == expected["queries_unseen"][split]  # type: ignore[index]

    def test_hubs_and_degrees_by_hand(self) -> None:
        graph = make([(0, 0, 1), (0, 0, 2), (3, 0, 0), (4, 0, 4)], [], [], entities=10)
        card = graph_card(graph)
        # Degrees 3, 1, 1, 1, 2 and five of 0.
        assert card["degree"] == {"mean": 0.8, "p95": pytest.approx(2.55), "max": 3}
        hubs = [(hub["label"], hub["degree"]) for hub in card["hubs"]]
        assert hubs == [("e0", 3), ("e4", 2), ("e1", 1), ("e2", 1), ("e3", 1)]

    def test_pictures_to_render_are_counted(self) -> None:
        pictures = np.zeros((1, 4, 5, 3), dtype=np.uint8)
        graph = replace(make(FULL, [], []), thumbnails=pictures, entity_texts=("x", *[None] * 7))
        lines = describe(graph).splitlines()
        assert lines[-1] == "  thumbnails: 1 of 4×5 pixels"
        assert "  descriptions: 1 entities (12.5%)" in lines

    def test_as_text(self) -> None:
        graph = make(FULL, [(6, 1, 0)], [(0, 0, 1), (0, 1, 1)])
        assert describe(graph).splitlines() == [
            "toy: 8 entities, 3 relations, 39 triples",
            "  train: 36 triples",
            "  valid: 1 triples, 1 of 2 entities and 1 of 1 relations are not in train "
            "(100.0% of the queries)",
            "  test: 2 triples, 0 of 2 entities and 1 of 2 relations are not in train "
            "(0.0% of the queries)",
            "  shared: train/valid 0, train/test 1, valid/test 0",
            "  leaks into valid: 0.0% have a reverse in train, 0.0% another relation between the "
            "same entities",
            "  leaks into test: 100.0% have a reverse in train, 50.0% another relation between "
            "the same entities",
            "  degree in train: mean 9.0, 95 % at most 12, largest 12",
            "  hubs: e0 12, e1 12, e2 12, e3 12, e4 12",
        ]


def test_a_saved_resplit_graph_loads_in_silence(tmp_path: Path) -> None:
    with pytest.warns(GraphWarning, match="is replaced by"):
        graph = load_graph(write(tmp_path / "toy", BROKEN_OPENKE))
    save_graph(graph, tmp_path / "saved")
    assert load_graph(tmp_path / "saved").fingerprint == graph.fingerprint  # warnings are errors
    assert re.fullmatch("[0-9a-f]{16}", graph.fingerprint)
