"""Stacked weights against closed forms, a grid over the simplex, and dense distributions."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from agents.stacking import SHRINKAGE, Stacked, mixture_weights
from agents.trial import run_trial
from agents.trial_config import TrialConfig
from tests.agents.conftest import SMALL, dense_filtered, make_env


def objective(
    weights: np.ndarray, likelihoods: np.ndarray, towards: np.ndarray, pull: float
) -> float:
    """What `mixture_weights` maximises."""
    explained = np.log(likelihoods @ weights).sum()
    return float(explained + pull * (towards * np.log(weights)).sum())


def best_on_a_grid(
    likelihoods: np.ndarray, towards: np.ndarray, pull: float, parts: int
) -> tuple[np.ndarray, float]:
    """The best of all weights that are multiples of `1 / parts`, none of them 0."""
    count = likelihoods.shape[1]
    grid = [
        np.array(point) / parts
        for point in itertools.product(range(1, parts), repeat=count)
        if sum(point) == parts
    ]
    values = [objective(point, likelihoods, towards, pull) for point in grid]
    return grid[int(np.argmax(values))], max(values)


EQUAL = np.full(3, 1 / 3)


def test_where_every_answer_has_one_teacher_weights_are_counts() -> None:
    """Seven answers known to the first alone, three to the second: the mean of a Dirichlet's."""
    likelihoods = np.eye(3)[[0] * 7 + [1] * 3]
    found = mixture_weights(likelihoods, EQUAL, pull=2.0)
    np.testing.assert_allclose(found, (np.array([7, 3, 0]) + 2 / 3) / 12)


@pytest.mark.parametrize("pull", [0.5, 10.0])
def test_no_weights_on_a_grid_are_better(pull: float) -> None:
    rng = np.random.default_rng(0)
    likelihoods = rng.dirichlet([0.3, 0.3, 0.3], size=40) ** 2
    towards = np.array([0.5, 0.3, 0.2])
    found = mixture_weights(likelihoods, towards, pull)
    assert found.sum() == pytest.approx(1)
    near, value = best_on_a_grid(likelihoods, towards, pull, parts=100)
    # The search may stop 1e-5 nats per query short.
    assert objective(found, likelihoods, towards, pull) > value - 1e-5 * (40 + pull)
    np.testing.assert_allclose(found, near, atol=0.02)
    assert np.abs(found - towards).max() > 0.05


def test_few_queries_shrink_and_many_decide() -> None:
    towards = np.array([0.6, 0.3, 0.1])
    for_the_last = np.array([[0.1, 0.1, 0.8]])
    found = [mixture_weights(np.tile(for_the_last, (n, 1)), towards)[2] for n in (0, 1, 10, 10_000)]
    assert found[0] == pytest.approx(0.1)
    assert found == sorted(found)
    assert found[1] < 0.2
    assert found[3] > 0.95


def test_hopeless_teachers_get_no_nonsense() -> None:
    """Likelihoods of a thousandth of nothing, and of nothing at all."""
    likelihoods = np.tile([1.0, 1e-300, 0.0], (5000, 1))
    found = mixture_weights(likelihoods, EQUAL)
    np.testing.assert_allclose(found[1:], SHRINKAGE / 3 / (5000 + SHRINKAGE))


def test_weights_of_relations_are_those_of_dense_filtered_probabilities() -> None:
    env = make_env(folds=2, top_k=None)
    classroom = env.classroom
    policy = Stacked()
    policy.prepare(classroom, lambda mask, epochs: 0.0)
    queries, graph = classroom.queries, classroom.graph
    rows = np.arange(len(queries))
    log_probs = np.stack(
        [dense_filtered(classroom.store, rows, queries, graph, one) for one in np.eye(4)], axis=1
    )
    likelihoods = np.exp(log_probs)
    overall = mixture_weights(likelihoods, np.full(4, 0.25))
    _, value = best_on_a_grid(likelihoods, np.full(4, 0.25), SHRINKAGE, parts=20)
    assert objective(overall, likelihoods, np.full(4, 0.25), SHRINKAGE) > value
    for relation, weights in enumerate(policy.by_relation):
        part = likelihoods[queries.relations == relation]
        assert weights.max() == 1.0
        assert (weights > 0).all()
        _, value = best_on_a_grid(part, overall, SHRINKAGE, parts=20)
        # Stored in half precision: what is lost to the grid's best is rounding.
        mine = objective(weights / weights.sum(dtype=np.float64), part, overall, SHRINKAGE)
        assert mine > value - 1e-3 * len(part)
    lesson = env.lessons.lesson
    chosen = policy.masks(classroom, lesson, np.random.default_rng(0))
    np.testing.assert_array_equal(chosen, policy.by_relation[lesson.queries.relations])


def test_weights_reach_the_student_and_the_results() -> None:
    """Shares are mean weights, and preferences are reported as weights."""
    settings = {"rank": 8, "teacher_rank": 8}
    trial = TrialConfig("stacked", dataset=SMALL, epochs=2, batch=64, environment=settings)
    result = run_trial(trial)
    assert result["calibration"]["preference"] == "weight"
    shares = np.array([list(by.values()) for by in result["mask_by_relation"].values()])
    assert ((shares > 0) & (shares <= 1)).all()
    assert (shares < 0.99).any()
    assert result["selection"]["epochs"]["empty"] == [0.0, 0.0]
    assert result["test"]["mrr"] != run_trial(replace(trial, agent="all"))["test"]["mrr"]
