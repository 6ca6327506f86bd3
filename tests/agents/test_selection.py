"""Who was chosen, counted by hand and by brute force."""

import json
import math
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dsom_env as _registration  # noqa: F401
from agents.recording import RecordedStudent
from agents.selection import MOST_MASKS, Selection, quantile_bins
from graphs import MultimodalGraph, Queries, load_graph
from graphs.graph import Modality
from tests.agents.conftest import SMALL


def toy() -> MultimodalGraph:
    """A star: entity 0 has degree 4, the others 1; only 0 and 1 have a picture."""
    triples = np.array([[0, 0, 1], [0, 0, 2], [0, 1, 3], [0, 1, 4]])
    return MultimodalGraph(
        name="toy",
        triples={"train": triples, "valid": triples[:1], "test": triples[:1]},
        entity_labels=tuple("abcde"),
        relation_labels=("r", "s"),
        modalities={"image": Modality(np.array([0, 1]), np.ones((2, 3), dtype=np.float32))},
        planted_mask=np.array([[1], [0], [1], [0]], dtype=np.bool_),
    )


def queries(*rows: tuple[int, int, int]) -> Queries:
    return Queries(*np.array(rows, dtype=np.int64).T)


def masks(*rows: str) -> np.ndarray:
    return np.array([[bit == "1" for bit in row] for row in rows], dtype=np.float32)


@pytest.fixture
def selection() -> Selection:
    """Two epochs; relation 2 is the reciprocal of r, relation 3 that of s."""
    counted = Selection(toy(), ("structure", "image"))
    counted.add(queries((0, 0, 1), (1, 2, 0)), masks("11", "00"))
    counted.add(queries((0, 1, 3), (0, 1, 4)), masks("10", "01"))
    counted.close_epoch()
    counted.add(queries((2, 2, 0), (3, 3, 0)), masks("11", "10"))
    counted.close_epoch()
    return counted


def shares(structure: float, image: float) -> dict[str, float]:
    return {"structure": pytest.approx(structure), "image": pytest.approx(image)}


def test_shares_by_hand(selection: Selection) -> None:
    assert selection.mean_mask() == shares(4 / 6, 3 / 6)
    assert selection.mask_by_relation() == {"r": shares(2 / 3, 2 / 3), "s": shares(2 / 3, 1 / 3)}
    report = selection.report()
    assert json.loads(json.dumps(report)) == report
    # Half of the eight training queries ask entity 0: the bins are degree 1 and degrees 2 to 4.
    assert report["by_degree"] == [
        {"low": 1, "high": 1, "queries": 3, "shares": shares(2 / 3, 1 / 3)},
        {"low": 2, "high": 4, "queries": 3, "shares": shares(2 / 3, 2 / 3)},
    ]
    # Asked with a picture: 0, 1, 0, 0; without: 2, 3. Answers with one: 1, 0, 0, 0; without: 3, 4.
    assert report["by_presence"]["entity"]["image"] == {
        "lacks": {"queries": 2, "shares": shares(1, 1 / 2)},
        "has": {"queries": 4, "shares": shares(1 / 2, 1 / 2)},
    }
    assert report["by_presence"]["answer"]["image"] == {
        "lacks": {"queries": 2, "shares": shares(1 / 2, 1 / 2)},
        "has": {"queries": 4, "shares": shares(3 / 4, 1 / 2)},
    }


def test_masks_and_epochs_by_hand(selection: Selection) -> None:
    report = selection.report()
    found = [(tuple(mask["teachers"]), mask["share"]) for mask in report["masks"]]
    assert set(found[:2]) == {(("structure", "image"), 2 / 6), (("structure",), 2 / 6)}
    assert set(found[2:]) == {((), 1 / 6), (("image",), 1 / 6)}
    epochs = report["epochs"]
    assert epochs["shares"] == {"structure": [0.5, 1.0], "image": [0.5, 0.5]}
    assert epochs["empty"] == [0.25, 0.0]
    assert epochs["chosen"] == [1.0, 1.5]
    # Four masks once each, then two.
    assert epochs["entropy"] == [pytest.approx(math.log(4)), pytest.approx(math.log(2))]


def test_regret_by_hand(selection: Selection) -> None:
    """Image is right on r, wrong on s; structure counts nowhere."""
    report = selection.report()
    assert report["scored"] == ["image"]
    # On r chosen, and left out (wrong); on s left out, and chosen (wrong). Then all is right.
    assert report["epochs"]["wrong_bits"] == [0.5, 0.0]
    assert report["epochs"]["jaccard_distance"] == [0.5, 0.0]


def test_one_mask_has_no_entropy() -> None:
    counted = Selection(toy(), ("structure", "image"))
    counted.add(queries((0, 0, 1), (0, 0, 2)), masks("10", "10"))
    counted.close_epoch()
    assert counted.report()["epochs"]["entropy"] == [0.0]


def test_weights_count_by_their_size_and_belong_to_masks_above_one_half() -> None:
    counted = Selection(toy(), ("structure", "image"))
    weights = np.array([[0.25, 1.0], [0.5, 0.75], [0.0, 0.25]], dtype=np.float32)
    counted.add(queries((0, 0, 1), (0, 0, 2), (0, 1, 3)), weights)
    counted.close_epoch()
    assert counted.mean_mask() == {"structure": 0.25, "image": pytest.approx(2 / 3)}
    report = counted.report()
    assert report["masks"] == [
        {"teachers": ["image"], "share": 2 / 3},
        {"teachers": [], "share": 1 / 3},
    ]
    assert report["epochs"]["empty"] == [pytest.approx(1 / 3)]
    assert report["epochs"]["wrong_bits"] == [0.0]


