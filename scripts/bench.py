"""Transitions per second of the native vector environment against Gymnasium's SyncVectorEnv.

    python scripts/bench.py --dataset emoji --out runs/bench.json

A row of ours is a row of one batch; SyncVectorEnv steps as many scalar environments, each with a
student of its own, one after the other. Repetitions alternate, so that both see the same machine;
the ratio of medians is what counts.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

import dsom_env as _registration  # noqa: F401 - registers DSoM-v0
from agents.command_line import run
from graphs.files import atomic_write

REWARDS = ("gate", "improvement")
SIZES = (16, 256)


def transitions_per_second(env: Any, steps: int) -> float:
    """Measured over `steps` random steps of an environment that was reset."""
    actions = [env.action_space.sample() for _ in range(steps)]
    started = time.perf_counter()
    for action in actions:
        env.step(action)
    return float(steps * env.num_envs / (time.perf_counter() - started))


def measure(dataset: str, reward: str, count: int, repetitions: int) -> dict[str, Any]:
    """Medians and their ratio for one reward and one number of sub-environments."""
    arguments: dict[str, Any] = {"dataset": dataset, "reward": reward}
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
    medians = statistics.median(ours), statistics.median(theirs)
    return {
        "reward": reward,
        "num_envs": count,
        "native": ours,
        "sync": theirs,
        "ratio": medians[0] / medians[1],
        "native_median": medians[0],
        "sync_median": medians[1],
    }


def main() -> None:
    """Measure, print the ratios, write JSON."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--dataset", default="emoji")
    command.add_argument("--repetitions", type=int, default=3)
    command.add_argument("--out", type=Path, help="JSON with every repetition")
    arguments = command.parse_args()
    if arguments.repetitions < 1:
        raise ValueError(f"--repetitions must be at least 1, got {arguments.repetitions}")
    rows = []
    print(f"{'reward':12} {'envs':>5} {'native/s':>10} {'sync/s':>10} {'ratio':>7}")
    for reward in REWARDS:
        for count in SIZES:
            row = measure(arguments.dataset, reward, count, arguments.repetitions)
            rows.append(row)
            print(
                f"{reward:12} {count:5} {row['native_median']:10.0f} {row['sync_median']:10.0f} "
                f"{row['ratio']:7.1f}"
            )
    if arguments.out:
        document = {
            "dataset": arguments.dataset,
            "machine": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "seed": 0,
            "versions": {name: version(name) for name in ("torch", "gymnasium", "numpy")},
            "rows": rows,
        }
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(arguments.out, json.dumps(document, indent=1).encode())


if __name__ == "__main__":
    run(main)
