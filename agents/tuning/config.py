"""What a study searches, for whom, and on what; checked before anything is trained."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents.registry import AgentSpec
from agents.trial_config import TrialConfig, changeable, hyperparameters_of, resolve
from agents.tuning.space import Space, by_section, check_names, flat, read_space
from dsom_env.config import DSoMConfig
from graphs.files import config_hash

FORMAT = 1


@dataclass(frozen=True)
class TuningConfig:
    """Everything that decides a study, but for its length.

    Attributes:
        trial: the agent and what is fixed, without changes; its seed is ignored.
        seeds: distinct; every choice trains one student from each.
        space: what is searched, without what `trial` fixes.
        source: what errors call the space.
        prune: whether choices that lag behind are given up.
        seed: of the sampler.
    """

    trial: TrialConfig
    seeds: tuple[int, ...]
    space: Space
    source: str = "space"
    prune: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse repeated seeds, changes beside the space's, and a space with nothing in it."""
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must be distinct and at least one, got {list(self.seeds)}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if self.trial.changes:
            raise ValueError("what a study changes is in its space: its trial has no changes")
        if not self.space:
            raise ValueError(f"{self.source}: nothing is left to search")

    @classmethod
    def make(
        cls,
        trial: TrialConfig,
        seeds: tuple[int, ...],
        path: Path | None = None,
        prune: bool = True,
        seed: int = 0,
    ) -> TuningConfig:
        """With the space in a file, or the agent's own, less what the trial fixes.

        Raises:
            ValueError: see `read_space`; or bad seeds, or a space with nothing in it.
            OSError: the file cannot be read.
        """
        space, source = read_space(trial.agent, path)
        fixed = flat({"environment": trial.settled})
        searched = {key: parameter for key, parameter in space.items() if key not in fixed}
        return cls(trial, seeds, searched, source, prune, seed)

    @property
    def key(self) -> str:
        """Hash of the configuration, and of what it takes from the agent's YAML."""
        replaced = {*flat({"environment": self.trial.settled}), *self.space}
        present = flat(hyperparameters_of(self.trial))
        taken = {key: value for key, value in present.items() if key not in replaced}
        trial = replace(self.trial, seed=0).key
        return config_hash({"format": FORMAT, **self.to_json(), "trial": trial, "taken": taken})

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON types."""
        trial = self.trial.to_json()
        del trial["seed"]
        return {
            **trial,
            "seeds": list(self.seeds),
            "space": by_section({key: part.to_json() for key, part in self.space.items()}),
            "prune": self.prune,
            "seed": self.seed,
        }


def check_tuning(config: TuningConfig) -> None:
    """Refuse a study that would come upon a bad choice, before any work.

    Raises:
        ValueError: see `resolve`; or the space has an unknown name, a value that the environment
            refuses, or values that do not go together.
    """
    spec, teachers = resolve(config.trial)
    present = hyperparameters_of(config.trial)
    check_names(config.space, config.source, changeable(config.trial, spec))
    searched = by_section(config.space).get("environment", {})
    settled = present["environment"] | config.trial.settled
    rest = {name: value for name, value in settled.items() if name not in searched}
    rest |= {"dataset": config.trial.dataset, "teachers": teachers}
    try:
        for name, parameter in searched.items():
            for value in parameter.ends():
                resolve(replace(config.trial, changes={"environment": {name: value}}))
                DSoMConfig.from_kwargs(**rest, **{name: value})
        for one, other in itertools.combinations(searched, 2):
            for pair in itertools.product(searched[one].ends(), searched[other].ends()):
                DSoMConfig.from_kwargs(**rest, **{one: pair[0], other: pair[1]})
        _check_constraint(config, spec, present["algorithm"])
    except ValueError as error:
        raise ValueError(f"{config.source}: {error}") from None


def _check_constraint(config: TuningConfig, spec: AgentSpec, present: Mapping[str, Any]) -> None:
    if spec.constraint is None:
        return
    names = spec.constraint.names
    searched = [config.space.get(f"algorithm.{name}") for name in names]
    samples = (
        (present[name],) if parameter is None else parameter.samples()
        for name, parameter in zip(names, searched, strict=True)
    )
    for values in itertools.product(*samples):
        spec.constraint.check(config.trial.batch, **dict(zip(names, values, strict=True)))
