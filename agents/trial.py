"""One trial: one agent, one seed, one student with a fixed budget."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import safetensors
import safetensors.torch
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, configure

import dsom_env as _registration  # noqa: F401 - registers DSoM-v0
from agents.calibration import calibrate, learned_preferences
from agents.hyperparameters import (
    SECTIONS,
    Sections,
    load_hyperparameters,
    parse_hyperparameters,
)
from agents.names import base_agent, is_variant
from agents.oracles import strangers_folds
from agents.recording import RecordedStudent, open_writer
from agents.registry import AGENTS, AgentSpec, agent_spec
from dsom_env.classroom import derived_seed
from dsom_env.config import DSoMConfig
from dsom_env.rewards import REWARDS
from dsom_env.sb3 import SB3VecEnv
from dsom_env.stream import taught_graph
from graphs import MultimodalGraph, load_graph
from graphs.files import atomic_write, config_hash
from graphs.naming import unknown
from graphs.plugged_in import plugged_in_code
from students.registry import STUDENTS, make_student
from students.scorer import Scorer
from students.training import DivergedError
from teachers.cached_store import open_store
from teachers.registry import TEACHERS

FORMAT = 1
OnEpoch = Callable[[int, float], None]


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
        if self.seed < 0:
            raise ValueError(f"seeds must not be negative, got {self.seed!r}")

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
    spec = AGENTS.get(base_agent(config.agent))
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
    if spec is not None and spec.hyperparameters is not None:
        code["hyperparameters"] = spec.hyperparameters
    return code


def resolve(config: TrialConfig) -> tuple[AgentSpec, tuple[str, ...]]:
    """The agent and the teachers it chooses from.

    Raises:
        ValueError: unknown dataset, teacher, agent or keyword, or a bad value: all arguments of
            the environment are checked here, before any work.
    """
    _check_settings(config.environment)
    common = replace(config, changes={}) if config.changes else config
    teachers = _teachers_of(common)
    spec = agent_spec(config.agent, teachers)
    if config.changes:
        _check_changes(config, spec)
        # The values.
        _teachers_of(config)
    elif is_variant(config.agent):
        raise ValueError(f"{config.agent}: a variant needs changes of {base_agent(config.agent)}")
    mode = config.settled.get("action_mode")
    # Policies that do not learn write masks, whatever form an action has.
    if spec.learner and mode is not None and mode not in spec.action_modes:
        raise ValueError(
            f"action_mode: {config.agent} cannot act in {mode!r}, only in "
            f"{' or '.join(map(repr, spec.action_modes))}"
        )
    return spec, spec.teachers or teachers


def _teachers_of(config: TrialConfig) -> tuple[str, ...]:
    """The teachers of the environment, which refuses what it cannot be made of."""
    arguments = {"dataset": config.dataset, "teachers": config.teachers, **config.settled}
    env: Any = gym.make_vec("DSoM-v0", num_envs=config.batch, **arguments)
    teachers: tuple[str, ...] = env.unwrapped.teachers
    return teachers


def changeable(config: TrialConfig, spec: AgentSpec) -> dict[str, set[str]]:
    """Names by section that changes, and a search space, may hold."""
    present = hyperparameters_of(replace(config, changes={}))
    arguments = {field.name for field in fields(DSoMConfig)} - {"dataset", "teachers"}
    valid = {"environment": arguments}
    if spec.learner:
        valid["algorithm"] = {*spec.arguments, *present["algorithm"]}
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
        for folds in sorted(wanted):
            taught = taught_graph(graph, environment.withheld)
            pretraining, top_k = environment.pretraining, environment.top_k
            open_store(taught, teachers, pretraining, folds, top_k, report=say)
    _, teachers = resolve(replace(trials[0], agent="all", changes={}))
    return graph, teachers


def hyperparameters_of(config: TrialConfig) -> Sections:
    """What a learner's YAML says of the trial's dataset, and the trial's changes, which win."""
    name = base_agent(config.agent)
    spec = AGENTS.get(name)
    merged: Sections = {section: {} for section in SECTIONS}
    if spec is not None and spec.learner is not None:
        dataset = load_graph(config.dataset).name
        if spec.hyperparameters is None:
            merged = load_hyperparameters(name, dataset)
        else:
            merged = parse_hyperparameters(spec.hyperparameters, f"agent {name}", dataset)
    return {section: values | config.changes.get(section, {}) for section, values in merged.items()}


