"""Learners of the zoo find the known right masks; with shuffled rewards they do not.

Each is as in its YAML. The task is that of test_learning.py: all teachers for every query
would be .63 of the head-room.
"""

from typing import Any

import pytest

from agents.hyperparameters import algorithm_arguments, load_hyperparameters
from agents.registry import AGENTS
from dsom_env.sb3 import SB3VecEnv
from tests.agents.conftest import SMALL
from tests.agents.test_learning import ShuffledRewards, make, measure

# By agent: its mode, and rounds of 64 queries.
TASKS = {
    "linucb": ("discrete", 60),
    "thompson": ("discrete", 60),
    "neural_epsilon_greedy": ("discrete", 80),
    "trpo": ("mask", 120),
    "maskable_ppo": ("mask", 100),
    "recurrent_ppo": ("multidiscrete", 80),
    "qrdqn": ("discrete", 140),
    "rl_kd": ("mask", 300),
}


def learned(agent: str, shuffled: bool, mode: str, rounds: int) -> Any:
    sections = load_hyperparameters(agent, SMALL)
    learner = AGENTS[agent].learner
    assert learner is not None
    env: Any = make(4, mode)
    env = SB3VecEnv(ShuffledRewards(env) if shuffled else env)
    common = {"horizon": 4, "policy_kwargs": sections["policy"], "seed": 0, "device": "cpu"}
    model = learner(env, **common, **algorithm_arguments(sections))
    env.seed(0)
    return model.learn(64 * rounds)


# An LSTM goes through its sequences step by step.
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in TASKS if name == "recurrent_ppo"]


@pytest.mark.parametrize("agent", [*(name for name in TASKS if name != "recurrent_ppo"), *SLOW])
def test_real_rewards_teach_and_shuffled_ones_do_not(agent: str) -> None:
    mode, rounds = TASKS[agent]
    real, _ = measure(learned(agent, False, mode, rounds), mode)
    # Where there is nothing to learn, there is nothing to wait for.
    shuffled, _ = measure(learned(agent, True, mode, rounds // 3), mode)
    assert real > 0.9
    assert shuffled < real - 0.25


def test_what_mtkd_rl_earns_does_not_come_from_rewards() -> None:
    """Its closed forms see the answer; its update cannot tell whom a reward was due to."""
    before, real, shuffled = (
        measure(learned("mtkd_rl", control, "weights", rounds), "weights")[0]
        for control, rounds in ((False, 0), (False, 100), (True, 100))
    )
    assert before > 0.2, "who knows the answer is heard more than by chance"
    assert abs(real - before) < 0.15
    assert abs(real - shuffled) < 0.15
