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
    Complement,
    Constant,
    Cycle,
    FixedMask,
    RandomMask,
    RandomOnce,
    RelationMask,
    boosted_weights,
)
from agents.registry import AGENTS, agent_spec
from dsom_env.classroom import Lesson
from dsom_env.stream import QueryStream
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


def lesson_of(rows: np.ndarray) -> Any:
    return SimpleNamespace(rows=rows)


def test_random_does_not_leave_queries_alone_where_it_must_not(lesson: Lesson) -> None:
    """As in the environment, nobody is everybody then: 1/8 instead of 1/16 of all masks."""
    classroom: Any = SimpleNamespace(
        config=SimpleNamespace(allow_empty=False), teachers=("a", "b", "c", "d")
    )
    rng = RNG(0)
    masks = np.concatenate([RandomMask().masks(classroom, lesson, rng) for _ in range(100)])
    assert masks.any(axis=1).all()
    assert masks.all(axis=1).mean() == pytest.approx(1 / 8, abs=0.015)


def test_random_once_never_draws_again(env: Any) -> None:
    rows, rng = env.classroom.taught_rows, RNG(0)
    policy = RandomOnce()
    policy.prepare(env.classroom, lambda mask, epochs: 0.0)
    first = policy.masks(env.classroom, lesson_of(rows), rng)
    np.testing.assert_array_equal(
        policy.masks(env.classroom, lesson_of(rows[::-1]), rng), first[::-1]
    )
    assert set(np.unique(first)) == {0.0, 1.0}
    np.testing.assert_allclose(first.mean(0), 0.5, atol=0.08)
    assert len(np.unique(first, axis=0)) == 16, "queries differ"
    # A policy is used for one student; another seed draws another half.
    policy.prepare(env.classroom, lambda mask, epochs: 0.0)
    assert (policy.masks(env.classroom, lesson_of(rows), RNG(1)) != first).mean() > 0.4


def test_every_query_meets_every_teacher_equally_often(env: Any) -> None:
    """Along the stream that students are taught by, whose epochs end within batches."""
    classroom = env.classroom
    stream = QueryStream(classroom.queries, classroom.taught_rows, seed=3)
    policy = Cycle()
    policy.prepare(classroom, lambda mask, epochs: 0.0)
    taught, count = classroom.taught_rows, len(classroom.teachers)
    # A batch of three quarters of an epoch holds some queries twice, and four make three epochs.
    batch = 3 * len(taught) // 4
    assert 4 * batch == 3 * len(taught)
    met: dict[int, list[int]] = {row: [] for row in taught.tolist()}
    repeated = 0
    for _ in range(4 * 4):
        rows = stream.take(batch)
        masks = policy.masks(classroom, lesson_of(rows), RNG(0))
        assert (masks.sum(1) == 1).all()
        np.testing.assert_allclose(masks.mean(0), 1 / count, atol=0.06)
        repeated += len(rows) - len(np.unique(rows))
        for row, teacher in zip(rows.tolist(), masks.argmax(1).tolist(), strict=True):
            met[row].append(teacher)
    assert repeated > 0
    for teachers in met.values():
        assert len(teachers) == 12
        for start in range(9):
            assert sorted(teachers[start : start + count]) == list(range(count))


def test_complement_takes_whom_the_student_is_far_from() -> None:
    """Dense divergences of the soft labels from the student, summed entity by entity."""
    made = gym.make_vec("DSoM-v0", num_envs=64, dataset=SMALL, rank=8, teacher_rank=8)
    made.reset(seed=0)
    for _ in range(60):
        made.step(np.ones((64, 4), dtype=np.int8))
    env: Any = made.unwrapped
    classroom, lesson = env.classroom, env.lessons.lesson
    masks = Complement().masks(classroom, lesson, RNG(0))
    queries = lesson.queries
    ids = torch.from_numpy(queries.entities), torch.from_numpy(queries.relations)
    student = classroom.trainer.score(*ids).double().log_softmax(1)
    assert (student.exp() * student).sum(1).mean() > -0.8 * np.log(160), "it has learned something"
    divergences = []
    for alone in np.eye(4, dtype=np.float32):
        (label,) = classroom.soft_labels(lesson, np.tile(alone, (64, 1)))
        dense = label.dense().double()
        divergences.append((dense * (dense.log() - student)).sum(1).numpy())
    above = np.stack(divergences, axis=1)
    above -= above.mean(1, keepdims=True)
    # The store rounds to half precision: who is at the mean may fall on either side.
    clear = np.abs(above) > 0.01
    assert clear.mean() > 0.9
    np.testing.assert_array_equal((masks > 0)[clear], (above > 0)[clear])
    assert len(np.unique(masks, axis=0)) > 2


def test_complement_leaves_nobody_alone() -> None:
    """Three times .1 sums to more than .3 in single precision."""
    equal = np.full((2, 3), 0.1, dtype=np.float32)
    observer = SimpleNamespace(divergences=lambda forward, opinions: equal)
    classroom: Any = SimpleNamespace(observer=observer)
    lesson: Any = SimpleNamespace(forward=None, opinions=None)
    assert Complement().masks(classroom, lesson, RNG(0)).all()


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
