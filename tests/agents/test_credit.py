"""First-order credit against what forks of the student really do."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import dsom_env as _registration  # noqa: F401
from agents.credit import Credit, measure_credit
from tests.agents.conftest import SMALL


def make(**kwargs: Any) -> Any:
    arguments: dict[str, Any] = {"dataset": SMALL, "rank": 8, "teacher_rank": 8, "reward": "gate"}
    env = gym.make_vec("DSoM-v0", num_envs=64, **(arguments | {"reward_fraction": 0.2} | kwargs))
    env.reset(seed=0)
    return env


def test_first_order_is_exact_for_small_steps() -> None:
    """A slow student's Adagrad has forgotten nothing: its step sizes no longer change."""
    env = make(learning_rate=1e-3)
    for _ in range(80):
        env.step(np.ones((64, 4), dtype=np.int8))
    classroom = env.unwrapped.classroom
    found = measure_credit(classroom, env.unwrapped.lessons.lesson.rows, 8).summary()
    assert found["lessons"] == 32
    assert found["adagrad"]["correlation"] > 0.99
    assert found["adagrad"]["slope"] == pytest.approx(1.0, abs=0.1)
    # Without Adagrad's roots the unit is another, and so is the order.
    assert not 0.5 < found["plain"]["slope"] < 2.0
    assert found["plain"]["correlation"] < found["adagrad"]["correlation"]


def test_student_and_stream_are_left_as_they_are() -> None:
    env = make()
    classroom, lessons = env.unwrapped.classroom, env.unwrapped.lessons
    before = [p.detach().clone() for p in classroom.trainer.scorer.parameters()]
    dealt, state = classroom.stream.dealt, classroom.generator.get_state()
    measure_credit(classroom, lessons.lesson.rows, 2)
    after = list(classroom.trainer.scorer.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert classroom.stream.dealt == dealt
    assert torch.equal(classroom.generator.get_state(), state)


def test_a_reward_split_is_needed() -> None:
    env = make(reward_fraction=0.0)
    with pytest.raises(ValueError, match="needs a reward split"):
        measure_credit(env.unwrapped.classroom, env.unwrapped.lessons.lesson.rows, 2)


def test_summary_by_hand() -> None:
    real = np.array([[1.0, -2.0], [3.0, -1.0]])
    found = Credit(real, real / 2, -real).summary()
    assert (found["lessons"], found["helped"]) == (4, 0.5)
    assert found["plain"] == pytest.approx(
        {"spearman": 1.0, "correlation": 1.0, "sign": 1.0, "slope": 2.0}
    )
    assert found["adagrad"] == pytest.approx(
        {"spearman": -1.0, "correlation": -1.0, "sign": 0.0, "slope": -1.0}
    )