def environment_of(config: TrialConfig) -> dict[str, Any]:
    """Arguments of the environment from the agent's YAML and, above it, what is settled."""
    return hyperparameters_of(config)["environment"] | config.settled


@dataclass(frozen=True)
class TrainedStudent:
    """A student whose budget is spent, before anybody reads the test split.

    Attributes:
        recorded: the environment, with the student's curves and its best state on valid.
        extras: entries of the result that are not read off the student.
        seconds: wall-clock time.
    """

    recorded: RecordedStudent
    extras: dict[str, Any]
    seconds: float


def train_student(
    config: TrialConfig, folder: Path | None = None, on_epoch: OnEpoch | None = None
) -> TrainedStudent:
    """The part of a trial that reads train and valid only.

    Args:
        config: what to run.
        folder: gets the agent's `policy.safetensors` and TensorBoard files; None writes nothing.
        on_epoch: called with (epoch, valid MRR); what it raises ends the training.

    Raises:
        ValueError: see `resolve`.
        DivergedError: the student, or the agent, has no finite numbers left.
    """
    spec, teachers = resolve(config)
    started = time.perf_counter()
    writer = open_writer(folder)
    if spec.learner:
        recorded, extras = _run_learner(config, spec, teachers, writer, folder, on_epoch)
    else:
        recorded, extras = _run_policy(config, spec, teachers, writer, on_epoch)
    seconds = time.perf_counter() - started
    if writer:
        writer.close()
    return TrainedStudent(recorded, {"oracle": spec.oracle, **extras}, seconds)


def run_trial(
    config: TrialConfig, folder: Path | None = None, on_epoch: OnEpoch | None = None
) -> dict[str, Any]:
    """Run a trial; the test split is read once, by the student that valid selected.

    Args:
        config: what to run.
        folder: gets `result.json`, `student.safetensors`, the agent's `policy.safetensors`
            and TensorBoard files; None writes nothing.
        on_epoch: called with (epoch, valid MRR).

    Returns:
        An entry of `runs` of `results.json` (docs/results-format.md).
    """
    trained = train_student(config, folder, on_epoch)
    recorded, extras = trained.recorded, trained.extras
    classroom = recorded.classroom
    assert recorded.best_state is not None  # noqa: S101 - a budget has at least one epoch
    classroom.trainer.load_state_dict(recorded.best_state)
    result = {
        "agent": config.agent,
        "seed": config.seed,
        "valid": classroom.evaluate("valid"),
        "test": classroom.evaluate("test"),
        "seconds": round(trained.seconds, 2),
        "search_epochs": extras.pop("search_epochs", 0.0),
        "best_epoch": recorded.best_epoch,
        "student_steps": recorded.steps,
        "mean_mask": recorded.selection.mean_mask(),
        "mask_by_relation": recorded.selection.mask_by_relation(),
        "selection": recorded.selection.report(),
        "curves": recorded.curves,
        **({"changes": config.changes} if config.changes else {}),
        **extras,
    }
    if folder:
        weights = {k: v.contiguous().cpu() for k, v in recorded.best_state["scorer"].items()}
        atomic_write(folder / "student.safetensors", safetensors.torch.save(weights))
        manifest = {"format": FORMAT, "key": config.key, "config": config.to_json()}
        document = json.dumps({**manifest, "result": result}, indent=1)
        atomic_write(folder / "result.json", document.encode())
    recorded.close()
    return result


