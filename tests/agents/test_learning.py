"""A learner finds the known right masks on a planted graph; with shuffled rewards it does not."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import VectorWrapper
from stable_baselines3 import A2C, PPO

import dsom_env as _registration  # noqa: F401
from agents.hyperparameters import algorithm_arguments, load_hyperparameters
from agents.registry import AGENTS
from agents.reinforce import Reinforce
from dsom_env.sb3 import SB3VecEnv
from graphs import load_graph
from tests.agents.conftest import SMALL

TEACHERS = ["image", "text"]


class ShuffledRewards(VectorWrapper[Any, Any, Any]):
    """Pays each row what another one earned: nothing is left to learn."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.rng = np.random.default_rng(0)

    def step(self, actions: Any) -> Any:
        observation, rewards, *rest = self.env.step(actions)
        return observation, self.rng.permutation(rewards), *rest


def make(horizon: int = 4, mode: str = "mask") -> Any:
    """A frozen student, cross-fitted modality teachers; `gate` prices each mask at once."""
    return gym.make_vec(
        "DSoM-v0",
        num_envs=64,
        dataset=SMALL,
        teachers=TEACHERS,
        cotrain=False,
        folds=3,
        teacher_rank=8,
        rank=8,
        horizon=horizon,
        action_mode=mode,
        # All that there is to know, and the price as it is.
        hide=(),
        judged_folds=None,
        bonus=0.0,
    )


def learn_off_policy(algorithm: str, env: Any, rounds: int) -> Any:
    """As in its YAML."""
    sections = load_hyperparameters(algorithm, SMALL)
    learner = AGENTS[algorithm].learner
    assert learner is not None
    common = {"horizon": 4, "policy_kwargs": sections["policy"], "seed": 0, "device": "cpu"}
    model = learner(env, **common, **algorithm_arguments(sections))
    env.seed(0)
    return model.learn(64 * rounds)


def learn(algorithm: str, shuffled: bool, mode: str = "mask") -> Any:
    env = make(1 if algorithm == "reinforce" else 4, mode)
    env = SB3VecEnv(ShuffledRewards(env) if shuffled else env)
    if algorithm in ("sac", "td3"):
        return learn_off_policy(algorithm, env, 80 if shuffled else 250)
    common: dict[str, Any] = {"gamma": 0.0, "seed": 0, "device": "cpu", "learning_rate": 1e-3}
    # About as many gradient steps each: PPO makes 16 of every four rounds, the others one of each.
    rounds = 240 if algorithm == "ppo" else 1500
    # Where there is nothing to learn, there is nothing to wait for.
    rounds = rounds // 3 if shuffled else rounds
    # With less, both settle on all teachers for every query before they tell queries apart.
    entropy = 0.05 if algorithm == "a2c" else 0.2
    as_in_yaml = {"normalize_advantage": True, "use_rms_prop": False, "ent_coef": entropy}
    if algorithm == "ppo":
        model: Any = PPO("MlpPolicy", env, n_steps=4, batch_size=64, n_epochs=4, **common)
    elif algorithm == "a2c":
        model = A2C("MlpPolicy", env, n_steps=1, **as_in_yaml, **common)
    else:
        model = Reinforce(env, horizon=1, **as_in_yaml, **common)
    env.seed(0)
    return model.learn(64 * rounds)


def measure(model: Any, mode: str = "mask") -> tuple[float, float]:
    """Share of the head-room over random masks, and of choices of the one right modality.

    Head-room is up to the best mask of every query, which weights may pass, and tempered ones do.
    """
    env = make(mode=mode)
    observation, info = env.reset(seed=1)
    graph = load_graph(SMALL)
    assert graph.planted_mask is not None
    earned, by_chance, best, right = [], [], [], []
    masks = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], dtype=np.float32)
    for _ in range(12):
        with torch.no_grad():
            actions = model.predict(observation, deterministic=True)[0]
        base = env.unwrapped
        priced = np.stack(
            [
                base.lessons.reward.after_update(
                    base.lessons.lesson, np.tile(mask, (64, 1)), None, False
                )
                for mask in masks
            ]
        )
        by_chance.append(priced.mean(0))
        best.append(priced.max(0))
        truth = graph.planted_mask[info["relation"]]
        helpful = priced.max(0) > 0
        preferred = priced[[1, 2]].argmax(0)
        right.append(truth[np.arange(64), preferred][helpful])
        observation, rewards, *_ = env.step(actions)
        earned.append(rewards)
        info = {"relation": base.lessons.lesson.queries.relations}
    mean = [np.concatenate(part).mean() for part in (earned, by_chance, best)]
    return float((mean[0] - mean[1]) / (mean[2] - mean[1])), float(np.concatenate(right).mean())


@pytest.mark.parametrize(
    ("algorithm", "mode"),
    [
        *(("ppo", "mask"), ("a2c", "mask"), ("reinforce", "mask")),
        *(("sac", "weights"), ("td3", "weights")),
    ],
)
def test_real_rewards_teach_and_shuffled_ones_do_not(algorithm: str, mode: str) -> None:
    real, right = measure(learn(algorithm, False, mode), mode)
    shuffled, _ = measure(learn(algorithm, True, mode), mode)
    assert right > 0.7, "cross-fitted, the competent modality answers better"
    assert real > 0.9, "all teachers for every query would be 0.63"
    assert shuffled < real - 0.25


@pytest.mark.parametrize("algorithm", ["ppo", "sac", "td3"])
def test_learners_find_out_how_sharp_a_soft_label_pays(algorithm: str) -> None:
    real, _ = measure(learn(algorithm, False, "tempered"), "tempered")
    assert real > 1.05, "with the right mask, and nothing sharpened, it would be 1"
