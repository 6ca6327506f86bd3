"""Contextual bandits over subsets of teachers.

The *context* is the observation of a query, an *arm* is a subset of the M teachers, and the reward
of the arm that was pulled is all that is learned from. There are `2**M` arms, each with a model of
its own (the *disjoint* form). One arm per teacher would be fewer, but what a teacher is worth
depends on who else speaks: soft labels are means of logarithms, and no reward here is a sum over
teachers. So they act in mode `discrete`, which bounds M.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
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
    require,
    require_positive,
)
from graphs.numbers import is_number

# Of the running mean of squared errors, per batch.
_MEMORY_OF_ERRORS = 0.95


class Bandit(PerQueryLearner):
    """A model of the reward of every arm, and a way to look at arms that it does not think best.

    Args:
        env: acts in mode `discrete`.
        seed: see `PerQueryLearner`.

    Attributes:
        spread: root mean square of the latest errors of the model, in units of the reward: what
            nobody can foresee of a reward. 1 before there are any.

    Raises:
        ValueError: another mode.
    """

    def __init__(self, env: Any, seed: int) -> None:
        super().__init__(env, seed)
        if not isinstance(env.action_space, spaces.Discrete):
            raise ValueError(
                f"a bandit's arms are subsets of teachers: action_mode must be 'discrete', got "
                f"actions of {env.action_space}"
            )
        self.arms = int(env.action_space.n)
        self._squares = self._seen = 0.0

    @property
    def spread(self) -> float:
        """See the class."""
        return (self._squares / self._seen) ** 0.5 if self._seen else 1.0

    @abstractmethod
    def expected(self, observation: Observations) -> Tensor:
        """Expected rewards `[batch, arms]`."""

    @abstractmethod
    def pull(self, observation: Observations, expected: Tensor) -> Tensor:
        """The arms to pull while it learns, int64 `[batch]`."""

    @abstractmethod
    def fit(self, observation: Observations, arms: Tensor, rewards: Tensor) -> None:
        """Learn the rewards `[batch]` of the arms `[batch]` that were pulled."""

    def best(self, observation: Observations) -> NDArray[Any]:
        """The arms with the highest expected rewards, int64 `[batch]`."""
        return self.expected(observation).argmax(1).numpy()

    def explore(self, observation: Observations) -> NDArray[Any]:
        """See `pull`."""
        expected = self.expected(observation)
        arms = self.pull(observation, expected)
        explored = expected.gather(1, arms[:, None])[:, 0] < expected.amax(1)
        self.logger.record("rollout/explored", float(explored.float().mean()))
        return arms.numpy()

    def learn_from(
        self,
        observation: Observations,
        executed: NDArray[np.float32],
        rewards: NDArray[np.float32],
    ) -> None:
        """Learn what the executed masks were worth."""
        bits = 2 ** np.arange(executed.shape[1])
        arms = torch.from_numpy((executed > 0) @ bits)
        paid = as_tensor(rewards)
        errors = paid - self.expected(observation).gather(1, arms[:, None])[:, 0]
        kept = _MEMORY_OF_ERRORS
        self._squares = kept * self._squares + (1 - kept) * float(errors.square().mean())
        self._seen = kept * self._seen + 1 - kept
        self.logger.record("train/reward_error", self.spread)
        self.fit(observation, arms, paid)


class LinearRewards(nn.Module):
    """Ridge regression of the reward on the observation and a constant, for every arm.

    `θ_a = A_a⁻¹·b_a` with `A_a = ridge·I + Σ x·xᵀ` and `b_a = Σ r·x` over the pulls of arm `a`: the
    mean of a Gaussian posterior, whose covariance is `σ²·A_a⁻¹` for noise of variance `σ²` and a
    prior of variance `σ²/ridge`.

    Args:
        arms: how many.
        columns: of the observation.
        ridge: above 0.
        memory: what a batch leaves of the sums before it: 1 forgets nothing.
    """

    gram: Tensor
    moment: Tensor
    covariance: Tensor
    weights: Tensor

    def __init__(self, arms: int, columns: int, ridge: float, memory: float) -> None:
        super().__init__()
        self.ridge, self.memory = ridge, memory
        size = columns + 1
        # Sums over a whole run, and inverted: in double precision.
        eye = torch.eye(size, dtype=torch.float64)
        self.register_buffer("gram", torch.zeros(arms, size, size, dtype=torch.float64))
        self.register_buffer("moment", torch.zeros(arms, size, dtype=torch.float64))
        self.register_buffer("covariance", (eye / ridge).repeat(arms, 1, 1))
        self.register_buffer("weights", torch.zeros(arms, size, dtype=torch.float64))

    @staticmethod
    def inputs(observation: Observations) -> Tensor:
        """Observations and a constant, float64 `[batch, columns + 1]`."""
        shown = torch.from_numpy(np.asarray(observation, dtype=np.float64))
        return torch.cat([shown, torch.ones(len(shown), 1, dtype=torch.float64)], dim=1)

    def forward(self, observation: Observations) -> Tensor:
        """Expected rewards, float32 `[batch, arms]`."""
        return (self.inputs(observation) @ self.weights.T).float()

    def widths(self, observation: Observations) -> Tensor:
        """`√(xᵀ·A_a⁻¹·x)`, float32 `[batch, arms]`; times `σ` the posterior's deviation."""
        inputs = self.inputs(observation)
        # Arm by arm: of twelve teachers there are thousands, times the batch, times the columns.
        squares = [((inputs @ inverse) * inputs).sum(1) for inverse in self.covariance]
        return torch.stack(squares, dim=1).clamp_min(0.0).sqrt().float()

    def fit(self, observation: Observations, arms: Tensor, rewards: Tensor) -> None:
        """Add the pulls of a batch."""
        inputs, paid = self.inputs(observation), rewards.double()
        pulled = torch.from_numpy(np.unique(arms.numpy()))
        if self.memory < 1:
            self.gram *= self.memory
            self.moment *= self.memory
        for arm in pulled.tolist():
            rows = arms == arm
            self.gram[arm] += inputs[rows].T @ inputs[rows]
            self.moment[arm] += paid[rows] @ inputs[rows]
        changed = pulled if self.memory == 1 else torch.arange(len(self.gram))
        prior = self.ridge * torch.eye(self.gram.shape[1], dtype=torch.float64)
        factor = torch.linalg.cholesky(self.gram[changed] + prior)
        self.covariance[changed] = torch.cholesky_inverse(factor)
        self.weights[changed] = torch.cholesky_solve(self.moment[changed, :, None], factor)[:, :, 0]