def finished_trial(folder: Path, config: TrialConfig) -> dict[str, Any] | None:
    """The result of a trial that has already run in `folder`, or None.

    Raises:
        ValueError: the folder holds a result of another configuration, or a damaged one.
    """
    path = folder / "result.json"
    if not path.exists():
        return None
    document = _read_result(path)
    if document["key"] != config.key:
        raise ValueError(
            f"{path} comes from another configuration than the one asked for, or from other code "
            "of what was plugged in; choose another --out"
        )
    result: dict[str, Any] = document["result"]
    return result


def _read_result(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
        keys = set(document)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a finished trial: {error}") from None
    missing = {"format", "key", "config", "result"} - keys
    if missing or document["format"] != FORMAT:
        raise ValueError(
            f"{path} is not a finished trial of format {FORMAT}: remove it to run again"
        )
    found: dict[str, Any] = document
    return found


def load_trained_student(folder: Path) -> tuple[Scorer, MultimodalGraph]:
    """The student that a finished trial selected on valid, and its graph.

    Raises:
        FileNotFoundError: the folder holds no finished trial.
        ValueError: damaged or foreign files.
    """
    path = folder / "result.json"
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no finished trial: {path} is missing")
    try:
        config = TrialConfig(**_read_result(path)["config"])
    except TypeError as error:
        raise ValueError(f"{path} is not a finished trial: {error}") from None
    environment = DSoMConfig.from_kwargs(dataset=config.dataset, **config.settled)
    graph = load_graph(config.dataset)
    student = make_student(
        environment.student,
        graph.num_entities,
        graph.num_relations,
        environment.rank,
        torch.Generator(),
    )
    weights = folder / "student.safetensors"
    try:
        student.load_state_dict(safetensors.torch.load_file(weights))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise ValueError(f"{weights} does not hold this trial's student: {error}") from None
    return student, graph


def make_environment(
    config: TrialConfig, teachers: tuple[str, ...], arguments: dict[str, Any]
) -> VectorEnv[Any, Any, Any]:
    """The environment of a trial, made and not yet begun."""
    named: dict[str, Any] = {"dataset": config.dataset, "teachers": list(teachers)}
    return gym.make_vec("DSoM-v0", num_envs=config.batch, **named, **arguments)


def _run_policy(
    config: TrialConfig,
    spec: AgentSpec,
    teachers: tuple[str, ...],
    writer: Any,
    on_epoch: OnEpoch | None,
) -> tuple[RecordedStudent, dict[str, Any]]:
    """A plain loop for agents that do not learn; `gate` is the reward that costs them nothing."""
    assert spec.policy is not None  # noqa: S101 - the caller dispatched on it
    policy = spec.policy()
    plain = config.settled | {"reward": "gate", "action_mode": "mask"}
    if config.settled.get("reward"):
        # Learners withhold a reward split; nobody may learn from it while they may not.
        plain["reward_fraction"] = DSoMConfig.from_kwargs(**config.settled).withheld

    def probe(mask: NDArray[np.bool_], epochs: int) -> float:
        env = RecordedStudent(make_environment(config, teachers, plain), epochs)
        env.reset(seed=config.seed)
        masks = np.tile(mask.astype(np.float32), (config.batch, 1))
        while not env.done:
            env.teach(masks)
        return env.best_mrr

    env: Any = make_environment(config, teachers, plain)
    recorded = RecordedStudent(env, config.epochs, writer)
    recorded.reset(seed=config.seed)
    policy.prepare(recorded.classroom, probe)
    rng = np.random.default_rng(derived_seed(config.seed, "agent"))
    lessons: Any = env.unwrapped.lessons
    told = 0
    while not recorded.done:
        masks = policy.masks(recorded.classroom, lessons.lesson, rng)
        recorded.teach(masks)
        told = _tell(recorded, told, on_epoch)
    classroom = recorded.classroom
    calibration = calibrate(
        classroom,
        lambda lesson: policy.masks(classroom, lesson, rng).astype(np.float64),
        "mask",
        config.seed,
    )
    extras = {"search_epochs": policy.search_epochs, "calibration": calibration}
    return recorded, extras


class _StopWhenSpent(BaseCallback):
    """Ends Stable-Baselines3's learning with the student's budget, and reports epochs."""

    def __init__(self, recorded: RecordedStudent, on_epoch: OnEpoch | None) -> None:
        super().__init__()
        self.recorded, self.on_epoch, self.told = recorded, on_epoch, 0

    def _on_step(self) -> bool:
        self.told = _tell(self.recorded, self.told, self.on_epoch)
        return not self.recorded.done


def _tell(recorded: RecordedStudent, told: int, on_epoch: OnEpoch | None) -> int:
    epochs = recorded.curves["epoch"]
    if on_epoch:
        for epoch, mrr in zip(epochs[told:], recorded.curves["valid_mrr"][told:], strict=True):
            on_epoch(epoch, mrr)
    return len(epochs)


def make_learner(config: TrialConfig, spec: AgentSpec, env: SB3VecEnv) -> Any:
    """The Stable-Baselines3 algorithm of a learner, not yet trained."""
    assert spec.learner is not None  # noqa: S101 - the caller dispatched on it
    parameters = hyperparameters_of(config)
    return spec.learner(
        env,
        horizon=environment_of(config).get("horizon", DSoMConfig.horizon),
        policy_kwargs=dict(parameters["policy"]),
        # Given to the constructor, so that it also decides the policy's initial weights.
        seed=derived_seed(config.seed, "agent"),
        device="cpu",
        **parameters["algorithm"],
    )


def _run_learner(
    config: TrialConfig,
    spec: AgentSpec,
    teachers: tuple[str, ...],
    writer: Any,
    folder: Path | None,
    on_epoch: OnEpoch | None,
) -> tuple[RecordedStudent, dict[str, Any]]:
    """Stable-Baselines3 drives; the student learns from what it explores."""
    parameters, arguments = hyperparameters_of(config), environment_of(config)
    recorded = RecordedStudent(make_environment(config, teachers, arguments), config.epochs, writer)
    env = SB3VecEnv(recorded)
    model = make_learner(config, spec, env)
    # Stable-Baselines3 has just seeded the environment with its own seed; the student has the
    # trial's. The budget is known from the first reset on; `learn` resets once more.
    recorded.reset(seed=config.seed)
    env.seed(config.seed)
    # Without a folder Stable-Baselines3 would make one of its own in the temporary folder.
    quiet = Logger(None, [])
    model.set_logger(configure(str(folder / "tensorboard"), ["tensorboard"]) if folder else quiet)
    callback = _StopWhenSpent(recorded, on_epoch)
    # Schedules (DQN's exploration, decaying rates) run over the budget; the callback ends it.
    try:
        model.learn(recorded.steps * recorded.num_envs, callback=callback, log_interval=8)
    except ValueError as error:
        # The distributions of a policy that has diverged refuse its logits, in words about those.
        if all(bool(weights.isfinite().all()) for weights in model.policy.parameters()):
            raise
        raise DivergedError(f"the weights of {config.agent}'s policy are not finite") from error
    used = {name: arguments[name] for name in parameters["environment"]}
    mode = arguments.get("action_mode", DSoMConfig.action_mode)
    preferences, kind = learned_preferences(model, recorded.classroom, mode)
    extras = {
        "hyperparameters": {**parameters, "environment": used},
        "calibration": calibrate(recorded.classroom, preferences, kind, config.seed),
    }
    if folder:
        weights = {k: v.contiguous() for k, v in model.policy.state_dict().items()}
        atomic_write(folder / "policy.safetensors", safetensors.torch.save(weights))
    return recorded, extras