def test_tempering_by_hand() -> None:
    """Twice and half as much cancel; a query that nobody teaches has no soft label to temper."""
    counted = Selection(toy(), ("structure", "image"))
    asked = queries((0, 0, 1), (0, 0, 2), (0, 1, 3))
    for factors, chosen in (
        ([2.0, 0.5, 4.0], ("10", "11", "00")),
        ([4.0, 4.0, 4.0], ("10", "11", "01")),
        ([4.0, 4.0, 4.0], ("00", "00", "00")),
    ):
        counted.add(asked, masks(*chosen), np.array(factors, dtype=np.float32))
        counted.close_epoch()
    epochs = counted.report()["epochs"]
    assert epochs["tempering"] == pytest.approx([1.0, 4.0, 1.0])
    assert epochs["tempering_spread"] == pytest.approx([2.0, 1.0, 1.0])
    untold = Selection(toy(), ("structure", "image"))
    untold.add(asked, masks("10", "11", "00"))
    untold.close_epoch()
    assert "tempering" not in untold.report()["epochs"]


def test_nothing_is_scored_where_nothing_was_planted() -> None:
    plain = replace(toy(), planted_mask=None)
    for graph, teachers in ((plain, ("structure", "image")), (toy(), ("structure", "fused"))):
        counted = Selection(graph, teachers)
        counted.add(queries((0, 0, 1)), masks("10"))
        counted.close_epoch()
        report = counted.report()
        assert "scored" not in report
        assert "wrong_bits" not in report["epochs"]


def test_only_the_most_frequent_masks_of_many_teachers_are_written_down() -> None:
    counted = Selection(toy(), tuple(f"t{k:02}" for k in range(16)))
    bits = (np.arange(64)[:, None] >> np.arange(16)) & 1
    rows = np.concatenate([bits, np.ones((4, 16))]).astype(np.float32)
    counted.add(queries(*[(0, 0, 1)] * 68), rows)
    counted.close_epoch()
    found = counted.report()["masks"]
    assert len(found) == MOST_MASKS
    assert found[0] == {"teachers": [f"t{k:02}" for k in range(16)], "share": 4 / 68}
    assert {mask["share"] for mask in found[1:]} == {1 / 68}


@given(values=st.lists(st.integers(1, 50), min_size=1, max_size=60), count=st.integers(1, 6))
def test_bins_split_the_values_as_evenly_as_ties_allow(values: list[int], count: int) -> None:
    edges = quantile_bins(np.array(values), count)
    assert set(edges.tolist()) <= set(values)
    assert edges[-1] == max(values)
    assert len(edges) <= count
    held = np.bincount(np.searchsorted(edges, values), minlength=len(edges))
    most = max(values.count(value) for value in values)
    assert held.max() <= math.ceil(len(values) / count) + most


class Driver:
    """Teaches random masks, and remembers what was taught, row by row."""

    def __init__(self, reward: str) -> None:
        env = gym.make_vec(
            "DSoM-v0", num_envs=64, dataset=SMALL, rank=8, teacher_rank=8, reward=reward
        )
        self.recorded = RecordedStudent(env, epochs=2)
        self.recorded.reset(seed=0)
        self.seen: list[tuple[int, int, int, tuple[int, ...]]] = []

    def run(self) -> None:
        rng = np.random.default_rng(0)
        while not self.recorded.done:
            *_, info = self.recorded.step(rng.integers(0, 2, (64, 4)))
            for row in np.flatnonzero(~info["control"]):
                mask = tuple(int(bit) for bit in info["executed_mask"][row])
                ids = (info[name][row] for name in ("entity", "relation", "answer"))
                self.seen.append((*map(int, ids), mask))  # type: ignore[arg-type]


@pytest.mark.parametrize("reward", ["gate", "improvement"])
def test_recorded_is_what_was_taught(reward: str) -> None:
    """Brute force over every row of a real run, control rows left out."""
    driver = Driver(reward)
    driver.run()
    seen, selection = driver.seen, driver.recorded.selection
    graph, teachers = load_graph(SMALL), driver.recorded.classroom.teachers
    report: dict[str, Any] = selection.report()

    def share(rows: list[Any], k: int) -> float:
        return sum(row[3][k] for row in rows) / len(rows)

    for relation, label in enumerate(graph.relation_labels):
        rows = [row for row in seen if row[1] % graph.num_relations == relation]
        for k, name in enumerate(teachers):
            assert selection.mask_by_relation()[label][name] == pytest.approx(share(rows, k))
    for part in report["by_degree"]:
        rows = [row for row in seen if part["low"] <= graph.degrees[row[0]] <= part["high"]]
        assert part["queries"] == len(rows)
        assert part["shares"]["fused"] == pytest.approx(share(rows, teachers.index("fused")))
    assert sum(part["queries"] for part in report["by_degree"]) == len(seen)
    assert sum(mask["share"] for mask in report["masks"]) == pytest.approx(1)
    empty = sum(not any(row[3]) for row in seen) / len(seen)
    assert [m["share"] for m in report["masks"] if not m["teachers"]] == [pytest.approx(empty)]
    assert graph.planted_mask is not None
    wrong = [
        row[3][teachers.index(name)] != graph.planted_mask[row[1], column]
        for row in seen
        for column, name in enumerate(("image", "text"))
    ]
    assert np.mean(report["epochs"]["wrong_bits"]) == pytest.approx(np.mean(wrong), abs=2e-3)