class LinearBandit(Bandit):
    """Linear models of the arms' rewards, and how sure of them it is.

    A batch is chosen for with what was known before it, so that doubts shrink once per batch.

    Args:
        env: see `Bandit`.
        seed: see `Bandit`.
        exploration: how much doubt counts, in standard deviations of an expected reward. The
            deviation of the noise is estimated (`Bandit.spread`), so that this does not depend on
            the unit of the reward (ours; the sources have a constant in units of the reward).
        ridge: see `LinearRewards`.
        memory: see `LinearRewards`. Below 1 it follows rewards that change with the student, as
            `improvement` (ours).
        policy_kwargs: nothing: there is no network.

    Raises:
        ValueError: a value outside its domain, or a network's shape.
    """

    policy: LinearRewards

    def __init__(
        self,
        env: Any,
        seed: int,
        exploration: float = 1.0,
        ridge: float = 1.0,
        memory: float = 1.0,
        policy_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(env, seed)
        curious = is_number(exploration) and exploration >= 0
        require("exploration", exploration, curious, "a number ≥ 0")
        require_positive("ridge", ridge)
        require("memory", memory, is_number(memory) and 0 < memory <= 1, "a number in (0, 1]")
        if policy_kwargs:
            raise ValueError(f"a linear bandit has no network: no {', '.join(policy_kwargs)}")
        self.exploration = exploration
        self.policy = LinearRewards(self.arms, env.observation_space.shape[0], ridge, memory)

    def expected(self, observation: Observations) -> Tensor:
        """See `LinearRewards.forward`."""
        expected: Tensor = self.policy(observation)
        return expected

    def pull(self, observation: Observations, expected: Tensor) -> Tensor:
        """The arms with the highest values, of equals a random one."""
        doubt = self.exploration * self.spread * self.policy.widths(observation)
        values = expected + doubt * self.direction(doubt.shape)
        # Small beside any doubt, and large beside rounding.
        values += 1e-3 * self.spread * torch.rand(values.shape, generator=self.generator)
        return values.argmax(1)

    @abstractmethod
    def direction(self, shape: Sequence[int]) -> Tensor:
        """By how many of its deviations each expectation is moved."""

    def fit(self, observation: Observations, arms: Tensor, rewards: Tensor) -> None:
        """See `LinearRewards.fit`."""
        self.policy.fit(observation, arms, rewards)


class LinUCB(LinearBandit):
    """Pulls the arm that might be best: expected reward plus its deviation (Li et al. 2010).

    `argmax_a θ_aᵀ·x + α·√(xᵀ·A_a⁻¹·x)`, the disjoint LinUCB of *A contextual-bandit approach to
    personalized news article recommendation*, arXiv 1003.0146 (unconfirmed: the paper was not at
    hand). Two queries of a batch that look alike get the same arm, and doubt about it shrinks with
    the next batch only.
    """

    def direction(self, shape: Sequence[int]) -> Tensor:
        """Upwards."""
        return torch.ones(*shape)


class LinearThompson(LinearBandit):
    """Pulls the arm that is best under parameters drawn from their posterior (Agrawal, Goyal 2013).

    *Thompson sampling for contextual bandits with linear payoffs*, arXiv 1209.3352, with a model
    for every arm (unconfirmed: the paper was not at hand). Every query draws parameters of its own,
    so that a batch spreads over the arms. Drawn are the expected rewards, of which there is one for
    every query and arm: as good as parameters, since no two of them share any.
    """

    def direction(self, shape: Sequence[int]) -> Tensor:
        """Anywhere, as the posterior has it."""
        return torch.randn(*shape, generator=self.generator)


class NeuralEpsilonGreedy(Bandit):
    """A network expects the rewards of all arms; a share ε of the queries pulls any arm.

    ε falls linearly from 1 to `final_epsilon`. The network learns by Adam on squared errors of the
    arms that were pulled, from a memory of the latest ones (common practice, no single source). It
    is what DQN would be without a next state: no target network, no discount.

    Args:
        env: see `Bandit`.
        seed: see `Bandit`.
        learning_rate: of Adam.
        buffer_size: transitions that are remembered, the latest ones.
        batch_size: transitions of a gradient step.
        gradient_steps: after every step of all sub-environments.
        exploration_fraction: share of the budget in which ε falls.
        final_epsilon: ε from then on.
        policy_kwargs: `net_arch`, widths of the hidden layers.

    Raises:
        ValueError: a value outside its domain.
    """

    policy: nn.Sequential

    def __init__(
        self,
        env: Any,
        seed: int,
        learning_rate: float = 1e-3,
        buffer_size: int = 50_000,
        batch_size: int = 512,
        gradient_steps: int = 4,
        exploration_fraction: float = 0.3,
        final_epsilon: float = 0.05,
        policy_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(env, seed)
        counts = {"buffer_size": buffer_size, "batch_size": batch_size}
        for name, count in {**counts, "gradient_steps": gradient_steps}.items():
            whole = isinstance(count, int) and not isinstance(count, bool) and count >= 1
            require(name, count, whole, "a whole number of at least 1")
        for name, share in (
            ("exploration_fraction", exploration_fraction),
            ("final_epsilon", final_epsilon),
        ):
            require(name, share, is_number(share) and 0 <= share <= 1, "a number in [0, 1]")
        require_positive("learning_rate", learning_rate)
        hidden = hidden_sizes(policy_kwargs)
        self.batch_size, self.gradient_steps = batch_size, gradient_steps
        self.exploration_fraction, self.final_epsilon = exploration_fraction, final_epsilon
        columns = env.observation_space.shape[0]
        self.policy = make_network([columns, *hidden, self.arms], self.generator)
        self._optimiser = torch.optim.Adam(self.policy.parameters(), lr=learning_rate)
        self._observations = torch.zeros(buffer_size, columns)
        self._arms = torch.zeros(buffer_size, dtype=torch.int64)
        self._rewards = torch.zeros(buffer_size)
        self._remembered = 0

    @property
    def epsilon(self) -> float:
        """Share of the queries that pull any arm now."""
        spent = min(self.experience / max(self.exploration_fraction, 1e-9), 1.0)
        return 1.0 + spent * (self.final_epsilon - 1.0)

    @torch.no_grad()
    def expected(self, observation: Observations) -> Tensor:
        """The network's outputs."""
        expected: Tensor = self.policy(as_tensor(observation))
        return expected

    def pull(self, observation: Observations, expected: Tensor) -> Tensor:
        """See the class."""
        shape, generator = (len(expected),), self.generator
        anything = torch.randint(self.arms, shape, generator=generator)
        curious = torch.rand(shape, generator=generator) < self.epsilon
        self.logger.record("rollout/exploration_rate", self.epsilon)
        return torch.where(curious, anything, expected.argmax(1))

    def fit(self, observation: Observations, arms: Tensor, rewards: Tensor) -> None:
        """Remember the batch and make some gradient steps."""
        size = len(self._arms)
        places = (self._remembered + torch.arange(len(arms))) % size
        # Of a batch larger than the memory its last queries stay.
        kept = slice(max(len(arms) - size, 0), None)
        self._observations[places[kept]] = as_tensor(observation)[kept]
        self._arms[places[kept]], self._rewards[places[kept]] = arms[kept], rewards[kept]
        self._remembered += len(arms)
        known = min(self._remembered, size)
        for _ in range(self.gradient_steps):
            rows = torch.randint(known, (self.batch_size,), generator=self.generator)
            said = self.policy(self._observations[rows]).gather(1, self._arms[rows, None])[:, 0]
            loss = (said - self._rewards[rows]).square().mean()
            self._optimiser.zero_grad()
            loss.backward()
            self._optimiser.step()
        self.logger.record("train/loss", float(loss.detach()))
