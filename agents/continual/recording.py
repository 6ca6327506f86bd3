"""What became of student and teachers, measured whenever a task is over."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from agents.continual.metrics import curves
from dsom_env.cotraining import AnyVectorWrapper
from dsom_env.course import TaskClassroom, ranks_by_task
from dsom_env.lessons import TeachFrozen
from graphs.files import atomic_write
from students.scorer import Scorer
from students.snapshots import Snapshot
from teachers.registry import fuses

OnTask = Callable[[int, float], None]
Weights = NDArray[np.float32]


class RecordedTasks(AnyVectorWrapper):
    """Measures on test what is known after every task, and notes who taught.

    Whoever drives the environment, a plain loop or Stable-Baselines3, tasks end at the same update.
    Nothing is selected by what is measured here: the student is what it is when a task ends.

    Args:
        env: the continual vector environment.
        writer: TensorBoard, or None.
        folder: gets the student's weights after every task; None writes nothing.
        on_task: called with (task, student's MRR on all so far).

    Attributes:
        run: `counts`, `student`, `teachers`, `zero_shot`, `untrained`, `shares`, `reward`, per task
            (docs/mspt.md).
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        writer: SummaryWriter | None = None,
        folder: Path | None = None,
        on_task: OnTask | None = None,
    ) -> None:
        super().__init__(env)
        self.writer, self.folder, self.on_task = writer, folder, on_task
        self.run: dict[str, Any] = {
            **{name: [] for name in ("counts", "student", "zero_shot", "untrained")},
            **{name: [] for name in ("shares", "reward", "valid")},
            "teachers": {},
        }
        self.done = False
        self._taught: list[Weights] = []
        self._rewards: list[float] = []

    @property
    def classroom(self) -> TaskClassroom:
        """The world of the environment now."""
        classroom: TaskClassroom = self.env.unwrapped.classroom  # type: ignore[attr-defined]
        return classroom

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Start the environment; the stream begins with the first reset."""
        result = self.env.reset(seed=seed, options=options)
        if not self.run["zero_shot"]:
            self._begin(self.classroom)
        return result

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step, and measure if that ended a task."""
        before, last = self.classroom, self.classroom.spent
        result = self.env.step(actions)
        info = result[4]
        control = info["control"]
        self._note(before, last, info["executed_mask"][~control], float(result[1].mean()))
        return result

    def teach(self, masks: Weights) -> None:
        """Step with masks `[batch, teachers]`, without the observation."""
        lessons: TeachFrozen = self.unwrapped.lessons  # type: ignore[attr-defined]
        before, last = self.classroom, self.classroom.spent
        everyone = np.ones(self.num_envs, dtype=np.bool_)
        outcome = lessons.step(masks, acting=everyone, ends=~everyone)
        reward = float(outcome.rewards.mean())
        self._note(before, last, outcome.executed[~outcome.control], reward)

    def _note(self, before: TaskClassroom, last: bool, executed: Weights, reward: float) -> None:
        """Note a step; with `last` the task `before` has had its last one."""
        if self.done:
            raise RuntimeError("the stream is over")
        self._taught.append(executed.sum(axis=0) / max(len(executed), 1))
        self._rewards.append(reward)
        if not last:
            return
        self._end(before)
        self.done = self.classroom is before
        if not self.done:
            self._begin(self.classroom)

    def snapshot(self) -> Snapshot:
        """The environment and all that was measured, for `restore`."""
        base: Any = self.unwrapped
        measured = {"run": self.run, "taught": self._taught, "rewards": self._rewards}
        return {"env": base.snapshot(), **copy.deepcopy(measured)}

    def restore(self, snapshot: Snapshot) -> None:
        """Go to where `snapshot` was taken; the environment was reset before."""
        base: Any = self.unwrapped
        base.restore(snapshot["env"])
        self.run = snapshot["run"]
        self._taught, self._rewards = list(snapshot["taught"]), list(snapshot["rewards"])

    def _begin(self, classroom: TaskClassroom) -> None:
        """Before the first update of a task: what is known of it already."""
        self.run["zero_shot"].append(_mrr(classroom.ranks_by_task("test")[-1]))
        self.run["untrained"].append(_mrr(ranks_of(classroom.stranger(), classroom)[-1]))

    def _end(self, classroom: TaskClassroom) -> None:
        """A task is over: everybody is measured on all tasks so far."""
        run = self.run
        ranks = classroom.ranks_by_task("test")
        run["counts"].append(len(ranks[-1]))
        run["student"].append([_mrr(part) for part in ranks])
        run["valid"].append(classroom.evaluate_seen("valid")["mrr"])
        for name in classroom.teachers:
            if fuses(name):
                row = [_mrr(part) for part in ranks_of(classroom.teacher(name), classroom)]
                run["teachers"].setdefault(name, []).append(row)
        shares = np.mean(self._taught, axis=0).tolist()
        run["shares"].append(dict(zip(classroom.teachers, shares, strict=True)))
        run["reward"].append(float(np.mean(self._rewards)))
        self._taught, self._rewards = [], []
        if self.folder:
            state = classroom.trainer.scorer.state_dict()
            weights = {name: value.contiguous().cpu() for name, value in state.items()}
            path = self.folder / f"student-task{classroom.task + 1}.safetensors"
            atomic_write(path, safetensors.torch.save(weights))
        if self.writer:
            self._write(classroom.task)
        if self.on_task:
            self.on_task(classroom.task, curves(run, "student")["seen"][-1] or 0.0)

    def _write(self, task: int) -> None:
        """TensorBoard; docs/metrics.md defines every name."""
        writer, run = self.writer, self.run
        assert writer is not None  # noqa: S101 - for the type checker; the caller looked
        for who in ("student", *run["teachers"]):
            for name, values in curves(run, who).items():
                if values[-1] is not None:
                    writer.add_scalar(f"tasks/{who}/{name}", values[-1], task + 1)
            matrix = run["student"] if who == "student" else run["teachers"][who]
            for old, mrr in enumerate(matrix[-1]):
                writer.add_scalar(f"tasks/{who}/mrr_of_task_{old + 1}", mrr, task + 1)
        writer.add_scalar("tasks/agent/reward", run["reward"][-1], task + 1)
        for teacher, share in run["shares"][-1].items():
            writer.add_scalar(f"tasks/agent/share/{teacher}", share, task + 1)
        writer.flush()


def ranks_of(scorer: Scorer, classroom: TaskClassroom) -> list[NDArray[np.float64]]:
    """Test ranks of any scorer on each task so far, see `dsom_env.course.ranks_by_task`."""

    def score(entities: Tensor, relations: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = scorer(entities, relations)
        return logits.cpu()

    return ranks_by_task(score, classroom.tasks, classroom.seen, classroom.task, "test")


def _mrr(ranks: NDArray[np.float64]) -> float:
    return float((1.0 / ranks).mean())
