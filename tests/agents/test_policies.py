"""Policies that do not learn, against hand computation and brute force."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import dsom_env as _registration  # noqa: F401
from agents.policies import (
    Constant,
    FixedMask,
    GreedyOracle,
    RandomMask,
    RelationMask,
    boosted_weights,
)
from agents.registry import AGENTS, agent_spec
from dsom_env.classroom import Lesson
from students.evaluation import filtered_ranks
from teachers.pretraining import PretrainingConfig, load_teachers
from tests.agents.conftest import SMALL


@pytest.fixture(scope="module")
def env() -> Any:
    made = gym.make_vec(
        "DSoM-v0", num_envs=64, dataset=SMALL, rank=8, teacher_rank=8, reward="gate"
    )
    made.reset(seed=0)
    for _ in range(5):
        made.step(np.ones((64, 4), dtype=np.int8))
    return made.unwrapped


@pytest.fixture
def lesson(env: Any) -> Lesson:
    found: Lesson = env.lessons.lesson
    return found


RNG = np.random.default_rng


def test_boosting_by_hand() -> None:
    """Two teachers, four queries: the first right on three, the second on the one it misses."""
    right = np.array([[1, 0], [1, 0], [1, 1], [0, 1]], dtype=bool)
    first = 0.5 * np.log(3 / 1)
    weight = np.array([1, 1, 1, 1]) / 4 * np.exp(-first * np.array([1, 1, 1, -1]))
    second = 0.5 * np.log((weight[2] + weight[3]) / (weight[0] + weight[1]))
    np.testing.assert_allclose(boosted_weights(right), [first, second])


def test_relation_masks_follow_from_valid_ranks(env: Any, lesson: Lesson) -> None:
    policy = RelationMask()
    policy.prepare(env.classroom, lambda mask, epochs: 0.0)
    masks = policy.masks(env.classroom, lesson, RNG(0))
    assert masks.any(axis=1).all()
    graph = env.graph
    queries = graph.queries("valid")
    counts = np.bincount(queries.relations, minlength=2 * graph.num_relations)
    relation = int(counts.argmax())
    assert counts[relation] >= policy.least_triples
    part = queries[queries.relations == relation]
    models = load_teachers(graph, env.teachers, PretrainingConfig(rank=8))
    right = []
    for name in env.teachers:
        scores = models[name][0](torch.from_numpy(part.entities), torch.from_numpy(part.relations))
        keys = graph.query_keys(part.entities, part.relations)
        answers = torch.from_numpy(part.answers)
        right.append(filtered_ranks(scores, keys, answers, graph.train_valid_answers) == 1)
    weights = boosted_weights(np.stack(right, axis=1))
    expected = weights > 0
    expected[weights.argmax()] = True
    np.testing.assert_array_equal(policy.by_relation[relation], expected)
    rare = np.flatnonzero(counts < policy.least_triples)
    assert policy.by_relation[rare].all()


def test_random_is_half(env: Any, lesson: Lesson) -> None:
    rng = RNG(0)
    masks = np.concatenate([RandomMask().masks(env.classroom, lesson, rng) for _ in range(50)])
    assert set(np.unique(masks)) == {0.0, 1.0}
    np.testing.assert_allclose(masks.mean(0), 0.5, atol=0.04)


def test_constant_agents(env: Any, lesson: Lesson) -> None:
    for name, expected in (("none", [0, 0, 0, 0]), ("all", [1, 1, 1, 1])):
        policy = AGENTS[name].policy
        assert policy is not None
        assert (policy().masks(env.classroom, lesson, RNG(0)) == expected).all()
    single = agent_spec("single:text", env.teachers).policy
    assert single is not None
    masks = single().masks(env.classroom, lesson, RNG(0))
    assert (masks == (np.array(env.teachers) == "text")).all()
    assert isinstance(single(), Constant)


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


def test_fixed_finds_the_best_mask_and_counts_its_search() -> None:
    best = np.array([True, False, True, False])
    spent = []

    def probe(mask: np.ndarray, epochs: int) -> float:
        spent.append(epochs)
        return -float((mask != best).sum())

    policy = FixedMask(first_epochs=2)
    policy.prepare(SimpleNamespace(teachers=("a", "b", "c", "d")), probe)  # type: ignore[arg-type]
    np.testing.assert_array_equal(policy.mask, best)
    assert policy.search_epochs == sum(spent) == 16 * 2 + 4 * 4


def test_unknown_agent_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'ppo'"):
        agent_spec("ppoo", ("structure",))
    with pytest.raises(ValueError, match="single:structure"):
        agent_spec("single:structur", ("structure",))
