"""Policies that do not learn, against hand computation and brute force."""

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import dsom_env as _registration  # noqa: F401
from agents.policies import (
    BestTeacher,
    Constant,
    FixedMask,
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


def test_single_best_is_the_teacher_with_the_best_valid_mrr(env: Any, lesson: Lesson) -> None:
    policy = BestTeacher()
    policy.prepare(env.classroom, lambda mask, epochs: 0.0)
    queries = env.graph.queries("valid")
    keys = env.graph.query_keys(queries.entities, queries.relations)
    models = load_teachers(env.graph, env.teachers, PretrainingConfig(rank=8))
    scores = []
    for name in env.teachers:
        ids = torch.from_numpy(queries.entities), torch.from_numpy(queries.relations)
        answers = torch.from_numpy(queries.answers)
        ranks = filtered_ranks(models[name][0](*ids), keys, answers, env.graph.train_valid_answers)
        scores.append((1 / ranks).mean())
    assert len(set(scores)) == 4
    masks = policy.masks(env.classroom, lesson, RNG(0))
    assert (masks == (np.arange(4) == np.argmax(scores))).all()


def test_one_policy_then_another(env: Any, lesson: Lesson) -> None:
    spec = agent_spec("all-then-single:text", env.teachers)
    assert spec.policy is not None
    assert not spec.oracle
    assert agent_spec("oracle:oof-then-none", env.teachers).oracle
    policy = spec.policy()
    policy.budget = 5
    policy.prepare(env.classroom, lambda mask, epochs: 0.0)
    alone = [float(name == "text") for name in env.teachers]
    seen = [policy.masks(env.classroom, lesson, RNG(0))[0].tolist() for _ in range(5)]
    assert seen == [[1.0] * 4] * 3 + [alone] * 2
    with pytest.raises(ValueError, match="do not learn"):
        agent_spec("all-then-ppo", env.teachers)
    with pytest.raises(ValueError, match="did you mean 'all'"):
        agent_spec("al-then-none", env.teachers)


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
