"""Co-trained teachers in the environment: one setting, and their estimates in the state."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_sb3_env

import dsom_env as _registration  # noqa: F401
from dsom_env.config import DSoMConfig
from dsom_env.objectives import information_columns
from teachers.amid import CotrainingConfig
from teachers.information import information_of
from teachers.pretraining import load_teacher
from tests.dsom_env.test_contracts import SMALL

OBJECTIVE = {"name": "amid", "student_rank": 4, "width": 8, "auxiliary": 2}
TOGETHER = {**SMALL, "teacher_epochs": 3, "teacher_objective": OBJECTIVE, "judged_folds": None}
NAMES = tuple(f"fused_information_{other}" for other in ("student", "image", "text"))


def make_vec(num_envs: int = 64, **kwargs: Any) -> Any:
    return gym.make_vec("DSoM-v0", num_envs=num_envs, **(TOGETHER | kwargs))


def test_columns_are_the_teachers_estimates_in_units_of_log_e() -> None:
    env = make_vec()
    observation, _ = env.reset(seed=0)
    names = env.unwrapped.feature_names
    classroom = env.unwrapped.classroom
    assert names[-3:] == NAMES == classroom.store.information_names
    teacher = load_teacher(classroom.graph, "fused", classroom.config.pretraining)
    information = information_of(teacher)
    assert information is not None
    rows = env.unwrapped.lessons.lesson.rows
    expected = np.clip(information.numpy()[rows] / np.log(classroom.graph.num_entities), -1, 1)
    np.testing.assert_allclose(observation[:, -3:], expected, rtol=1e-6)
    assert observation[:, -3:].std(axis=0).min() > 0
    assert env.unwrapped.single_observation_space.contains(observation[0])


def test_equal_questions_have_equal_estimates_whatever_their_answer() -> None:
    env = make_vec(2, hide=["answer"])
    env.reset(seed=0)
    classroom = env.unwrapped.classroom
    queries = classroom.queries
    keys = classroom.graph.query_keys(queries.entities, queries.relations)
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    rows = np.flatnonzero(keys == keys[first[counts.argmax()]])[:2]
    assert len(rows) == 2
    seen = classroom.observe(classroom.lesson(rows))
    np.testing.assert_array_equal(seen[0, -3:], seen[1, -3:])


def test_they_are_a_group_and_hide_without_a_trace() -> None:
    whole, less = make_vec(), make_vec(hide=["answer", "information"])
    everything, _ = whole.reset(seed=0)
    observation, _ = less.reset(seed=0)
    assert less.unwrapped.feature_names == whole.unwrapped.feature_names[:-3]
    np.testing.assert_array_equal(observation, everything[:, :-3])


def test_cross_fitted_teachers_have_them_too() -> None:
    env = make_vec(folds=2, teachers=["text", "fused"])
    observation, _ = env.reset(seed=0)
    names = env.unwrapped.feature_names
    assert names[-3:] == NAMES == env.unwrapped.classroom.store.information_names
    assert np.abs(observation[:, -3:]).max() > 0


def test_both_checkers() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make("DSoM-v0", **TOGETHER).unwrapped)
        check_sb3_env(gym.make("DSoM-v0", **TOGETHER))


def test_the_setting_is_that_of_the_pretraining() -> None:
    expected = CotrainingConfig(student_rank=4, width=8, auxiliary=2.0)
    assert DSoMConfig(teacher_objective=OBJECTIVE).pretraining.cotraining == expected
    assert DSoMConfig(teacher_objective="amid").pretraining.cotraining == CotrainingConfig()
    for alone in ("cross_entropy", {"name": "cross_entropy"}):
        assert DSoMConfig(teacher_objective=alone).pretraining.cotraining is None
        assert information_columns(alone, ("fused",), ("text",)) == ()
    assert information_columns("amid", ("text", "structure"), ("text",)) == ()


@pytest.mark.parametrize(
    ("objective", "says"),
    [
        ("amidst", "did you mean 'amid'"),
        ({"student": 1}, "need a name"),
        ({"name": "amid", "studnt": 1}, "did you mean 'student'"),
        ({"name": "amid", "entropy": -1}, "teacher_objective: entropy must be"),
        ({"name": "cross_entropy", "student": 1}, "has no settings"),
        (3, "teacher_objective"),
    ],
)
def test_bad_objectives_are_one_sentence(objective: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        DSoMConfig(teacher_objective=objective)


def test_an_objective_that_nobody_is_trained_by_is_refused() -> None:
    with pytest.raises(ValueError, match="fused only, which is not among"):
        make_vec(teachers=["text", "structure"])
