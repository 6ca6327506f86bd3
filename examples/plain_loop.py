"""A policy in a plain loop, without any reinforcement-learning library.

    python examples/plain_loop.py

A coin per teacher, whose odds are linear in what the environment shows of a query, learns by
REINFORCE (Williams 1992) in a few lines of NumPy; the mean reward of the batch is its baseline. The
graph is planted: on every relation one modality tells the truth and another one misleads, so that
how often the right teacher is trusted can be counted. Prints rewards and these counts, early and
late, and what the student answers beside one that every teacher taught.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

import dsom_env as _registration  # noqa: F401 - registers DSoM-v0
from graphs.true_masks import true_masks

SETTINGS = {
    # Of each query its relation, as a code; the price of a choice as it is, without any bonus.
    "hide": ["answer", "student", "teachers", "frequency", "modalities"],
    "relation_code": 32,
    "bonus": 0.0,
    # Of the four teachers the two that are right or wrong by design.
    "teachers": ["image", "text"],
    "teacher_rank": 16,
}


class Coins:
    """Chooses every teacher by a coin of its own.

    Args:
        columns: of an observation.
        teachers: how many.
        seed: of the coins.
    """

    def __init__(self, columns: int, teachers: int, seed: int) -> None:
        self.weights = np.zeros((columns, teachers))
        self.bias = np.zeros(teachers)
        self.rng = np.random.default_rng(seed)

    def odds(self, observation: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probability of choosing each teacher, `[batch, teachers]`."""
        return 1 / (1 + np.exp(-(observation @ self.weights + self.bias)))

    def choose(self, observation: NDArray[np.float32]) -> NDArray[np.int8]:
        """Masks of 0 and 1, `[batch, teachers]`."""
        odds = self.odds(observation)
        return (self.rng.random(odds.shape) < odds).astype(np.int8)

    def learn(
        self,
        observation: NDArray[np.float32],
        masks: NDArray[np.int8],
        rewards: NDArray[np.float64],
        rate: float = 1.0,
    ) -> None:
        """One step up the gradient of the expected reward."""
        advantage = (rewards - rewards.mean()) / (rewards.std() + 1e-8)
        slopes = advantage[:, None] * (masks - self.odds(observation)) / len(rewards)
        self.weights += rate * observation.T @ slopes
        self.bias += rate * slopes.sum(axis=0)


def teach(
    dataset: str, epochs: float, batch: int, seed: int, learn: bool, **settings: Any
) -> dict[str, Any]:
    """Train one student: by coins that learn, or by every teacher.

    Returns:
        Per update the mean `reward` and the share of `wrong` choices, and the student's `mrr` on
        test at the end.
    """
    arguments = {"dataset": dataset, **SETTINGS, **settings}
    venv: Any = gym.make_vec("DSoM-v0", num_envs=batch, **arguments)
    observation, _ = venv.reset(seed=seed)
    classroom = venv.unwrapped.classroom
    truth = true_masks(classroom.graph, classroom.teachers)
    if truth is None:
        raise ValueError(f"{dataset}: expected a planted graph, whose right masks are known")
    coins = Coins(observation.shape[1], len(classroom.teachers), seed)
    rewards, wrong = [], []
    for _ in range(round(epochs * len(classroom.taught_rows) / batch)):
        masks = coins.choose(observation)
        if not learn:
            masks[:] = 1
        following, reward, _, _, info = venv.step(masks)
        if learn:
            coins.learn(observation, masks, reward)
        rewards.append(float(reward.mean()))
        wrong.append(float(truth.wrong_bits(info["relation"], masks.astype(np.bool_)).mean()))
        observation = following
    # Nothing was selected by test, which is read this once.
    return {"reward": rewards, "wrong": wrong, "mrr": classroom.evaluate("test")["mrr"]}


def main(
    dataset: str = "planted:entities=400",
    epochs: float = 30,
    batch: int = 128,
    seed: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """Train two students, print what came out, return it; `settings` are of the environment."""
    taught = teach(dataset, epochs, batch, seed, learn=True, **settings)
    by_all = teach(dataset, epochs, batch, seed, learn=False, **settings)
    tenth = max(len(taught["reward"]) // 10, 1)
    for name, places in (("first", slice(0, tenth)), ("last", slice(-tenth, None))):
        reward, wrong = (np.mean(taught[key][places]) for key in ("reward", "wrong"))
        print(f"{name:>5} tenth: reward {reward:+.3f} nats, wrong choices {wrong:.2f} (chance .50)")
    print(f"student's test MRR {taught['mrr']:.4f}; taught by all teachers {by_all['mrr']:.4f}")
    return {"taught": taught, "all": by_all, "tenth": tenth}


if __name__ == "__main__":
    main()
