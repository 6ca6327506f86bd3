"""REINFORCE (Williams 1992) on Stable-Baselines3's on-policy machinery."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3 import A2C
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor


class ZeroCriticPolicy(ActorCriticPolicy):
    """An actor whose critic always says zero, so that advantages are the returns themselves."""

    def forward(self, obs: Any, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions, zero values and log-probabilities."""
        actions, values, log_prob = super().forward(obs, deterministic)
        return actions, torch.zeros_like(values), log_prob

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Zero values, log-probabilities and entropies of `actions`."""
        values, log_prob, entropy = super().evaluate_actions(obs, actions)
        return torch.zeros_like(values), log_prob, entropy

    def predict_values(self, obs: Any) -> Tensor:
        """Zeros `[batch, 1]`."""
        return torch.zeros_like(super().predict_values(obs))


class Reinforce(A2C):
    """Monte-Carlo policy gradient: A2C with a zero critic and λ = 1.

    With rollouts of whole episodes the advantage of a step is its discounted return. With
    `normalize_advantage` the batch's mean return serves as the baseline.

    Args:
        env: a `VecEnv` whose episodes all last `horizon` steps.
        horizon: length of an episode; the rollout is a multiple of it.
        episodes: episodes per rollout and sub-environment.
        **kwargs: of `A2C`, except those that make it REINFORCE.

    Raises:
        ValueError: a keyword that REINFORCE fixes.
    """

    def __init__(self, env: Any, horizon: int, episodes: int = 1, **kwargs: Any) -> None:
        for name in ("policy", "n_steps", "gae_lambda", "vf_coef"):
            if name in kwargs:
                raise ValueError(f"{name} is fixed by REINFORCE and cannot be given")
        # Stable-Baselines3 asks its subclasses for `_init_setup_model` when it loads a policy.
        super().__init__(
            ZeroCriticPolicy,
            env,
            n_steps=horizon * episodes,
            gae_lambda=1.0,
            vf_coef=0.0,
            **kwargs,
        )
