"""Sixteen teachers: two of the registry and one for each of fourteen modalities."""

import gymnasium as gym
import numpy as np
import pytest

import dsom_env  # noqa: F401
from graphs import load_graph
from teachers.registry import teacher_names

MODALITIES = [f"m{number:02}" for number in range(14)]
GRAPH = (
    f"planted:entities=120,relations=2,blocks=2,tails_per_head=2,modalities={'+'.join(MODALITIES)}"
)
SETTINGS = {"dataset": GRAPH, "teacher_rank": 4, "rank": 4, "top_k": 8, "horizon": 4}


def test_every_modality_is_a_teacher() -> None:
    names = teacher_names(load_graph(GRAPH))
    assert names[-14:] == tuple(MODALITIES)
    assert names[:2] == ("structure", "fused")


@pytest.mark.parametrize("mode", ["mask", "multidiscrete"])
def test_the_environment_takes_sixteen(mode: str) -> None:
    env = gym.make("DSoM-v0", action_mode=mode, **SETTINGS)
    observation, _ = env.reset(seed=0)
    assert env.action_space.shape == (16,)
    rewards = []
    for action in (np.ones(16, dtype=np.int8), np.eye(16, dtype=np.int8)[15]):
        observation, reward, terminated, truncated, _ = env.step(action)
        assert env.observation_space.contains(observation)
        assert not terminated
        assert not truncated
        rewards.append(float(reward))
    assert np.isfinite(rewards).all()
    env.close()


def test_subsets_of_sixteen_are_too_many_for_discrete() -> None:
    with pytest.raises(ValueError, match="teachers"):
        gym.make("DSoM-v0", action_mode="discrete", **SETTINGS).reset(seed=0)
