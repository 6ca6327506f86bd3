"""Your own agents, one that learns and one that does not, in a comparison.

    python examples/own_agent.py

A policy is a class with `masks`; a learner is a function that makes a Stable-Baselines3 algorithm,
and its hyperparameters as YAML. `compare` runs trials in processes of their own, which import the
script that they were started from: so register at the top of a script, and compare where only the
first process comes. Prints the table of `scripts/compare.py`, with both beside `all` and `random`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3 import A2C

from agents.command_line import parse_setting
from agents.comparison import ComparisonConfig, compare
from agents.policies import MaskPolicy
from agents.registry import AGENTS, AgentSpec
from agents.trial_config import TrialConfig
from agents.verdicts import terminal_table
from dsom_env.classroom import Classroom, Lesson, Weights
from teachers.store import FEATURES


class Confident(MaskPolicy):
    """The teachers whose best answer has more than half of their probability."""

    def masks(self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator) -> Weights:
        """Masks of 0 and 1, float32 `[batch, teachers]`."""
        largest = classroom.store.features[lesson.rows][:, :, FEATURES.index("max_log_p")]
        return (largest > np.log(0.5)).astype(np.float32)


def actor_critic(env: Any, horizon: int, policy_kwargs: dict[str, Any], **kwargs: Any) -> A2C:
    """A learner: any algorithm with the interface of Stable-Baselines3's."""
    return A2C("MlpPolicy", env, policy_kwargs=policy_kwargs, **kwargs)


AGENTS["confident"] = AgentSpec("teachers that are sure", policy=Confident)
AGENTS["small-a2c"] = AgentSpec(
    "A2C with a small network",
    learner=actor_critic,
    hyperparameters="""
default:
  environment: {reward: filtered_log_gain, horizon: 4}
  algorithm: {n_steps: 4, gamma: 0.0, ent_coef: 0.05}
  policy: {net_arch: [16]}
""",
)


def main(
    out: Path, dataset: str = "emoji", epochs: int = 4, batch: int = 512, **settings: Any
) -> dict[str, Any]:
    """Compare four agents, print the table and return what `results.json` holds."""
    trial = TrialConfig("all", 0, dataset, None, epochs, batch, settings)
    agents = ("all", "random", "confident", "small-a2c")
    results = compare(ComparisonConfig(agents, (0,), trial), out, quiet=True)
    print(terminal_table(results))
    return results


if __name__ == "__main__":
    command = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    command.add_argument("--out", type=Path, help="folder that keeps results and report")
    command.add_argument("--dataset", default="emoji")
    command.add_argument("--epochs", type=int, default=4)
    command.add_argument("--batch", type=int, default=512)
    command.add_argument("--set", dest="settings", type=parse_setting, action="append", default=[])
    given = command.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        main(
            given.out or Path(temporary),
            given.dataset,
            given.epochs,
            given.batch,
            **dict(given.settings),
        )
