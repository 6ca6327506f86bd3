"""One trial: one agent, one seed, one student with a fixed budget."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger, configure

from agents.answers import WouldChoose, trial_answers, write_answers
from agents.calibration import calibrate, learned_preferences
from agents.hyperparameters import algorithm_arguments
from agents.recording import RecordedStudent
from agents.registry import AgentSpec
from agents.resuming import FOLDER, RESULT, Resumption, Watch, finished
from agents.trained import OF_A_POLICY, TrainedAgent, save_trained
from agents.trial_config import (
    FORMAT,
    TrialConfig,
    checkpoint_key,
    environment_of,
    hyperparameters_of,
    rehearsal_of,
    resolve,
)
from dsom_env.classroom import Classroom, Lesson, derived_seed
from dsom_env.config import DSoMConfig
from dsom_env.sb3 import SB3VecEnv
from graphs import MultimodalGraph, load_graph
from graphs.files import atomic_write
from graphs.naming import unknown
from graphs.numbers import DivergedError
from graphs.text_files import read_json
from students.evaluation import metrics_by_relation, ranking_metrics, ranking_of
from students.saved import FILE, load_student
from students.scorer import Scorer
from students.snapshots import Snapshot

OnEpoch = Callable[[int, float], None]


@dataclass(frozen=True)
class TrainedStudent:
    """A student whose budget is spent, before anybody reads the test split.

    Attributes:
        recorded: the environment, with the student's curves and its best state on valid.
        extras: entries of the result that are not read off the student.
        would_choose: the agent's preferences for queries that are not taught.
        seconds: wall-clock time.
    """

    recorded: RecordedStudent
    extras: dict[str, Any]
    would_choose: WouldChoose
    seconds: float


def train_student(
    config: TrialConfig, run: Resumption | None = None, on_epoch: OnEpoch | None = None
) -> TrainedStudent:
    """The part of a trial that reads train and valid only.

    Args:
        config: what to run.
        run: where it goes on if it was killed; its folder gets the agent (`agents.trained`) and
            TensorBoard files. None begins anew and writes nothing.
        on_epoch: called with (epoch, valid MRR), those before a checkpoint included; what it raises
            ends the training.

    Raises:
        ValueError: see `resolve`; or the checkpoints do not fit.
        DivergedError: the student, or the agent, has no finite numbers left.
    """
    spec, teachers = resolve(config)
    run = run or Resumption(None, None, "")
    run.open()
    drive = _run_learner if spec.learner else _run_policy
    recorded, extras, would_choose = drive(config, spec, teachers, run, on_epoch)
    seconds = run.seconds
    run.close()
    return TrainedStudent(recorded, {"oracle": spec.oracle, **extras}, would_choose, seconds)


def run_trial(
    config: TrialConfig, folder: Path | None = None, on_epoch: OnEpoch | None = None
) -> dict[str, Any]:
    """Run a trial; the test split is read once, by the student that valid selected.

    Args:
        config: what to run.
        folder: gets `result.json`, `answers.json`, `student.safetensors`, a learning agent's
            `policy.safetensors` and `agent.json`, and TensorBoard files; None writes nothing. Of a
            trial that diverges, only the best student before and the TensorBoard files. While it
            runs there are checkpoints too, from which the same call goes on.
        on_epoch: called with (epoch, valid MRR).

    Returns:
        An entry of `runs` of `results.json` (docs/results-format.md).
    """
    run = Resumption(folder, folder / FOLDER if folder else None, checkpoint_key(config))
    trained = train_student(config, run, on_epoch)
    recorded, extras = trained.recorded, trained.extras
    classroom = recorded.classroom
    assert recorded.best_state is not None  # noqa: S101 - a budget has at least one epoch
    if folder:
        # Here, where the student is still the one that the agent chose for last.
        best, kind = recorded.best_state["scorer"], extras["calibration"]["preference"]
        record = trial_answers(classroom, config.seed, best, trained.would_choose, kind)
        write_answers(folder, config.key, record)
    classroom.trainer.load_state_dict(recorded.best_state)
    queries, ranks = ranking_of(classroom.trainer.score, classroom.graph, "valid")
    by_relation = metrics_by_relation(queries, ranks, classroom.graph)
    result = {
        "agent": config.agent,
        "seed": config.seed,
        "valid": ranking_metrics(ranks),
        "test": classroom.evaluate("test"),
        "valid_by_relation": {
            label: {name: metrics[name] for name in ("mrr", "count")}
            for label, metrics in by_relation.items()
        },
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
        recorded.save_best(folder)
        manifest = {"format": FORMAT, "key": config.key, "config": config.to_json()}
        document = json.dumps({**manifest, "result": result}, indent=1)
        atomic_write(folder / RESULT, document.encode())
    run.remove()
    recorded.close()
    return result


def finished_trial(folder: Path, config: TrialConfig) -> dict[str, Any] | None:
    """The result of a trial that has already run in `folder`, or None, see `finished`.

    Raises:
        ValueError: the folder holds a result of another configuration, or a damaged one.
    """
    return finished(folder, config.key, _result_of)


def _result_of(document: Any) -> dict[str, Any]:
    result: dict[str, Any] = _checked(document)["result"]
    return result


def _checked(document: Any) -> dict[str, Any]:
    """The content of a `result.json`.

    Raises:
        ValueError: it is none; the sentence says that.
    """
    wanted = {"format", "key", "config", "result"}
    if not isinstance(document, dict) or wanted - set(document) or document["format"] != FORMAT:
        raise ValueError(f"expected a finished trial of format {FORMAT}")
    result = document["result"]
    for part in ("valid", "test", "mean_mask"):
        if not isinstance(result, dict) or not _are_numbers(result.get(part)):
            raise ValueError(f"expected numbers by name under {part!r}")
    return document


def _config_of(document: Any) -> TrialConfig:
    """The configuration in the content of a `result.json`.

    Raises:
        ValueError: it is none, or its configuration has an unknown key or a bad value.
    """
    written, valid = _checked(document)["config"], [field.name for field in fields(TrialConfig)]
    for name in written:
        if name not in valid:
            raise unknown("not a finished trial, config", name, valid)
    config = TrialConfig(**written)
    if not isinstance(config.dataset, str):
        raise ValueError("expected the name or path of a graph under 'dataset'")
    return config


def _are_numbers(values: object) -> bool:
    return isinstance(values, dict) and all(
        isinstance(value, int | float) for value in values.values()
    )


def load_trained_student(folder: Path) -> tuple[Scorer, MultimodalGraph]:
    """The student that a finished trial selected on valid, and its graph.

    Raises:
        FileNotFoundError: the folder holds no finished trial.
        ValueError: damaged or foreign files.
    """
    path = folder / RESULT
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no finished trial: {path} is missing")
    config = read_json(path, _config_of)
    graph = load_graph(config.dataset)
    student, about = load_student(folder / FILE)
    if about.graph != graph.fingerprint:
        raise ValueError(
            f"{folder / FILE} holds a student of another graph than {config.dataset}, or of other "
            f"triples or features: expected fingerprint {graph.fingerprint}, got {about.graph}"
        )
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
    run: Resumption,
    on_epoch: OnEpoch | None,
) -> tuple[RecordedStudent, dict[str, Any], WouldChoose]:
    """A plain loop for agents that do not learn; `gate` is the reward that costs them nothing."""
    assert spec.policy is not None  # noqa: S101 - the caller dispatched on it
    policy = spec.policy(**hyperparameters_of(config)["algorithm"])
    plain = environment_of(config) | {"reward": "gate", "action_mode": "mask"}
    if config.settled.get("reward"):
        # Learners withhold a reward split; nobody may learn from it while they may not.
        plain["reward_fraction"] = DSoMConfig.from_kwargs(**config.settled).withheld
    # Valid MRRs of the students that masks were tried out on, in their order.
    probed: list[float] = list(run.saved.get("probed", [])) if run.saved else []
    asked = 0

    def probe(mask: NDArray[np.bool_], epochs: int) -> float:
        nonlocal asked
        asked += 1
        if asked > len(probed):
            env = RecordedStudent(make_environment(config, teachers, plain), epochs)
            env.reset(seed=config.seed)
            masks = np.tile(mask.astype(np.float32), (config.batch, 1))
            while not env.done:
                env.teach(masks)
            probed.append(env.best_mrr)
            run.offer("probing", lambda: {"probed": probed})
        return probed[asked - 1]

    env: Any = make_environment(config, teachers, plain)
    recorded = RecordedStudent(env, config.epochs, run.writer)
    recorded.reset(seed=config.seed)
    policy.budget = recorded.steps
    policy.prepare(recorded.classroom, probe)
    rng = np.random.default_rng(derived_seed(config.seed, "agent"))
    lessons: Any = env.unwrapped.lessons

    def state() -> dict[str, Snapshot]:
        draws = dict(rng.bit_generator.state)
        return {
            "probed": probed,
            "recorded": recorded.snapshot(),
            "policy": policy.snapshot(),
            "draws": draws,
        }

    def go(saved: Snapshot) -> None:
        recorded.restore(saved["recorded"])
        policy.restore(saved["policy"])
        rng.bit_generator.state = saved["draws"]

    run.go_on("teaching", go)
    told = 0
    with recorded.keeping(run.folder):
        while not recorded.done:
            run.offer("teaching", state)
            choice = policy.decide(recorded.classroom, lessons.lesson, rng)
            recorded.teach(*choice)
            told = _tell(recorded, told, on_epoch)
    classroom = recorded.classroom
    calibration = calibrate(
        classroom,
        lambda lesson: policy.masks(classroom, lesson, rng).astype(np.float64),
        policy.preference,
        config.seed,
    )
    extras = {"search_epochs": policy.search_epochs, "calibration": calibration}
    looking = np.random.default_rng(derived_seed(config.seed, "explorer"))
    return recorded, extras, lambda asked, lesson: policy.would_choose(asked, lesson, looking)


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
        **algorithm_arguments(parameters),
    )


def _rehearse(config: TrialConfig, teachers: tuple[str, ...], model: Any, run: Resumption) -> None:
    """Let a learner practise on a student that does not learn, before the one that counts does.

    A student remembers what it was taught while its agent was still guessing. Rewards that need no
    update can be had without any.
    """
    epochs = rehearsal_of(config)
    if not epochs or run.is_in("teaching"):
        return
    arguments = environment_of(config) | {"cotrain": False}
    env: Any = make_environment(config, teachers, arguments)
    env.reset(seed=derived_seed(config.seed, "rehearsal"))
    steps = round(epochs * len(env.unwrapped.classroom.taught_rows))
    bridge = SB3VecEnv(env)
    model.set_env(bridge)
    Watch(run, "rehearsing", bridge, logged=False).learn(model, steps)
    env.close()


@contextmanager
def _finite(config: TrialConfig, model: Any) -> Iterator[None]:
    """Say in one sentence that a policy has diverged."""
    try:
        yield
    except ValueError as error:
        # The distributions of a policy that has diverged refuse its logits, in words about those.
        if all(bool(weights.isfinite().all()) for weights in model.policy.parameters()):
            raise
        name = next(n for n, w in model.policy.named_parameters() if not bool(w.isfinite().all()))
        raise DivergedError(
            f"the weights of {config.agent}'s policy are not finite at its step "
            f"{model.num_timesteps}: {name}"
        ) from error


def _run_learner(
    config: TrialConfig,
    spec: AgentSpec,
    teachers: tuple[str, ...],
    run: Resumption,
    on_epoch: OnEpoch | None,
) -> tuple[RecordedStudent, dict[str, Any], WouldChoose]:
    """Stable-Baselines3 drives; the student learns from what it explores."""
    parameters, arguments = hyperparameters_of(config), environment_of(config)
    world, folder = make_environment(config, teachers, arguments), run.folder
    recorded = RecordedStudent(world, config.epochs, run.writer)
    env = SB3VecEnv(recorded)
    model = make_learner(config, spec, env)
    quiet = Logger(None, [])
    model.set_logger(quiet)
    with _finite(config, model):
        _rehearse(config, teachers, model, run)
    model.set_env(env)
    # Stable-Baselines3 has just seeded the environment with its own seed; the student has the
    # trial's. The budget is known from the first reset on; `learn` resets once more.
    recorded.reset(seed=config.seed)
    env.seed(config.seed)
    # Without a folder Stable-Baselines3 would make one of its own in the temporary folder.
    model.set_logger(configure(str(folder / "tensorboard"), ["tensorboard"]) if folder else quiet)
    told = 0

    def spent() -> bool:
        nonlocal told
        told = _tell(recorded, told, on_epoch)
        return recorded.done

    # Schedules (DQN's exploration, decaying rates) run over the budget; the callback ends it.
    with recorded.keeping(folder), _finite(config, model):
        Watch(run, "teaching", env, spent).learn(model, recorded.steps * recorded.num_envs)
    used = {name: arguments[name] for name in parameters["environment"]}
    mode = arguments.get("action_mode", DSoMConfig.action_mode)
    preferences, kind = learned_preferences(model, recorded.classroom, mode)
    extras = {
        "hyperparameters": {**parameters, "environment": used},
        "calibration": calibrate(recorded.classroom, preferences, kind, config.seed),
    }
    if folder:
        save_trained(folder, about_agent(config, recorded.classroom), model.policy.state_dict())

    def would_choose(asked: Classroom, lesson: Lesson) -> NDArray[np.float64] | None:
        # Of queries that are not taught there is no estimate of what co-trained teachers share.
        if asked.store.information_names and "information" not in asked.config.hide:
            return None
        return learned_preferences(model, asked, mode)[0](lesson)

    return recorded, extras, would_choose


def about_agent(config: TrialConfig, classroom: Classroom) -> TrainedAgent:
    """What the agent of a trial is, without the hash of its weights."""
    environment, parameters = classroom.config, hyperparameters_of(config)
    return TrainedAgent(
        agent=config.agent,
        seed=config.seed,
        dataset=config.dataset,
        graph=classroom.graph.fingerprint,
        relations=classroom.graph.relation_labels,
        epochs=config.epochs,
        batch=config.batch,
        teachers=classroom.teachers,
        columns=classroom.observer.columns.names,
        environment={name: getattr(environment, name) for name in OF_A_POLICY},
        horizon=environment.horizon,
        algorithm=parameters["algorithm"],
        policy=parameters["policy"],
        sha256="",
    )
