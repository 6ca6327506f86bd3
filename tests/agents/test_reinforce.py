"""REINFORCE: returns by hand, a critic that says nothing, and a known optimum."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.reinforce import Reinforce

REWARDS = (1.0, 0.0, 2.0, -1.0)


class Countdown(gym.Env[np.ndarray, int]):
    """Four steps with known rewards, plus one for the action 1."""

    def __init__(self, bonus: float = 0.0) -> None:
        self.observation_space = spaces.Box(0.0, 1.0, (4,), dtype=np.float32)
        self.action_space = spaces.Discrete(2)
        self.bonus = bonus

    def reset(
        self, *, seed: int | None = None, options: Any = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.step_number = 0
        return self._observe(), {}

    def _observe(self) -> np.ndarray:
        observation = np.zeros(4, dtype=np.float32)
        observation[self.step_number % 4] = 1.0
        return observation

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        reward = REWARDS[self.step_number] + self.bonus * int(action == 1)
        self.step_number += 1
        return self._observe(), reward, self.step_number == 4, False, {}


class Keep(BaseCallback):
    """Copies the rollout's returns and advantages before they are used."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        buffer = self.model.rollout_buffer  # type: ignore[attr-defined]
        self.returns, self.advantages = buffer.returns.copy(), buffer.advantages.copy()
        self.values = buffer.values.copy()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("episodes", [1, 2])
def test_returns_by_hand(gamma: float, episodes: int) -> None:
    env = DummyVecEnv([Countdown, Countdown])
    model = Reinforce(env, horizon=4, episodes=episodes, gamma=gamma, seed=0, device="cpu")
    keep = Keep()
    model.learn(8 * episodes, callback=keep)
    by_hand = [
        sum(gamma ** (later - step) * REWARDS[later] for later in range(step, 4))
        for step in range(4)
    ]
    expected = np.tile(np.array(by_hand * episodes)[:, None], (1, 2))
    np.testing.assert_allclose(keep.returns, expected, atol=1e-5)
    np.testing.assert_allclose(keep.advantages, expected, atol=1e-5)
    assert not keep.values.any()


def test_critic_stays_zero_and_is_not_trained() -> None:
    model = Reinforce(DummyVecEnv([Countdown]), horizon=4, seed=0, device="cpu")
    critic = [p.clone() for p in model.policy.value_net.parameters()]
    model.learn(80)
    for before, after in zip(critic, model.policy.value_net.parameters(), strict=True):
        assert torch.equal(before, after)
    observation = torch.zeros(3, 4)
    assert not model.policy.predict_values(observation).any()
    assert not model.policy(observation)[1].any()


def test_learns_the_better_arm() -> None:
    env = DummyVecEnv([lambda: Countdown(bonus=1.0) for _ in range(8)])
    model = Reinforce(
        env,
        horizon=4,
        gamma=0.0,
        learning_rate=0.02,
        normalize_advantage=True,
        seed=0,
        device="cpu",
    )

    def chance() -> float:
        with torch.no_grad():
            distribution = model.policy.get_distribution(torch.eye(4))
            return float(distribution.distribution.probs[:, 1].mean())

    before = chance()
    model.learn(8 * 4 * 150)
    assert before < 0.7 < 0.9 < chance()


@pytest.mark.parametrize("name", ["n_steps", "gae_lambda", "vf_coef", "policy"])
def test_what_makes_it_reinforce_is_fixed(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Reinforce(DummyVecEnv([Countdown]), horizon=4, **{name: 1})
