"""Ways to write down how a query is taught, one meaning: a `Choice`.

A subset of teachers is a mask of 0 and 1; with weights a policy also says how much each one is
heard, and how strongly the query is taught at all (`teachers.store.Opinions.soft_labels`); and
tempered, how sharp the soft label is that they teach.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

# A policy may divide or multiply the teachers' temperature by this much (ours).
MOST_TEMPERING = 4.0


class Choice(NamedTuple):
    """What a batch of actions says.

    Attributes:
        weights: float32 `[batch, teachers]`, who teaches: a mask of 0 and 1, or weights between.
        tempering: float32 `[batch]`, factor on the teachers' temperature, see
            `dsom_env.classroom.Lesson`; None in modes that have no say in it.
    """

    weights: NDArray[np.float32]
    tempering: NDArray[np.float32] | None = None


def action_space(mode: str, teachers: int) -> spaces.Space[Any]:
    """The action space of one sub-environment; modes as in `DSoMConfig.action_mode`."""
    if mode == "mask":
        return spaces.MultiBinary(teachers)
    if mode == "multidiscrete":
        return spaces.MultiDiscrete([2] * teachers)
    if mode == "discrete":
        return spaces.Discrete(2**teachers)
    # About zero, where the Gaussian policies of RL libraries begin.
    return spaces.Box(-1.0, 1.0, _shape(mode, teachers), np.float32)


def _shape(mode: str, teachers: int) -> tuple[int, ...]:
    """Of one action."""
    return {"discrete": (), "tempered": (teachers + 1,)}.get(mode, (teachers,))


def decode(mode: str, actions: Any, batch: int, teachers: int) -> Choice:
    """What a batch of actions says.

    Raises:
        ValueError: wrong shape, or a value outside the action space.
    """
    array = np.asarray(actions)
    expected = (batch, *_shape(mode, teachers))
    if array.shape != expected:
        raise ValueError(f"actions must have shape {expected} in mode {mode!r}, got {array.shape}")
    if mode in ("weights", "tempered"):
        # Written so that NaN, which compares with nothing, is refused too.
        if array.dtype.kind not in "biuf" or not (np.abs(array) <= 1).all():
            raise ValueError(
                f"actions must be numbers from -1 to 1 in mode {mode!r}, "
                f"got {array.dtype} {array.reshape(-1)[:8].tolist()}"
            )
        weights = ((array[:, :teachers] + 1) / 2).astype(np.float32)
        if mode == "weights":
            return Choice(weights)
        return Choice(weights, (MOST_TEMPERING ** array[:, -1]).astype(np.float32))
    top = 2**teachers - 1 if mode == "discrete" else 1
    # Stable-Baselines3 hands masks over as floats: their values count, not their type.
    whole = array.dtype.kind in "biuf" and bool((array == np.trunc(array)).all())
    if not whole or array.min() < 0 or array.max() > top:
        raise ValueError(
            f"actions must be whole numbers from 0 to {top} in mode {mode!r}, "
            f"got {array.dtype} {array.reshape(-1)[:8].tolist()}"
        )
    if mode == "discrete":
        bits = (array[:, None].astype(np.int64) >> np.arange(teachers)) & 1
        return Choice(bits.astype(np.float32))
    return Choice(array.astype(np.float32))


def action_masks(mode: str, allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which actions choose allowed teachers only, as invalid action masking wants it.

    Args:
        mode: `mask`, `multidiscrete` or `discrete`.
        allowed: bool `[batch, teachers]`, who may be chosen.

    Returns:
        bool `[batch, 2 * teachers]`, of every teacher in turn whether it may be left out (always)
        and whether it may be chosen; in mode `discrete` `[batch, 2**teachers]`, of every subset.

    Raises:
        ValueError: actions of this mode are no subsets.
    """
    if mode in ("weights", "tempered"):
        raise ValueError(f"action_mode: {mode!r} has no actions to forbid, only subsets have")
    batch, teachers = allowed.shape
    if mode == "discrete":
        forbidden = ~allowed @ (1 << np.arange(teachers))
        masks: NDArray[np.bool_] = (np.arange(2**teachers) & forbidden[:, None]) == 0
        return masks
    return np.stack([np.ones_like(allowed), allowed], axis=2).reshape(batch, 2 * teachers)
