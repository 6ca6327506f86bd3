"""Transitions per second of the native vector environment beside Gymnasium's SyncVectorEnv."""

from __future__ import annotations

import statistics
from typing import Any

import gymnasium as gym

import dsom_env as _registration  # noqa: F401 - registers DSoM-v0

from .measuring import Target, now, ratio, say

REWARDS = ("gate", "improvement")
# Sub-environments, and how many times as fast as scalar environments they should be.
FACTORS = {16: 10.0, 256: 30.0}


def transitions_per_second(env: Any, steps: int) -> float:
    """Measured over `steps` random steps of an environment that was reset."""
    actions = [env.action_space.sample() for _ in range(steps)]
    started = now()
    for action in actions:
        env.step(action)
    return float(steps * env.num_envs / (now() - started))


def measure(dataset: str, repetitions: int) -> tuple[dict[str, Any], list[Target]]:
    """Both rewards, both sizes.

    A row of ours is a row of one batch; SyncVectorEnv steps as many scalar environments, each
    with a student of its own, one after the other.
    """
    rows, targets = [], []
    for reward in REWARDS:
        for count, factor in FACTORS.items():
            row = _measure(dataset, reward, count, repetitions)
            rows.append(row)
            say(f"env: {reward}, {count}: {row['ratio']:.1f} times SyncVectorEnv")
            name = f"transitions/s, {count} environments, {reward} / SyncVectorEnv"
            targets.append(Target(name, row["ratio"], factor, False))
    return {"dataset": dataset, "rows": rows}, targets


def _measure(dataset: str, reward: str, count: int, repetitions: int) -> dict[str, Any]:
    arguments: dict[str, Any] = {"dataset": dataset, "reward": reward, "judged_folds": None}
    native = gym.make_vec("DSoM-v0", num_envs=count, **arguments)
    peer = gym.make_vec("DSoM-v0", num_envs=count, vectorization_mode="sync", **arguments)
    for env in (native, peer):
        env.reset(seed=0)
        env.action_space.seed(0)
        env.step(env.action_space.sample())
    ours, theirs = [], []
    for _ in range(repetitions):
        ours.append(transitions_per_second(native, 8))
        theirs.append(transitions_per_second(peer, 1))
    for env in (native, peer):
        env.close()
    return {
        "reward": reward,
        "num_envs": count,
        "native": ours,
        "sync": theirs,
        "ratio": ratio(ours, theirs),
        "native_median": statistics.median(ours),
        "sync_median": statistics.median(theirs),
    }
