"""DSoM-v0 as a scalar environment: the vector environment with a batch of one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dsom_env.config import DSoMConfig
from dsom_env.vector_env import DSoMVectorEnv, Observation

if TYPE_CHECKING:
    from students.snapshots import Snapshot


class DSoMEnv(gym.Env[Observation, Any]):
    """Choose, for one knowledge-graph query at a time, which teachers may teach the student.

    Description, spaces, rewards, starting state, episode end, arguments and version history are
    those of `DSoMVectorEnv`, of which this is a batch of one: the student is updated from single
    queries, so `gym.make_vec` learns far faster and is what agents should be trained on.

    `gym.make` keeps `max_episode_steps` to itself: its `TimeLimit` cuts episodes from outside, and
    an environment never learns which of its steps was the last. The reward `validation`, which is
    paid with the last step, then pays nothing: shorten episodes by `horizon`.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - Gymnasium's own convention
        "render_modes": ["ansi", "rgb_array"],
        "render_fps": 4,
    }

    vector_type: ClassVar[type[DSoMVectorEnv]] = DSoMVectorEnv

    def __init__(self, config: DSoMConfig | None = None, **kwargs: Any) -> None:
        config = config or self.vector_type.config_type.from_kwargs(**kwargs)
        # Gymnasium's scalar contract: after an episode the caller resets.
        self.vector = self.vector_type(1, replace(config, autoreset_mode="disabled"))
        self.config = self.vector.config
        self.render_mode = config.render_mode
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space
        self.feature_names = self.vector.feature_names
        self.teachers = self.vector.teachers
        self.graph = self.vector.graph

    @property
    def classroom(self) -> Any:
        """The `Classroom`: graph, store, student, stream. Made at the first `reset`."""
        return self.vector.classroom

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin a new episode; see `DSoMVectorEnv.reset`."""
        super().reset(seed=seed)
        observation, info = self.vector.reset(seed=seed, options=options)
        return observation[0], _only(info)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Teach one query; see `DSoMVectorEnv.step`."""
        batch = np.asarray(action)[None]
        observation, rewards, terminated, truncated, info = self.vector.step(batch)
        return (
            observation[0],
            float(rewards[0]),
            bool(terminated[0]),
            bool(truncated[0]),
            _only(info),
        )

    def action_masks(self) -> NDArray[np.bool_]:
        """Actions that are allowed for the query; see `DSoMVectorEnv.action_masks`."""
        masks: NDArray[np.bool_] = self.vector.action_masks()[0]
        return masks

    def snapshot(self) -> Snapshot:
        """Everything at this moment; see `DSoMVectorEnv.snapshot`."""
        return self.vector.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """Go to where `snapshot` was taken; see `DSoMVectorEnv.restore`."""
        self.vector.restore(snapshot)

    def render(self) -> Any:
        """Text for `ansi`, a uint8 picture `[height, width, 3]` for `rgb_array`."""
        frames = self.vector.render()
        return frames[0] if frames is not None else None

    def close(self) -> None:
        """Let the student and the store go."""
        self.vector.close()


def _only(info: dict[str, Any]) -> dict[str, Any]:
    """Info of the only sub-environment, as plain numbers where it is a number."""
    single = {key: value[0] for key, value in info.items() if not key.startswith("_")}
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in single.items()}


def make(**kwargs: Any) -> gym.Env[Observation, Any]:
    """Entry point of `gym.make("DSoM-v0")`: wrapped by `CoTrainStudent` unless `cotrain=False`."""
    from dsom_env.cotraining import CoTrainStudent

    env = DSoMEnv(**kwargs)
    return CoTrainStudent(env) if env.config.cotrain else env


def make_vec(num_envs: int = 1, **kwargs: Any) -> Any:
    """Entry point of `gym.make_vec("DSoM-v0")`, which adds no wrappers of its own."""
    from dsom_env.cotraining import CoTrainStudentVector

    env = DSoMVectorEnv(num_envs, **kwargs)
    return CoTrainStudentVector(env) if env.config.cotrain else env
