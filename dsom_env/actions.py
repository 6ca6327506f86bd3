"""Ways to write down whom a query is taught by, one meaning: weights `[batch, teachers]`.

A subset of teachers is a mask of 0 and 1; with weights a policy also says how much each one is
heard, and how strongly the query is taught at all (`teachers.store.Opinions.soft_labels`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray


def action_space(mode: str, teachers: int) -> spaces.Space[Any]:
    """The action space of one sub-environment; modes as in `DSoMConfig.action_mode`."""
    if mode == "mask":
        return spaces.MultiBinary(teachers)
    if mode == "multidiscrete":
        return spaces.MultiDiscrete([2] * teachers)
    if mode == "weights":
        # About zero, where the Gaussian policies of RL libraries begin.
        return spaces.Box(-1.0, 1.0, (teachers,), np.float32)
    return spaces.Discrete(2**teachers)


def decode_masks(mode: str, actions: Any, batch: int, teachers: int) -> NDArray[np.float32]:
    """Masks of a batch of actions, float32 `[batch, teachers]` of 0 and 1, or weights between.

    Raises:
        ValueError: wrong shape, or a value outside the action space.
    """
    array = np.asarray(actions)
    expected = (batch,) if mode == "discrete" else (batch, teachers)
    if array.shape != expected:
        raise ValueError(f"actions must have shape {expected} in mode {mode!r}, got {array.shape}")
    if mode == "weights":
        # Written so that NaN, which compares with nothing, is refused too.
        if array.dtype.kind not in "biuf" or not (np.abs(array) <= 1).all():
            raise ValueError(
                f"actions must be numbers from -1 to 1 in mode 'weights', "
                f"got {array.dtype} {array.reshape(-1)[:8].tolist()}"
            )
        return ((array + 1) / 2).astype(np.float32)
    top = 2**teachers - 1 if mode == "discrete" else 1
    # Stable-Baselines3 hands masks over as floats: their values count, not their type.
    whole = array.dtype.kind in "biuf" and bool((array == np.trunc(array)).all())
    if not whole or array.min() < 0 or array.max() > top:
        raise ValueError(
            f"actions must be whole numbers from 0 to {top} in mode {mode!r}, "
            f"got {array.dtype} {array.reshape(-1)[:8].tolist()}"
        )
    if mode == "discrete":
        return ((array[:, None].astype(np.int64) >> np.arange(teachers)) & 1).astype(np.float32)
    return array.astype(np.float32)
