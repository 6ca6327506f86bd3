"""One trial on a stream of tasks: one method, one order, one seed, one agent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.logger import Logger, configure

from agents.continual.config import FORMAT, ContinualTrial
from agents.continual.recording import OnTask, RecordedTasks
from agents.registry import AgentSpec
from agents.resuming import FOLDER, RESULT, Resumption, Watch, finished
from agents.trial import make_learner
from agents.trial_config import checkpoint_key
from dsom_env.classroom import derived_seed
from dsom_env.course import training_rows
from dsom_env.sb3 import SB3VecEnv
from graphs.files import atomic_write, config_hash
from graphs.naming import shown
from students.snapshots import Snapshot


def run_continual(
    trial: ContinualTrial, folder: Path | None = None, on_task: OnTask | None = None
) -> dict[str, Any]:
    """Run a trial.

    Args:
        trial: what to run.
        folder: gets `result.json`, `student-task<k>.safetensors` and TensorBoard files, and while
            it runs checkpoints, from which the same call goes on; None writes nothing.
        on_task: called with (task, student's MRR on all tasks so far) when a task is over.

    Returns:
        An entry of `runs` of a study's results (docs/mspt.md).

    Raises:
        ValueError: see `ContinualTrial.resolve`; or the checkpoints do not fit.
        DivergedError: the student, or the agent, has no finite numbers left.
    """
    spec, teachers = trial.resolve()
    key = config_hash([trial.key, checkpoint_key(trial.trial)])
    run = Resumption(folder, folder / FOLDER if folder else None, key)
    run.open()
    arguments = trial.arguments | {"teachers": list(teachers)}
    if spec.policy:
        # As in a comparison: `gate` is the reward that costs them nothing.
        arguments |= {"reward": "gate", "action_mode": "mask"}
    env = gym.make_vec("DSoM-Continual-v0", num_envs=trial.trial.batch, **arguments)
    recorded = RecordedTasks(env, run.writer, folder, on_task)
    if spec.policy:
        _drive(recorded, trial, spec, run)
    else:
        _learn(recorded, trial, spec, run)
    tasks = recorded.classroom.tasks
    recorded.close()
    run.close()
    result = {
        "method": trial.method,
        "order": trial.order,
        "seed": trial.seed,
        "agent": trial.trial.agent,
        "entities": list(tasks.entities),
        "relations": list(tasks.relations),
        "triples": np.bincount(tasks.task_of["train"]).tolist(),
        "deferred": tasks.deferred,
        "seconds": round(run.seconds, 2),
        **recorded.run,
    }
    if folder:
        document = {"format": FORMAT, "key": trial.key, "config": trial.to_json()}
        content = json.dumps({**document, "result": result}, indent=1)
        atomic_write(folder / RESULT, content.encode())
    run.remove()
    return result


def _drive(
    recorded: RecordedTasks, trial: ContinualTrial, spec: AgentSpec, run: Resumption
) -> None:
    """A plain loop for agents that do not learn."""
    assert spec.policy is not None  # noqa: S101 - the caller dispatched on it
    policy = spec.policy()
    recorded.reset(seed=trial.seed)
    rng = np.random.default_rng(derived_seed(trial.seed, "agent"))
    lessons: Any = recorded.unwrapped.lessons  # type: ignore[attr-defined]
    prepared = None

    def state() -> dict[str, Snapshot]:
        draws = dict(rng.bit_generator.state)
        return {"recorded": recorded.snapshot(), "policy": policy.snapshot(), "draws": draws}

    def go(saved: Snapshot) -> None:
        recorded.restore(saved["recorded"])
        policy.prepare(recorded.classroom, _no_probe)
        policy.restore(saved["policy"])
        rng.bit_generator.state = saved["draws"]

    if run.go_on("teaching", go):
        prepared = recorded.classroom
    while not recorded.done:
        if recorded.classroom is not prepared:
            prepared = recorded.classroom
            policy.prepare(prepared, _no_probe)
        run.offer("teaching", state)
        recorded.teach(policy.masks(recorded.classroom, lessons.lesson, rng))


def _no_probe(mask: Any, epochs: int) -> float:
    raise ValueError("agent: nobody can try masks out beforehand in a stream of tasks")


def _learn(
    recorded: RecordedTasks, trial: ContinualTrial, spec: AgentSpec, run: Resumption
) -> None:
    """Stable-Baselines3 drives; one policy goes through all tasks."""
    env = SB3VecEnv(recorded)
    model = make_learner(trial.trial, spec, env)
    recorded.reset(seed=trial.seed)
    env.seed(trial.seed)
    folder = run.folder
    model.set_logger(
        configure(str(folder / "tensorboard"), ["tensorboard"]) if folder else Logger(None, [])
    )
    config, tasks = recorded.classroom.config, recorded.classroom.tasks
    queries = sum(2 * len(training_rows(config, tasks, task)) for task in range(len(tasks)))
    # Schedules run over about the stream; the callback ends it. The last batch of every task goes
    # beyond its epochs.
    budget = round(config.task_epochs * queries) + len(tasks) * recorded.num_envs
    watch = Watch(run, "teaching", env, lambda: recorded.done)
    watch.learn(model, budget)
    if not recorded.done:
        raise RuntimeError(f"{trial.trial.agent} stopped before the stream of tasks had ended")


def finished_continual(folder: Path, trial: ContinualTrial) -> dict[str, Any] | None:
    """The result of a trial that has already run in `folder`, or None.

    Raises:
        ValueError: the folder holds a result of another configuration, or a damaged one.
    """
    return finished(folder, trial.key, _result_of)


def _result_of(document: Any) -> dict[str, Any]:
    if document["format"] != FORMAT:
        raise ValueError(f"expected format {FORMAT}, got {shown(document['format'])}")
    return dict(document["result"])
