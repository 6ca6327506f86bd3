"""Oracles against brute force: dense distributions, every subset, query by query."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from agents.oracles import GreedyOracle, PlantedOracle, RelationOracle, Tabular
from agents.registry import AGENTS
from dsom_env.classroom import Lesson
from graphs import load_graph
from teachers.pretraining import load_teachers
from tests.agents.conftest import SMALL, dense_filtered, make_env

RNG = np.random.default_rng


@pytest.fixture(scope="module")
def env() -> Any:
    return make_env()


@pytest.fixture(scope="module", params=[1.0, 0.3])
def cross_fitted(request: pytest.FixtureRequest) -> Any:
    return make_env(folds=2, top_k=None, tempering=request.param)


@pytest.fixture
def lesson(env: Any) -> Lesson:
    found: Lesson = env.lessons.lesson
    return found


def nobody(mask: np.ndarray, epochs: int) -> float:
    raise AssertionError("no oracle needs a probe")


@pytest.mark.parametrize("combination", ["log_probs", "probs", "per_teacher"])
def test_oracle_judges_by_the_soft_labels_that_teach(
    combination: str, env: Any, lesson: Lesson
) -> None:
    """The greedy search by hand, query by query; `per_teacher` has no single label."""
    config = replace(env.classroom.config, combination=combination)
    classroom = SimpleNamespace(config=config)
    masks = GreedyOracle().masks(classroom, lesson, RNG(0))  # type: ignore[arg-type]
    judged = "probs" if combination == "probs" else "log_probs"
    answers = lesson.forward.answers
    values = {}
    for bits in range(1, 16):
        mask = [float(bits >> k & 1) for k in range(4)]
        weights = torch.tensor(mask).repeat(64, 1)
        (label,) = lesson.opinions.soft_labels(weights, judged)  # type: ignore[arg-type]
        values[bits] = label.log_probs[label.entities == answers[label.rows]].numpy()
    for row in range(64):
        chosen = 1 << int(np.argmax([values[1 << k][row] for k in range(4)]))
        while chosen < 15:
            best = max(range(4), key=lambda k: values[chosen | 1 << k][row])
            if values[chosen | 1 << best][row] <= values[chosen][row] + 1e-6:
                break
            chosen |= 1 << best
        assert masks[row].tolist() == [chosen >> k & 1 for k in range(4)]


def test_oracle_is_at_least_the_best_single_and_grows_greedily(env: Any, lesson: Lesson) -> None:
    masks = GreedyOracle().masks(env.classroom, lesson, RNG(0))
    answers = lesson.forward.answers

    def value(weights: np.ndarray) -> np.ndarray:
        (label,) = lesson.opinions.soft_labels(torch.from_numpy(weights), "log_probs")
        found: np.ndarray = label.log_probs[label.entities == answers[label.rows]].numpy()
        return found

    chosen = value(masks)
    for k in range(4):
        alone = np.zeros_like(masks)
        alone[:, k] = 1
        assert (chosen >= value(alone) - 1e-5).all()
        more = masks.copy()
        more[:, k] = 1
        assert (chosen >= value(more) - 1e-4).all()


def test_cross_fitted_oracle_is_greedy_on_filtered_probabilities(cross_fitted: Any) -> None:
    classroom, lesson = cross_fitted.classroom, cross_fitted.lessons.lesson
    policy = GreedyOracle(cross_fitted=True)
    policy.prepare(classroom, nobody)
    masks = policy.masks(classroom, lesson, RNG(0))
    worth = {
        bits: dense_filtered(
            classroom.store,
            lesson.rows,
            lesson.queries,
            classroom.graph,
            np.array([bits >> k & 1 for k in range(4)]),
            classroom.config.tempering,
        )
        for bits in range(1, 16)
    }
    differs = 0
    for row in range(64):
        chosen = max((1 << k for k in range(4)), key=lambda bits: worth[bits][row])
        while chosen < 15:
            best = max((chosen | 1 << k for k in range(4)), key=lambda bits: worth[bits][row])
            if worth[best][row] <= worth[chosen][row] + 1e-6:
                break
            chosen = best
        mine = sum(1 << k for k in range(4) if masks[row, k])
        # Stored in half precision: another mask only where it is as good to three digits.
        assert worth[mine][row] == pytest.approx(worth[chosen][row], abs=5e-3)
        differs += mine != 15
    assert differs > 16, "an oracle that always takes all would pass"


@pytest.mark.parametrize("bonus", [0.0, 0.02])
def test_tabular_has_the_subset_that_predicts_best_out_of_fold(
    cross_fitted: Any, monkeypatch: Any, bonus: float
) -> None:
    classroom = cross_fitted.classroom
    monkeypatch.setattr(classroom, "config", replace(classroom.config, bonus=bonus))
    policy = Tabular()
    policy.prepare(classroom, nobody)
    graph, queries = classroom.graph, classroom.queries
    for relation in range(2 * graph.num_relations):
        rows = np.flatnonzero(queries.relations == relation)
        assert len(rows) >= policy.least_queries
        worth = []
        for bits in range(1, 16):
            mask = np.array([bits >> k & 1 for k in range(4)])
            values = dense_filtered(
                classroom.store, rows, queries[rows], graph, mask, classroom.config.tempering
            )
            worth.append(values.mean() + bonus * np.log(graph.num_entities) * mask.sum())
        mine = sum(1 << k for k in range(4) if policy.by_relation[relation, k])
        assert worth[mine - 1] == pytest.approx(max(worth), abs=2e-3)
    masks = policy.masks(classroom, cross_fitted.lessons.lesson, RNG(0))
    relations = cross_fitted.lessons.lesson.queries.relations
    np.testing.assert_array_equal(masks, policy.by_relation[relations])


@pytest.mark.parametrize("tempering", [1.0, 0.3])
@pytest.mark.parametrize("combination", ["log_probs", "probs", "per_teacher"])
def test_relation_oracle_has_the_subset_that_predicts_best_on_valid(
    combination: str, tempering: float
) -> None:
    env = make_env(combination=combination, tempering=tempering)
    graph, policy = env.graph, RelationOracle()
    policy.least_queries = 12
    policy.prepare(env.classroom, nobody)
    models = load_teachers(graph, env.teachers, env.classroom.config.pretraining)
    known = {tuple(row) for split in ("train", "valid") for row in graph.triples[split].tolist()}
    half, entities = graph.num_relations, graph.num_entities
    counts = []
    for relation in range(2 * half):
        triples = graph.triples["valid"]
        triples = triples[triples[:, 1] == relation % half]
        queries = triples[:, [0, 2]] if relation < half else triples[:, [2, 0]]
        counts.append(len(queries))
        if len(queries) < 12:
            assert policy.by_relation[relation].all(), "too few to tell"
            continue
        worth = np.zeros(16)
        for e, a in queries.tolist():
            asked = [
                (e, relation, t) if relation < half else (t, relation - half, e)
                for t in range(entities)
            ]
            kept = [t for t in range(entities) if t == a or asked[t] not in known]
            with torch.no_grad():
                said = torch.stack(
                    [
                        models[name][0](torch.tensor([e]), torch.tensor([relation]))[0]
                        for name in env.teachers
                    ]
                ).log_softmax(1)
            for bits in range(1, 16):
                chosen = said[[k for k in range(4) if bits >> k & 1]]
                mean = chosen.exp().mean(0).log() if combination == "probs" else chosen.mean(0)
                worth[bits] += float((mean[kept] / tempering).log_softmax(0)[kept.index(a)])
        mine = sum(1 << k for k in range(4) if policy.by_relation[relation, k])
        assert worth[mine] == pytest.approx(worth[1:].max(), abs=1e-3 / tempering)
    assert min(counts) < 12 <= max(counts), "both cases are met"


def test_strangers_are_asked_where_the_environment_has_acquaintances(env: Any) -> None:
    policy = GreedyOracle(cross_fitted=True)
    policy.prepare(env.classroom, nobody)
    assert policy.store is not env.classroom.store
    assert len(policy.store) == len(env.classroom.store)


@pytest.mark.parametrize("with_others", [False, True])
def test_the_planted_oracle_reads_the_mask_off(with_others: bool) -> None:
    env = make_env(teachers=["text", "fused", "image"])
    policy = PlantedOracle(with_others)
    policy.prepare(env.classroom, nobody)
    lesson = env.lessons.lesson
    masks = policy.masks(env.classroom, lesson, RNG(0))
    truth = env.graph.planted_mask[lesson.queries.relations]  # columns: image, text
    np.testing.assert_array_equal(masks[:, 0], truth[:, 1])
    np.testing.assert_array_equal(masks[:, 2], truth[:, 0])
    assert (masks[:, 1] == with_others).all()
    assert masks.any(axis=1).all()


def test_the_planted_oracle_needs_a_planted_graph_and_a_modality() -> None:
    config = SimpleNamespace()
    plain = replace(load_graph(SMALL), planted_mask=None, name="mine")
    for graph, teachers, wanted in (
        (plain, ("text",), "'mine' is not one"),
        (load_graph(SMALL), ("structure",), "needs a teacher of image, text"),
    ):
        classroom: Any = SimpleNamespace(graph=graph, teachers=teachers, config=config)
        with pytest.raises(ValueError, match=wanted):
            PlantedOracle().prepare(classroom, nobody)


def test_too_many_teachers_for_every_subset() -> None:
    classroom: Any = SimpleNamespace(teachers=tuple("abcdefghijk"))
    with pytest.raises(ValueError, match="at most 10 teachers, got 11"):
        RelationOracle().prepare(classroom, nobody)


def test_oracles_are_marked() -> None:
    marked = {name for name, spec in AGENTS.items() if spec.oracle}
    assert marked == {
        "oracle",
        "oracle:oof",
        "oracle:relation",
        "oracle:planted",
        "oracle:unmisled",
    }
