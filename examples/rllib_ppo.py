"""RLlib's PPO on the native vector environment.

    pip install 'ray[rllib]'
    python examples/rllib_ppo.py

RLlib's env runner steps a Gymnasium vector environment as it is: `NEXT_STEP` autoreset, actions of
`MultiDiscrete`, and all sub-environments in one call, since they share a student. With runners of
its own processes there would be as many students, so that there is none (`num_env_runners=0`).
Prints the mean reward of an episode, early and late, and what the student answers beside one that
every teacher taught.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import ray
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.tune.registry import register_env

from dsom_env.env import make, make_vec

# What RLlib asks of an environment, and of a query its relation.
SETTINGS = {
    "autoreset_mode": "next_step",
    "action_mode": "multidiscrete",
    "horizon": 16,
    "hide": ["answer", "student", "teachers", "frequency", "modalities"],
    "relation_code": 32,
    "bonus": 0.0,
}


def make_for_rllib(context: Any) -> Any:
    """RLlib asks for `num_envs` where it wants them all at once."""
    return make_vec(**context) if "num_envs" in context else make(**context)


def configuration(
    dataset: str, num_envs: int, rounds: int, seed: int, settings: dict[str, Any]
) -> PPOConfig:
    """PPO that learns from `rounds` steps of the vector environment at a time."""
    register_env("dsom", make_for_rllib)
    return (
        PPOConfig()
        .environment("dsom", env_config={"dataset": dataset, **SETTINGS, **settings})
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=num_envs,
            gym_env_vectorize_mode="vector_entry_point",
            rollout_fragment_length=rounds,
        )
        .training(
            gamma=0.0,
            lambda_=1.0,
            lr=3e-3,
            train_batch_size_per_learner=rounds * num_envs,
            minibatch_size=max(rounds * num_envs // 4, 1),
            num_epochs=4,
            entropy_coeff=0.01,
            vf_loss_coeff=0.5,
        )
        .rl_module(model_config={"fcnet_hiddens": [64, 64]})
        .debugging(seed=seed)
    )


def taught_by_all(
    dataset: str, num_envs: int, updates: int, seed: int, settings: dict[str, Any]
) -> float:
    """Test MRR of a student with as many updates."""
    venv: Any = make_vec(num_envs, dataset=dataset, **SETTINGS, **settings)
    venv.reset(seed=seed)
    everyone = np.ones((num_envs, len(venv.unwrapped.teachers)), dtype=np.int64)
    while venv.unwrapped.classroom.trainer.steps < updates:
        venv.step(everyone)
    mrr: float = venv.unwrapped.classroom.evaluate("test")["mrr"]
    return mrr


def main(
    dataset: str = "emoji",
    iterations: int = 16,
    num_envs: int = 256,
    rounds: int = 16,
    seed: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """Train, print what came out, and return it; `settings` are of the environment."""
    config = configuration(dataset, num_envs, rounds, seed, settings)
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    try:
        algorithm: PPO = config.build_algo()
        returns = []
        for _ in range(iterations):
            found = algorithm.train()["env_runners"]
            returns.append(float(found["episode_return_mean"]) / float(found["episode_len_mean"]))
        classroom = algorithm.env_runner.env.unwrapped.classroom
        updates, mrr = classroom.trainer.steps, classroom.evaluate("test")["mrr"]
        algorithm.stop()
    finally:
        ray.shutdown()
    by_all = taught_by_all(dataset, num_envs, updates, seed, settings)
    print(f"reward {returns[0]:+.3f} nats at first, {returns[-1]:+.3f} at last")
    print(f"student's test MRR {mrr:.4f} after {updates} updates; taught by all {by_all:.4f}")
    return {"reward": returns, "updates": updates, "mrr": mrr, "all": by_all}


if __name__ == "__main__":
    main()
