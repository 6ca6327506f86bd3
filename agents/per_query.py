"""Learners of ours, for whom every query is a decision of its own: what they have in common.

Stable-Baselines3's algorithms credit a choice with what follows in its episode. Here a choice is
paid at once, so that a learner needs no rollouts, no discount and no critic.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from torch import Tensor, nn

from dsom_env.sb3 import SB3VecEnv
from graphs.numbers import is_number

Observations = NDArray[np.float32]


class PerQueryLearner(ABC):
    """Chooses for a batch of queries, is paid, learns, and turns to the next batch.

    It is driven as Stable-Baselines3's algorithms are (`learn`, `predict`, `set_env`, `set_logger`,
    `policy`, `num_timesteps`), so that trials, tuning and streams of tasks take it for one.

    Args:
        env: the bridge to a vector environment that resets within the step.
        seed: decides initial weights and exploration.

    Attributes:
        policy: all that is learned.
        num_timesteps: transitions since `learn` was called.

    Raises:
        ValueError: another kind of `VecEnv`, which does not tell what was executed.
    """

    policy: nn.Module

    def __init__(self, env: Any, seed: int) -> None:
        self.set_env(env)
        self.generator = torch.Generator().manual_seed(seed)
        self.logger = Logger(None, [])
        self.num_timesteps = 0
        self._last_obs: Any = None
        # Who has rehearsed does not begin again to guess: this never falls.
        self.experience = 0.0

    def set_env(self, env: Any) -> None:
        """Go on in another environment of the same spaces."""
        if not isinstance(env, SB3VecEnv):
            raise ValueError(f"{type(self).__name__} needs an SB3VecEnv, got {type(env).__name__}")
        self.env = env

    def get_env(self) -> SB3VecEnv:
        """The environment that it learns in."""
        return self.env

    def set_logger(self, logger: Logger) -> None:
        """Where curves go."""
        self.logger = logger

    def learn(
        self,
        total_timesteps: int,
        callback: BaseCallback | None = None,
        log_interval: int | None = None,
        reset_num_timesteps: bool = True,
    ) -> PerQueryLearner:
        """Choose and learn, batch by batch.

        Args:
            total_timesteps: transitions, of all sub-environments together.
            callback: asked after every step whether to go on; None goes on.
            log_interval: steps between two points of a curve; None draws none.
            reset_num_timesteps: false goes on where it was, for so many further transitions, in an
                environment that is where it was.

        Returns:
            Itself.

        Raises:
            ValueError: the policy has diverged.
        """
        if callback is not None:
            callback.init_callback(self)  # type: ignore[arg-type]
        if reset_num_timesteps or self._last_obs is None:
            self.num_timesteps = 0
            self._last_obs = self.env.reset()
        else:
            total_timesteps += self.num_timesteps
        while self.num_timesteps < total_timesteps:
            if callback is not None:
                callback.on_rollout_start()
            observation = self._last_obs
            self.experience = max(self.experience, self.num_timesteps / total_timesteps)
            actions = self.explore(observation)
            following, rewards, _, _ = self.env.step(actions)
            self.num_timesteps += self.env.num_envs
            if callback is not None and not callback.on_step():
                break
            # What taught, which is not what was chosen where a row is in a control group.
            executed = self.env.last_info["executed_mask"]
            self.learn_from(observation, executed, rewards)
            if not all(bool(weights.isfinite().all()) for weights in self.policy.parameters()):
                # What Stable-Baselines3's distributions raise, too, and trials expect.
                raise ValueError(f"the weights of {type(self).__name__} are not finite")
            self._last_obs = following
            steps = self.num_timesteps // self.env.num_envs
            if log_interval is not None and steps % log_interval == 0:
                self.logger.dump(self.num_timesteps)
        self.experience = 1.0
        return self

    def predict(
        self,
        observation: Observations,
        state: None = None,
        episode_start: None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], None]:
        """Actions for observations `[batch, columns]`; deterministic ones are thought best."""
        return (self.best if deterministic else self.explore)(observation), None

    @abstractmethod
    def best(self, observation: Observations) -> NDArray[Any]:
        """The actions that are thought best, `[batch, ...]`."""

    @abstractmethod
    def explore(self, observation: Observations) -> NDArray[Any]:
        """The actions that are taken while it learns, `[batch, ...]`."""

    @abstractmethod
    def learn_from(
        self,
        observation: Observations,
        executed: NDArray[np.float32],
        rewards: NDArray[np.float32],
    ) -> None:
        """Learn from a batch.

        Args:
            observation: float32 `[batch, columns]`, what was seen.
            executed: float32 `[batch, teachers]`, the masks or weights that taught.
            rewards: float32 `[batch]`, of these.
        """


def make_network(sizes: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    """Linear layers with ReLUs between; the last one begins at 0, so that at first all is equal.

    Args:
        sizes: widths, from the observation's to the output's.
        generator: draws the weights.
    """
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        # Without drawing from the global generator.
        layer: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Linear, fan_in, fan_out
        )
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
    nn.init.zeros_(layers[-2].weight)  # type: ignore[arg-type]
    return nn.Sequential(*layers[:-1])


def as_tensor(values: NDArray[Any]) -> Tensor:
    """The same numbers, float32."""
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def hidden_sizes(policy_kwargs: dict[str, Any] | None) -> list[int]:
    """`net_arch`, widths of hidden layers; (64, 64) where nothing is said.

    Raises:
        ValueError: something else than a list of whole numbers, or another name.
    """
    named = dict(policy_kwargs or {})
    sizes = named.pop("net_arch", [64, 64])
    if named:
        raise ValueError(f"policy: only net_arch can be given, got {', '.join(named)}")
    if not isinstance(sizes, list) or not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError(f"net_arch must be a list of whole numbers above 0, got {sizes!r}")
    return sizes


def require_positive(name: str, value: Any) -> None:
    """Refuse the value of an argument that is no positive number.

    Raises:
        ValueError: it is none.
    """
    require(name, value, is_number(value) and value > 0, "a positive number")


def require(name: str, value: object, fine: bool, expected: str) -> None:
    """Refuse the value of an argument.

    Raises:
        ValueError: it is not fine; says what was expected.
    """
    if not fine:
        raise ValueError(f"{name} must be {expected}, got {value!r}")
