"""The wrappers under which the student really learns inside `step`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper

from dsom_env.env import DSoMEnv
from dsom_env.vector_env import DSoMVectorEnv

if TYPE_CHECKING:
    AnyVectorWrapper = VectorWrapper[Any, Any, Any]
else:
    # Takes type arguments from Gymnasium 1.4 on only.
    AnyVectorWrapper = VectorWrapper


def _switch_on(env: DSoMVectorEnv) -> None:
    if env.lessons is not None:
        raise ValueError("wrap the environment with CoTrainStudent before its first reset")
    if not env.config.cotrain:
        raise ValueError("cotrain=False asks for a frozen student; do not wrap with CoTrainStudent")
    env.cotraining = True


class CoTrainStudent(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Takes the mask, forms the soft label, updates the student, and pays the chosen reward.

    Args:
        env: a `DSoMEnv` that has not been reset yet, other wrappers around it allowed.

    Raises:
        ValueError: something else, already reset, or configured with `cotrain=False`.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        if not isinstance(env.unwrapped, DSoMEnv):
            raise ValueError(f"CoTrainStudent wraps a DSoMEnv, got {env.unwrapped}")
        _switch_on(env.unwrapped.vector)


class CoTrainStudentVector(AnyVectorWrapper):
    """`CoTrainStudent` for the vector environment: one student update from the whole batch.

    Args:
        env: a `DSoMVectorEnv` that has not been reset yet, other wrappers around it allowed.

    Raises:
        ValueError: something else, already reset, or configured with `cotrain=False`.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        base = env.unwrapped
        if not isinstance(base, DSoMVectorEnv):
            raise ValueError(f"CoTrainStudentVector wraps a DSoMVectorEnv, got {base}")
        _switch_on(base)
        self.feature_names = base.feature_names
        self.teachers = base.teachers
        # Where Gymnasium's own vector environments have it, and TorchRL looks for it.
        self.autoreset_mode = base.autoreset_mode
