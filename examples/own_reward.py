"""Your own reward: one class and one line.

    python examples/own_reward.py

Says what a choice is worth once the student was updated; `Reward` has what else can be looked at.
This one pays for modesty: one over the number of teachers, and nothing for none. An agent that
learns from it ends with about one teacher for every query, and what that does to the student is
printed beside a student whom all teach.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.trial import run_trial
from agents.trial_config import TrialConfig
from dsom_env.classroom import Lesson, Weights
from dsom_env.rewards import REWARDS, Reward
from students.training import StepReport


class FewTeachers(Reward):
    """One over the number of teachers; nothing for none."""

    def after_update(
        self, lesson: Lesson, weights: Weights, report: StepReport, ends: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Of each query in the batch, float64 `[batch]`."""
        chosen = weights.sum(axis=1)
        return np.where(chosen > 0, 1.0 / np.maximum(chosen, 1), 0.0)


REWARDS["few-teachers"] = FewTeachers


def main(
    dataset: str = "emoji", epochs: int = 6, batch: int = 512, **settings: Any
) -> dict[str, Any]:
    """Train two students, print and return their results; `settings` are of the environment."""
    results = {}
    for agent in ("all", "ppo"):
        reward = "few-teachers" if agent == "ppo" else None
        trial = TrialConfig(agent, 0, dataset, None, epochs, batch, settings, reward)
        results[agent] = run_trial(trial)
    rewards = results["ppo"]["curves"]["reward"]
    count = sum(results["ppo"]["mean_mask"].values())
    print(f"reward {rewards[0]:.2f} in the first epoch, {rewards[-1]:.2f} in the last")
    print(
        f"ppo chose {count:.2f} teachers a query; its student's test MRR "
        f"{results['ppo']['test']['mrr']:.4f}"
    )
    print(
        f"taught by all {len(results['all']['mean_mask'])}: test MRR "
        f"{results['all']['test']['mrr']:.4f}"
    )
    return results


if __name__ == "__main__":
    main()
