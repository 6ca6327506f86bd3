"""What decides a trial on a stream of tasks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium as gym

from agents.names import SINGLE, base_agent
from agents.registry import AgentSpec, agent_spec
from agents.trial_config import TrialConfig, environment_of, resolve
from dsom_env.continual_config import METHODS, ContinualConfig
from graphs.files import config_hash
from graphs.naming import unknown
from graphs.tasks import Arrival

FORMAT = 1
# Agents that do not learn, and need to know nothing of the whole graph before they begin.
STREAMING = ("none", "smooth", "all", "random", "complement", "oracle")


@dataclass(frozen=True)
class ContinualTrial:
    """Everything that decides the result of a trial on a stream of tasks.

    Attributes:
        method: of `ContinualConfig.METHODS`; `replay:12` is `replay` with 12 triples per relation.
        order: seed of the task order.
        tasks: how many.
        arrival: see `graphs.tasks.cut_tasks`.
        attention_weight: see `ContinualConfig`.
        trial: agent, seed, dataset, teachers, batch and settings; its epochs are those of each
            task, and its seed is the teachers' too.
    """

    method: str = "asymmetric"
    order: int = 0
    tasks: int = 5
    arrival: Arrival = "relation"
    attention_weight: float = ContinualConfig.attention_weight
    trial: TrialConfig = field(default_factory=lambda: TrialConfig("all"))

    @property
    def key(self) -> str:
        """Hash of the configuration, and of the code of what the user plugged in."""
        return config_hash({"format": FORMAT, **self.to_json(), "trial": self.trial.key})

    @property
    def seed(self) -> int:
        """Of student, teachers and agent."""
        return self.trial.seed

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the environment beside `num_envs`.

        Raises:
            ValueError: an unknown method, or one whose size is no whole number.
        """
        name, replay = split_method(self.method)
        trial = self.trial
        # A learner's YAML is for teachers that are judged by strangers' answers. Here are none, and
        # the environment's own defaults, unless something else is asked for.
        settled = environment_of(trial)
        for argument in {"reward", "hide"} - set(trial.settled):
            settled.pop(argument, None)
        return {
            "dataset": trial.dataset,
            "teachers": None if trial.teachers is None else list(trial.teachers),
            "tasks": self.tasks,
            "arrival": self.arrival,
            "order": self.order,
            "task_epochs": trial.epochs,
            "method": name,
            "replay": replay,
            "attention_weight": self.attention_weight,
            "teacher_seed": trial.seed,
            **settled,
        }

    def resolve(self) -> tuple[AgentSpec, tuple[str, ...]]:
        """The agent, and the teachers it chooses from; all arguments are checked on the way.

        Raises:
            ValueError: a bad argument, or an agent that has to know the whole graph before.
        """
        resolve(self.trial)
        env: Any = gym.make_vec("DSoM-Continual-v0", num_envs=self.trial.batch, **self.arguments)
        teachers: tuple[str, ...] = env.unwrapped.teachers
        spec = agent_spec(self.trial.agent, teachers)
        name = base_agent(self.trial.agent)
        if spec.learner is None and name not in STREAMING and not name.startswith(SINGLE):
            raise ValueError(
                f"agent: {name} prepares on the whole graph and cannot follow a stream of tasks; "
                f"expected one that learns, {SINGLE}<teacher>, or {', '.join(STREAMING)}"
            )
        if spec.learner is None:
            return spec, spec.teachers or teachers
        return spec, teachers

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON types."""
        plain = {
            "method": self.method,
            "order": self.order,
            "tasks": self.tasks,
            "arrival": self.arrival,
            "attention_weight": self.attention_weight,
        }
        return {**plain, "trial": self.trial.to_json()}

    def of(self, method: str, order: int, seed: int) -> ContinualTrial:
        """The same with another method, order and seed."""
        return replace(self, method=method, order=order, trial=replace(self.trial, seed=seed))


def split_method(text: str) -> tuple[str, int]:
    """`replay:12` as (`replay`, 12); without a number the default size.

    Raises:
        ValueError: no such method, or a size that is no whole number, or of one without a memory.
    """
    name, colon, size = text.partition(":")
    if name not in METHODS:
        raise unknown("methods", name, METHODS)
    if not colon:
        return name, ContinualConfig.replay
    if not size.isdecimal() or name in ("finetuning", "joint"):
        raise ValueError(
            f"methods: expected a number of triples per relation behind {name!r} where it has a "
            f"memory, as in replay:12, got {text!r}"
        )
    return name, int(size)
