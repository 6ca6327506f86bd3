"""Proximal policy optimisation in one file, as CleanRL writes it: torch and nothing else.

    python examples/cleanrl_ppo.py

The native vector environment is the batch: there is no wrapper, no process and no loop over sub-
environments. Rollouts, generalised advantages, clipped losses and the optimiser are all here, to be
read from top to bottom and changed (Schulman et al. 2017; the order of the parts is that of
CleanRL, Huang et al. 2022). The graph is planted: on every relation one modality tells the truth
and another one misleads, so that the right choices are known. Prints rewards and wrong choices,
early and late, and what the student answers beside one that every teacher taught.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli

import dsom_env as _registration  # noqa: F401 - registers DSoM-v0
from graphs.true_masks import true_masks


@dataclass(frozen=True)
class Args:
    """Hyperparameters, and what is taught."""

    dataset: str = "planted:entities=400"
    epochs: float = 30
    num_envs: int = 128
    seed: int = 0
    teacher_rank: int = 16
    learning_rate: float = 3e-3
    num_steps: int = 4
    gamma: float = 0.0  # a choice is paid at once
    gae_lambda: float = 1.0
    num_minibatches: int = 4
    update_epochs: int = 4
    clip_coef: float = 0.2
    ent_coef: float = 0.01
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5

    def environment(self) -> dict[str, Any]:
        """Arguments of the environment: what is seen of a query is its relation."""
        return {
            "dataset": self.dataset,
            "teachers": ["image", "text"],
            "teacher_rank": self.teacher_rank,
            "hide": ["answer", "student", "teachers", "frequency", "modalities"],
            "relation_code": 32,
            "horizon": self.num_steps,
            "bonus": 0.0,
        }


def layer_init(layer: nn.Linear, std: float = 2**0.5) -> nn.Linear:
    """Orthogonal weights, zero biases."""
    nn.init.orthogonal_(layer.weight, std)
    nn.init.zeros_(layer.bias)
    return layer


class Agent(nn.Module):
    """Actor and critic; an action is a coin per teacher."""

    def __init__(self, columns: int, teachers: int) -> None:
        super().__init__()
        self.critic = nn.Sequential(
            layer_init(nn.Linear(columns, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, 1), std=1.0),
        )
        self.actor = nn.Sequential(
            layer_init(nn.Linear(columns, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, teachers), std=0.01),
        )

    def act(self, seen: Tensor, action: Tensor | None = None) -> tuple[Tensor, ...]:
        """Action, its log-probability, the entropy and the value, each `[batch, ...]`."""
        coins = Bernoulli(logits=self.actor(seen))
        action = coins.sample() if action is None else action
        log_prob, entropy = coins.log_prob(action).sum(1), coins.entropy().sum(1)
        return action, log_prob, entropy, self.critic(seen).squeeze(1)


def train(args: Args) -> dict[str, Any]:
    """Teach one student; per update the mean `reward` and share of `wrong` choices; its `mrr`."""
    torch.manual_seed(args.seed)  # the whole program's: a library must not, a program may
    rng = np.random.default_rng(args.seed)
    envs: Any = gym.make_vec("DSoM-v0", num_envs=args.num_envs, **args.environment())
    first, _ = envs.reset(seed=args.seed)
    classroom = envs.unwrapped.classroom
    truth = true_masks(classroom.graph, classroom.teachers)
    agent = Agent(first.shape[1], len(classroom.teachers))
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)
    steps, batch = args.num_steps, args.num_steps * args.num_envs
    obs = torch.zeros(steps, *first.shape)
    actions = torch.zeros(steps, args.num_envs, len(classroom.teachers))
    logprobs, rewards, dones, values = torch.zeros(4, steps, args.num_envs)
    next_obs, next_done = torch.from_numpy(first), torch.zeros(args.num_envs)
    curves: dict[str, list[float]] = {"reward": [], "wrong": []}
    for iteration in range(1, (updates := updates_of(args, classroom) // steps) + 1):
        optimizer.param_groups[0]["lr"] = args.learning_rate * (1 - (iteration - 1) / updates)
        for step in range(steps):
            obs[step], dones[step] = next_obs, next_done
            with torch.no_grad():
                actions[step], logprobs[step], _, values[step] = agent.act(next_obs)
            masks = actions[step].to(torch.int8).numpy()
            seen, reward, terminated, truncated, info = envs.step(masks)
            rewards[step] = torch.from_numpy(reward)
            next_obs, next_done = torch.from_numpy(seen), torch.from_numpy(terminated | truncated)
            curves["reward"].append(float(reward.mean()))
            if truth is not None:
                wrong = truth.wrong_bits(info["relation"], masks.astype(np.bool_))
                curves["wrong"].append(float(wrong.mean()))
        with torch.no_grad():
            next_value = agent.act(next_obs)[3]
            advantages, last = torch.zeros_like(rewards), torch.zeros(args.num_envs)
            for t in reversed(range(steps)):
                after = next_value if t == steps - 1 else values[t + 1]
                over = next_done if t == steps - 1 else dones[t + 1]
                alive = 1.0 - over.float()
                delta = rewards[t] + args.gamma * after * alive - values[t]
                last = delta + args.gamma * args.gae_lambda * alive * last
                advantages[t] = last
            returns = advantages + values
        flat = [part.reshape(batch, *part.shape[2:]) for part in (obs, actions)]
        old, gains, targets = (part.reshape(batch) for part in (logprobs, advantages, returns))
        for _ in range(args.update_epochs):
            for part in np.array_split(rng.permutation(batch), args.num_minibatches):
                _, new, entropy, value = agent.act(flat[0][part], flat[1][part])
                ratio = (new - old[part]).exp()
                gain = gains[part]
                gain = (gain - gain.mean()) / (gain.std() + 1e-8)
                clipped = ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)
                policy_loss = -torch.min(gain * ratio, gain * clipped).mean()
                value_loss = 0.5 * (value - targets[part]).square().mean()
                loss = policy_loss - args.ent_coef * entropy.mean() + args.vf_coef * value_loss
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
                optimizer.step()
    # Nothing was selected by test, which is read this once.
    return {**curves, "mrr": classroom.evaluate("test")["mrr"]}


def updates_of(args: Args, classroom: Any) -> int:
    """Updates of the student: so many epochs."""
    return max(round(args.epochs * len(classroom.taught_rows) / args.num_envs), args.num_steps)


def taught_by_all(args: Args) -> float:
    """Test MRR of a student with the same beginning, order of queries and budget."""
    envs: Any = gym.make_vec("DSoM-v0", num_envs=args.num_envs, **args.environment())
    envs.reset(seed=args.seed)
    classroom = envs.unwrapped.classroom
    masks = np.ones((args.num_envs, len(classroom.teachers)), dtype=np.int8)
    for _ in range(updates_of(args, classroom) // args.num_steps * args.num_steps):
        envs.step(masks)
    mrr: float = classroom.evaluate("test")["mrr"]
    return mrr


def main(**settings: Any) -> dict[str, Any]:
    """Train, print what came out, and return it; `settings` are those of `Args`."""
    args = Args(**settings)
    found, by_all = train(args), taught_by_all(args)
    tenth = max(len(found["reward"]) // 10, 1)
    for name, places in (("first", slice(0, tenth)), ("last", slice(-tenth, None))):
        line = f"{name:>5} tenth: reward {np.mean(found['reward'][places]):+.3f} nats"
        if found["wrong"]:
            line += f", wrong choices {np.mean(found['wrong'][places]):.2f} (chance .50)"
        print(line)
    print(f"student's test MRR {found['mrr']:.4f}; taught by all teachers {by_all:.4f}")
    return {**found, "all": by_all, "tenth": tenth}


if __name__ == "__main__":
    main()
