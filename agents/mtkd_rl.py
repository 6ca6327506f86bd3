"""MTKD-RL: weights of teachers from a network and two closed forms, nudged by rewards."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.per_query import (
    Observations,
    PerQueryLearner,
    as_tensor,
    hidden_sizes,
    make_network,
    require_positive,
)


class MTKDRL(PerQueryLearner):
    """Weights `a_k = ⅓·[softmax(W·h)_k + (1 − softmax(CE)_k)/(M − 1) + softmax(KL)_k]`.

    Yang et al., AAAI 2025, arXiv 2502.18510 (methods.md §3). *Exact*: the weights; the update,
    which lowers `−r·Σ_k log a_k`, so that a paid query pushes all weights to one and which weights
    had been taken does not matter; and, but for what sets of teachers need, the reward `advantage`.
    So rewards cannot tell it whom to choose: it is a baseline, and no policy gradient. Whom it
    prefers comes from the two closed forms: teachers that know the answer, and those that are
    far from the student.

    *Reconstruction*: the state is this environment's observation, in the place of the published
    `[cos, KL, CE, feature, logits]` of each teacher; it has to show what teachers say of the
    answer, of which CE and KL are read (cut at the observation's bounds). And a batch is learned
    from as soon as it was taught.

    The weights sum to 1, and so does their loss; here the largest one says how strongly a query is
    taught, so they are handed over divided by it, as those of `senior` are. The published loss is
    one term per teacher: `combination="per_teacher"`.

    Args:
        env: acts in mode `weights`, and hides neither `teachers` nor `answer`.
        seed: see `PerQueryLearner`.
        learning_rate: of Adam.
        policy_kwargs: `net_arch`, widths of the hidden layers `h`.

    Raises:
        ValueError: another mode, a column that is hidden, or a value outside its domain.
    """

    policy: nn.Sequential

    def __init__(
        self,
        env: Any,
        seed: int,
        learning_rate: float = 1e-3,
        policy_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(env, seed)
        require_positive("learning_rate", learning_rate)
        base = env.venv.unwrapped
        teachers = base.teachers
        space = env.action_space
        if not isinstance(space, spaces.Box) or space.shape != (len(teachers),):
            raise ValueError(f"mtkd_rl: action_mode must be 'weights', got actions of {space}")
        names = list(base.feature_names)
        wanted = [f"{teacher}_log_p_answer" for teacher in teachers]
        wanted += [f"{teacher}_kl_to_student" for teacher in teachers]
        if not set(wanted) <= set(names):
            raise ValueError("mtkd_rl: hide must leave 'teachers' and 'answer' to be observed")
        places = [names.index(name) for name in wanted]
        self._known, self._gaps = places[: len(teachers)], places[len(teachers) :]
        self._log_entities = math.log(base.graph.num_entities)
        hidden = hidden_sizes(policy_kwargs)
        self.policy = make_network([len(names), *hidden, len(teachers)], self.generator)
        self._optimiser = torch.optim.Adam(self.policy.parameters(), lr=learning_rate)

    def weights(self, observation: Observations) -> Tensor:
        """`a`, `[batch, teachers]`, each row of sum 1; differentiable in the network."""
        state = as_tensor(observation)
        # The columns are in units of log E.
        cross_entropies = -state[:, self._known] * self._log_entities
        divergences = state[:, self._gaps] * self._log_entities
        learned: Tensor = self.policy(state).softmax(1)
        return (learned + competence(cross_entropies) + divergences.softmax(1)) / 3

    @torch.no_grad()
    def best(self, observation: Observations) -> NDArray[Any]:
        """The weights over their largest, as actions from -1 to 1, `[batch, teachers]`."""
        weights = self.weights(observation)
        actions: NDArray[Any] = (2 * weights / weights.amax(1, keepdim=True) - 1).numpy()
        return actions

    def explore(self, observation: Observations) -> NDArray[Any]:
        """The same: it does not explore."""
        return self.best(observation)

    def learn_from(
        self,
        observation: Observations,
        executed: NDArray[np.float32],
        rewards: NDArray[np.float32],
    ) -> None:
        """See the class."""
        weights = self.weights(observation)
        loss = -(as_tensor(rewards) * weights.log().sum(1)).mean()
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self.logger.record("train/loss", float(loss.detach()))


def competence(cross_entropies: Tensor) -> Tensor:
    """`(1 − softmax(CE)_k)/(M − 1)`, `[batch, teachers]`; 1 of a single teacher."""
    teachers = cross_entropies.shape[1]
    if teachers == 1:
        return torch.ones_like(cross_entropies)
    return (1 - cross_entropies.softmax(1)) / (teachers - 1)
