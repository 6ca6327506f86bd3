"""RL-KD: a coin per teacher, whose chances are learned by REINFORCE."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from agents.per_query import (
    Observations,
    PerQueryLearner,
    as_tensor,
    hidden_sizes,
    make_network,
    require,
    require_positive,
)
from graphs.numbers import is_number


class RLKD(PerQueryLearner):
    """`π(a_k = 1 | s) = σ(A_k·s + b_k)`, and `∇ = r·Σ_k ∇ log π(a_k | s)`, with `r` normalised.

    *Reinforced multi-teacher selection*, Yuan et al., AAAI 2021 (methods.md §3; *unconfirmed*: the
    paper was not at hand). Its rewards are the student's `−CE`, `−CE − KD`, or accuracy on held-out
    data mixed in. *Reconstruction*: the state is this environment's observation, and of the rewards
    the YAML takes `improvement`, not cut at zero: the first one, less what hard labels alone
    would have earned. As it stands `−CE` differs by how hard a query is, which is noise to whoever
    compares sets, and `−CE − KD` is highest for nobody. `validation` is the third one.
    Rewards are normalised over the batch, and the policy's entropy is paid for (ours): with
    neither, it settled on all teachers for every query of a planted graph.

    It differs from `reinforce` by what is small: no hidden layer, and no control rows, whose reward
    nobody chose.

    Args:
        env: acts in mode `mask` or `multidiscrete`.
        seed: see `PerQueryLearner`.
        learning_rate: of Adam.
        ent_coef: what a nat of entropy is worth, in deviations of the reward.
        policy_kwargs: `net_arch`, widths of hidden layers; the source has none.

    Raises:
        ValueError: another mode, or a value outside its domain.
    """

    policy: nn.Sequential

    def __init__(
        self,
        env: Any,
        seed: int,
        learning_rate: float = 1e-2,
        ent_coef: float = 0.2,
        policy_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(env, seed)
        require_positive("learning_rate", learning_rate)
        fine = is_number(ent_coef) and ent_coef >= 0
        require("ent_coef", ent_coef, fine, "a number ≥ 0")
        self.ent_coef = ent_coef
        space = env.action_space
        if not isinstance(space, (spaces.MultiBinary, spaces.MultiDiscrete)):
            raise ValueError(f"rl_kd: action_mode must be 'mask', got actions of {space}")
        columns, teachers = env.observation_space.shape[0], space.shape[0]
        hidden = hidden_sizes({"net_arch": [], **(policy_kwargs or {})})
        self.policy = make_network([columns, *hidden, teachers], self.generator)
        self._optimiser = torch.optim.Adam(self.policy.parameters(), lr=learning_rate)
        self._tossed = torch.zeros(0, teachers)

    @torch.no_grad()
    def _logits(self, observation: Observations) -> Tensor:
        logits: Tensor = self.policy(as_tensor(observation))
        return logits

    def best(self, observation: Observations) -> NDArray[Any]:
        """The teachers with chances of one half or more, `[batch, teachers]`."""
        return (self._logits(observation) >= 0).numpy().astype(np.int8)

    def explore(self, observation: Observations) -> NDArray[Any]:
        """A coin for every teacher, `[batch, teachers]`."""
        chances = self._logits(observation).sigmoid()
        self._tossed = torch.bernoulli(chances, generator=self.generator)
        return self._tossed.numpy().astype(np.int8)

    def learn_from(
        self,
        observation: Observations,
        executed: NDArray[np.float32],
        rewards: NDArray[np.float32],
    ) -> None:
        """See the class: what was tossed counts, which with `allow_empty=False` may be nobody."""
        chose = ~torch.from_numpy(self.env.last_info["control"])
        logits = self.policy(as_tensor(observation))[chose]
        surprise = binary_cross_entropy_with_logits(logits, self._tossed[chose], reduction="none")
        paid = as_tensor(rewards)[chose]
        normal = (paid - paid.mean()) / paid.std(correction=0).clamp_min(1e-8)
        chances = logits.sigmoid()
        entropy = chances * softplus(-logits) + (1 - chances) * softplus(logits)
        mean_entropy = entropy.sum(1).mean()
        policy_loss = (normal * surprise.sum(1)).mean()
        loss = policy_loss - self.ent_coef * mean_entropy
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        self.logger.record("train/policy_loss", float(policy_loss.detach()))
        self.logger.record("train/entropy_loss", -float(mean_entropy.detach()))
