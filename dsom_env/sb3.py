"""The bridge to Stable-Baselines3: the native vector environment as one of its `VecEnv`s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

import dsom_env as _registration  # noqa: F401 - registers DSoM-v0
from students.snapshots import Snapshot


class SB3VecEnv(VecEnv):
    """A Gymnasium vector environment in Stable-Baselines3's own terms, without a loop per row.

    Fills `terminal_observation` and `TimeLimit.truncated` where an episode ends, and `episode`
    (return and length), from which Stable-Baselines3 logs `rollout/ep_rew_mean`.

    Args:
        env: a vector environment that resets within the step.

    Raises:
        ValueError: another autoreset mode.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise ValueError(
                f"autoreset_mode must be 'same_step' for Stable-Baselines3, got {mode}"
            )
        self.venv = env
        self.metadata = env.metadata
        self.render_mode = env.render_mode
        self._seed: int | None = None
        self._options_once: dict[str, Any] | None = None
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, dtype=np.int64)
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> Any:
        """Begin new episodes, with the seed and options that were set since the last reset."""
        observation, info = self.venv.reset(seed=self._seed, options=self._options_once)
        self._seed = self._options_once = None
        self._returns[:], self._lengths[:] = 0.0, 0
        self.reset_infos = [{} for _ in range(self.num_envs)]
        self.last_info = info
        return observation

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed the next reset: a new student and a new order of queries."""
        self._seed = seed
        return [seed] * self.num_envs

    def set_options(self, options: Any = None) -> None:
        """Options of the next reset; one dict, since the sub-environments share a student."""
        if isinstance(options, list):
            options = options[0] if options else None
        self._options_once = options

    def step_async(self, actions: NDArray[Any]) -> None:
        """Remember the actions of the next `step_wait`."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Step; observations, float32 rewards, dones and infos as Stable-Baselines3 wants them."""
        observation, rewards, terminated, truncated, info = self.venv.step(self._actions)
        self.last_info = info
        self._returns += rewards
        self._lengths += 1
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for index in np.flatnonzero(done):
            infos[index] = {
                "terminal_observation": info["final_obs"][index],
                "TimeLimit.truncated": bool(truncated[index] and not terminated[index]),
                "episode": {"r": float(self._returns[index]), "l": int(self._lengths[index])},
            }
        self._returns[done], self._lengths[done] = 0.0, 0
        return observation, rewards.astype(np.float32), done, infos

    def snapshot(self) -> Snapshot:
        """The wrapped environment at this moment, and the episodes under way, for `restore`."""
        venv: Any = self.venv
        episodes = {"returns": self._returns.copy(), "lengths": self._lengths.copy()}
        return {"venv": venv.snapshot(), **episodes}

    def restore(self, snapshot: Snapshot) -> None:
        """Go to where `snapshot` was taken; the environment was reset before."""
        venv: Any = self.venv
        venv.restore(snapshot["venv"])
        self._returns[:], self._lengths[:] = snapshot["returns"], snapshot["lengths"]
        # Nobody resets to go on.
        self._seed = self._options_once = None

    def close(self) -> None:
        """Close the environment."""
        self.venv.close()

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Frames of the sub-environments, for `rgb_array`."""
        frames: Any = self.venv.render()
        return list(frames) if frames is not None else [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the environment, once per asked sub-environment."""
        count = len(list(self._get_indices(indices)))
        if attr_name == "render_mode":
            return [self.render_mode] * count
        owner = self.venv if hasattr(self.venv, attr_name) else self.venv.unwrapped
        return [getattr(owner, attr_name)] * count

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the one underlying environment."""
        setattr(self.venv.unwrapped, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the one underlying environment, which answers for all.

        Of `action_masks`, which sb3-contrib asks for, every sub-environment has its own row.
        """
        result = getattr(self.venv.unwrapped, method_name)(*method_args, **method_kwargs)
        asked = list(self._get_indices(indices))
        return [result[i] if method_name == "action_masks" else result for i in asked]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Any = None
    ) -> list[bool]:
        """Always false: the sub-environments are rows of a batch and have no wrappers."""
        return [False] * len(list(self._get_indices(indices)))


def make_sb3_env(num_envs: int = 256, env_id: str = "DSoM-v0", **kwargs: Any) -> SB3VecEnv:
    """`gym.make_vec(env_id, num_envs, **kwargs)` for Stable-Baselines3.

    Args:
        num_envs: batch size of the student and number of sub-environments.
        env_id: `DSoM-v0` or `DSoM-Continual-v0`.
        **kwargs: of `DSoMConfig` or `ContinualConfig`.
    """
    return SB3VecEnv(gym.make_vec(env_id, num_envs=num_envs, **kwargs))
