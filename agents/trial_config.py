"""What decides a trial: its configuration, checked before any work, and what follows from it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import gymnasium as gym

import dsom_env as _registration  # noqa: F401 - registers DSoM-v0
from agents.hyperparameters import (
    REHEARSAL,
    SECTIONS,
    Sections,
    load_hyperparameters,
    parse_hyperparameters,
)
from agents.names import base_agent, is_variant
from agents.oracles import strangers_folds
from agents.registry import AgentSpec, agent_spec, known_spec
from dsom_env.config import FROZEN_REWARDS, MOST_BATCH, MOST_STEPS, DSoMConfig
from dsom_env.rewards import REWARDS
from dsom_env.stream import taught_graph
from dsom_env.vector_env import DSoMVectorEnv
from graphs import MultimodalGraph, load_graph
from graphs.files import config_hash
from graphs.naming import unknown
from graphs.numbers import is_number
from graphs.plugged_in import plugged_in_code
from students.registry import STUDENTS
from teachers.cached_store import open_store
from teachers.junior import is_junior, junior_key
from teachers.registry import TEACHERS

FORMAT = 1
# NumPy's older generators, which Gymnasium's spaces are seeded by, take no larger ones.
MOST_SEED = 2**32


@dataclass(frozen=True)
class TrialConfig:
    """Everything that decides a trial's result.

    Attributes:
        agent: name in the zoo; with changes it may be that of a variant, as `ppo@short` of `ppo`.
        seed: of the student's initial weights, the order of its queries, and the agent.
        dataset: name or path of the graph.
        teachers: names; None for all that the graph has.
        epochs: the student's budget.
        batch: queries per student update, and sub-environments.
        environment: further arguments of `DSoMConfig`, the same for every agent compared; they win
            over the environment in a learning agent's YAML.
        reward: replaces the reward in the agent's YAML; None keeps it.
        changes: values by section, of this agent alone: an `environment`, and of a learner an
            `algorithm` and a `policy`. They win over all the others, key by key.
    """

    agent: str
    seed: int = 0
    dataset: str = "emoji"
    teachers: tuple[str, ...] | None = None
    epochs: int = 20
    batch: int = 512
    environment: dict[str, Any] = field(default_factory=dict)
    reward: str | None = None
    changes: Sections = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse sizes below one and negative seeds."""
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        if self.batch > MOST_BATCH:
            raise ValueError(f"batch must be at most {MOST_BATCH}, got {self.batch}")
        if self.epochs > MOST_STEPS:
            raise ValueError(f"epochs must be at most {MOST_STEPS}, got {self.epochs}")
        if self.seed < 0:
            raise ValueError(f"seeds must not be negative, got {self.seed!r}")
        if self.seed >= MOST_SEED:
            raise ValueError(f"seeds must be less than {MOST_SEED}, got {self.seed}")

    @property
    def key(self) -> str:
        """Hash of the configuration, and of the code of what the user plugged in."""
        code = _plugged_in(self)
        known = {"format": FORMAT, **self.to_json()}
        return config_hash(known | {"code": code} if code else known)

    @property
    def settled(self) -> dict[str, Any]:
        """Arguments of the environment that win over those in the agent's YAML."""
        reward = {"reward": self.reward} if self.reward else {}
        return reward | self.environment | self.changes.get("environment", {})

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON types."""
        plain = asdict(self)
        # Keys of trials without any are those from before there could be any.
        if not self.changes:
            del plain["changes"]
        return plain


def _plugged_in(config: TrialConfig) -> dict[str, str]:
    """Hashes by name of what takes part, or may, and does not come from these packages."""
    spec = known_spec(config.agent)
    things: dict[str, Any] = {}
    if spec is not None:
        things["agent"] = spec.policy or spec.learner
    settled = config.settled
    things["student"] = STUDENTS.get(settled.get("student", DSoMConfig.student))
    # An agent's YAML may choose the reward, and a graph its teachers.
    reward = settled.get("reward")
    rewards = [reward] if reward else list(REWARDS)
    teachers = config.teachers if config.teachers is not None else tuple(TEACHERS)
    things |= {f"reward {name}": REWARDS.get(name) for name in rewards}
    things |= {f"teacher {name}": TEACHERS.get(name) for name in teachers}
    hashes = {name: plugged_in_code(thing) for name, thing in things.items() if thing is not None}
    code = {name: value for name, value in hashes.items() if value is not None}
    code |= {f"teacher {name}": junior_key(name) for name in teachers if is_junior(name)}
    if spec is not None and spec.hyperparameters is not None:
        code["hyperparameters"] = spec.hyperparameters
    if spec is not None and spec.code is not None:
        code["weights"] = spec.code
    return code


def resolve(config: TrialConfig) -> tuple[AgentSpec, tuple[str, ...]]:
    """The agent and the teachers it chooses from.

    Raises:
        ValueError: unknown dataset, teacher, agent or keyword, or a bad value: all arguments of
            the environment are checked here, before any work.
    """
    _check_settings(config.environment)
    common = replace(config, changes={}) if config.changes else config
    # Who is judged is a learner's business, and not known yet.
    teachers = _teachers_of(common, {"judged_folds": None} | common.settled)
    spec = agent_spec(config.agent, teachers)
    if config.changes:
        _check_changes(config, spec)
    elif is_variant(config.agent):
        raise ValueError(f"{config.agent}: a variant needs changes of {base_agent(config.agent)}")
    # The values, which a learner's YAML and the changes have a say in.
    environment = environment_of(config)
    env = _made(config, environment)
    if spec.check is not None:
        spec.check(env)
    if not environment.get("cotrain", True):
        raise ValueError("cotrain: a trial needs a student that learns, got False")
    if spec.learner:
        rehearsal_of(config)
    mode = config.settled.get("action_mode")
    # Policies that do not learn write masks, whatever form an action has.
    if spec.learner and mode is not None and mode not in spec.action_modes:
        raise ValueError(
            f"action_mode: {config.agent} cannot act in {mode!r}, only in "
            f"{' or '.join(map(repr, spec.action_modes))}"
        )
    return spec, spec.teachers or teachers


def _teachers_of(config: TrialConfig, environment: Mapping[str, Any]) -> tuple[str, ...]:
    return _made(config, environment).teachers


def _made(config: TrialConfig, environment: Mapping[str, Any]) -> DSoMVectorEnv:
    """The environment, which refuses what it cannot be made of, and has not begun."""
    arguments = {"dataset": config.dataset, "teachers": config.teachers, **environment}
    env: Any = gym.make_vec("DSoM-v0", num_envs=config.batch, **arguments)
    made: DSoMVectorEnv = env.unwrapped
    return made


def changeable(config: TrialConfig, spec: AgentSpec) -> dict[str, set[str]]:
    """Names by section that changes, and a search space, may hold."""
    present = hyperparameters_of(replace(config, changes={}))
    arguments = {field.name for field in fields(DSoMConfig)} - {"dataset", "teachers"}
    valid = {"environment": arguments}
    if spec.learner or spec.arguments:
        valid["algorithm"] = {*spec.arguments, *present["algorithm"]}
    if spec.learner:
        valid["algorithm"].add(REHEARSAL)
        valid["policy"] = {"net_arch", *present["policy"]}
    return valid


def _check_changes(config: TrialConfig, spec: AgentSpec) -> None:
    """Refuse unknown names, and arguments of the algorithm that do not go together."""
    valid = changeable(config, spec)
    for section, values in config.changes.items():
        if section not in SECTIONS:
            raise unknown("section", section, valid)
        if section not in valid:
            raise ValueError(f"{config.agent} does not learn: it has no {section}")
        for name in values:
            if name not in valid[section]:
                raise unknown(section, name, valid[section])
    changed = config.changes.get("algorithm", {})
    if spec.constraint is not None and changed.keys() & set(spec.constraint.names):
        algorithm = hyperparameters_of(config)["algorithm"]
        spec.constraint.check(config.batch, **{n: algorithm[n] for n in spec.constraint.names})


def _check_settings(names: Iterable[str]) -> None:
    """Refuse what is no argument of the environment: Gymnasium takes keywords of its own."""
    own = ("dataset", "teachers", "reward")
    valid = [field.name for field in fields(DSoMConfig) if field.name not in own]
    for name in names:
        if name in (*own, "num_envs"):
            option = "batch" if name == "num_envs" else name
            raise ValueError(f"{name} has an option of its own here: use {option}")
        if name not in valid:
            raise unknown("keyword", name, valid)


def rehearsal_of(config: TrialConfig) -> float:
    """Epochs for which a learner practises on a student that does not learn.

    Hyperparameter `rehearsal` of every learner, a share of the student's budget. None for rewards
    that need a student that learns, whatever it says.

    Raises:
        ValueError: no number ≥ 0.
    """
    share = hyperparameters_of(config)["algorithm"].get(REHEARSAL, 0)
    if not (is_number(share) and share >= 0):
        raise ValueError(
            f"{REHEARSAL} of {config.agent} must be a number ≥ 0, a share of the budget, "
            f"got {share!r}"
        )
    frozen = all(
        part in FROZEN_REWARDS for part in DSoMConfig.from_kwargs(**environment_of(config)).rewards
    )
    return float(share) * config.epochs if frozen else 0.0


def fill_caches(
    trials: Sequence[TrialConfig], quiet: bool = False
) -> tuple[MultimodalGraph, tuple[str, ...]]:
    """Train the teachers of some trials and ask them, unless the caches hold their answers already.

    Args:
        trials: at least one, all on one graph; a learner's YAML, changes, and oracles may want
            cross-fitted answers too.
        quiet: without lines on stderr while teachers are trained.

    Returns:
        The graph, and the names of the teachers.
    """
    graph = load_graph(trials[0].dataset)
    say = None if quiet else lambda line: print(line, file=sys.stderr, flush=True)
    for trial in trials:
        spec, teachers = resolve(trial)
        environment = DSoMConfig.from_kwargs(**environment_of(trial))
        wanted = {environment.folds, environment.judged_folds or environment.folds}
        if spec.cross_fitted:
            wanted.add(strangers_folds(environment))
        taught = taught_graph(graph, environment.withheld)
        pretraining, top_k = environment.pretraining, environment.top_k
        for folds in sorted(wanted):
            open_store(taught, teachers, pretraining, folds, top_k, report=say)
    _, teachers = resolve(replace(trials[0], agent="all", changes={}))
    return graph, teachers


def hyperparameters_of(config: TrialConfig) -> Sections:
    """What a learner's YAML says of the trial's dataset, and the trial's changes, which win."""
    name = base_agent(config.agent)
    spec = known_spec(name)
    merged: Sections = {section: {} for section in SECTIONS}
    if spec is not None and spec.learner is not None:
        dataset = load_graph(config.dataset).name
        if spec.hyperparameters is None:
            merged = load_hyperparameters(name, dataset)
        else:
            merged = parse_hyperparameters(spec.hyperparameters, f"agent {name}", dataset)
    return {section: values | config.changes.get(section, {}) for section, values in merged.items()}


def environment_of(config: TrialConfig) -> dict[str, Any]:
    """Arguments of the environment from the agent's YAML and, above it, what is settled.

    Nobody judges teachers for agents that do not learn, unless that is settled: they neither look
    at the state nor learn from rewards, and cross-fitted teachers cost as many trainings as folds.
    """
    spec = known_spec(config.agent)
    learns = spec is not None and spec.learner is not None
    usual = {} if learns else {"judged_folds": None, **(spec.environment if spec else {})}
    return usual | hyperparameters_of(config)["environment"] | config.settled
