"""TorchRL's PPO: `GymEnv` for one query at a time, `GymWrapper` for the native vector environment.

    pip install torchrl
    python examples/torchrl_ppo.py

TorchRL resets sub-environments itself, by a mask (`autoreset_mode="disabled"`). A `GymEnv` is made
by name, as any of Gymnasium's; what learns is given the vector environment, in which a batch of
queries shares one student. Prints the mean reward, early and late, and what the student answers
beside one that every teacher taught.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from tensordict.nn import TensorDictModule
from torch import Tensor
from torch.distributions import Bernoulli, Independent
from torchrl.envs import GymEnv, GymWrapper
from torchrl.modules import MLP, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

import dsom_env as _registration  # noqa: F401 - registers DSoM-v0

SETTINGS = {
    "autoreset_mode": "disabled",
    "horizon": 4,
    "hide": ["answer", "student", "teachers", "frequency", "modalities"],
    "relation_code": 32,
    "bonus": 0.0,
}


class Coins(Independent):
    """A coin per teacher, in the integers of `MultiBinary`."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__(Bernoulli(logits=logits), 1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Masks of 0 and 1."""
        return super().sample(torch.Size(sample_shape)).to(torch.int8)

    def log_prob(self, value: Tensor) -> Tensor:
        """Of masks, `[batch]`."""
        return super().log_prob(value.to(torch.float32))


def one_at_a_time(dataset: str, steps: int = 8, **settings: Any) -> Any:
    """A rollout of random choices in a `GymEnv`."""
    arguments = {**SETTINGS, **settings, "dataset": dataset}
    del arguments["autoreset_mode"]
    env = GymEnv("DSoM-v0", **arguments)
    env.set_seed(0)
    rollout = env.rollout(steps, break_when_any_done=False)
    env.close()
    return rollout


def teach_all(dataset: str, num_envs: int, updates: int, seed: int, **settings: Any) -> float:
    """Test MRR of a student with as many updates that every teacher taught."""
    arguments = {**SETTINGS, **settings, "dataset": dataset, "autoreset_mode": "same_step"}
    venv: Any = gym.make_vec("DSoM-v0", num_envs=num_envs, **arguments)
    venv.reset(seed=seed)
    everyone = np.ones((num_envs, len(venv.unwrapped.teachers)), dtype=np.int8)
    for _ in range(updates):
        venv.step(everyone)
    mrr: float = venv.unwrapped.classroom.evaluate("test")["mrr"]
    return mrr


def main(
    dataset: str = "emoji",
    iterations: int = 60,
    num_envs: int = 256,
    seed: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """Train, print what came out, and return it; `settings` are of the environment."""
    torch.manual_seed(seed)  # TorchRL's modules draw from the global generator alone
    scalar = one_at_a_time(dataset, **settings)
    print(
        f"GymEnv: {len(scalar)} queries, one at a time, reward "
        f"{scalar['next', 'reward'].mean().item():+.3f}"
    )
    venv: Any = gym.make_vec(
        "DSoM-v0", num_envs=num_envs, **{**SETTINGS, **settings, "dataset": dataset}
    )
    env = GymWrapper(venv)
    env.set_seed(seed)
    columns, teachers = env.observation_spec["observation"].shape[-1], len(venv.unwrapped.teachers)
    actor = ProbabilisticActor(
        TensorDictModule(
            MLP(in_features=columns, out_features=teachers, num_cells=[64, 64]),
            in_keys=["observation"],
            out_keys=["logits"],
        ),
        in_keys=["logits"],
        distribution_class=Coins,
        return_log_prob=True,
    )
    critic = ValueOperator(MLP(in_features=columns, out_features=1, num_cells=[64, 64]))
    advantage = GAE(gamma=0.0, lmbda=1.0, value_network=critic, average_gae=True)
    loss = ClipPPOLoss(actor, critic, entropy_coeff=0.01, critic_coeff=0.5)
    optimiser = torch.optim.Adam(loss.parameters(), lr=3e-3)
    horizon = int(SETTINGS["horizon"])
    rewards = []
    for _ in range(iterations):
        with torch.no_grad():
            data = env.rollout(horizon, actor, break_when_any_done=False)
            advantage(data)
        rewards.append(data["next", "reward"].mean().item())
        flat = data.reshape(-1)
        for _ in range(4):
            for rows in torch.randperm(len(flat)).chunk(4):
                values = loss(flat[rows])
                total = sum(v for name, v in values.items() if name.startswith("loss_"))
                optimiser.zero_grad()
                total.backward()
                optimiser.step()
    classroom = venv.unwrapped.classroom
    updates, mrr = classroom.trainer.steps, classroom.evaluate("test")["mrr"]
    by_all = teach_all(dataset, num_envs, updates, seed, **settings)
    tenth = max(iterations // 10, 1)
    print(
        f"reward {np.mean(rewards[:tenth]):+.3f} nats at first, "
        f"{np.mean(rewards[-tenth:]):+.3f} at last"
    )
    print(f"student's test MRR {mrr:.4f} after {updates} updates; taught by all {by_all:.4f}")
    return {"scalar": scalar, "reward": rewards, "updates": updates, "mrr": mrr, "all": by_all}


if __name__ == "__main__":
    main()
