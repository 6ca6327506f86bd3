"""What happens to the student while an agent chooses: curves, shares, the best state on valid."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from agents.selection import Selection, Tally
from dsom_env.classroom import Classroom
from dsom_env.cotraining import AnyVectorWrapper
from dsom_env.lessons import TeachFrozen
from graphs import Queries
from graphs.numbers import DivergedError
from students.saved import FILE, About, save_student
from students.snapshots import Snapshot

_EVENTS = "events.*"
_log = logging.getLogger(__name__)


class RecordedStudent(AnyVectorWrapper):
    """Counts epochs, evaluates the student after each, and keeps its best state on valid.

    Whoever drives the environment, a plain loop or Stable-Baselines3, the student's epochs, its
    evaluations and the moment to stop are the same.

    Args:
        env: the co-training vector environment.
        epochs: the student's budget.
        writer: TensorBoard, or None.

    Attributes:
        steps: updates in the budget; known from the first reset on.
        done_steps: updates made so far.
        curves: `epoch`, `valid_mrr`, `train_loss`, `reward`, one entry per epoch.
        best_state: the student's state at its best epoch on valid.
        selection: who taught what; known from the first reset on.
    """

    selection: Selection

    def __init__(
        self, env: VectorEnv[Any, Any, Any], epochs: int, writer: SummaryWriter | None = None
    ) -> None:
        super().__init__(env)
        self.epochs, self.writer = epochs, writer
        self.curves: dict[str, list[Any]] = {
            name: [] for name in ("epoch", "valid_mrr", "train_loss", "reward")
        }
        self.best_mrr, self.best_epoch = -1.0, 0
        self.best_state: dict[str, Any] | None = None
        self.done_steps = 0

    @contextmanager
    def keeping(self, folder: Path | None) -> Iterator[None]:
        """If the student or its agent diverges, keep the best student so far and say where.

        Args:
            folder: gets `student.safetensors`; None writes nothing.
        """
        try:
            try:
                yield
            except ValueError:
                # Who looks at the student may come upon its numbers before it learns again.
                self.classroom.trainer.check_finite()
                raise
        except DivergedError as error:
            if self.best_state is None:
                raise DivergedError(f"{error}; no epoch had ended before") from error
            kept = f"the best student before is that of epoch {self.best_epoch}"
            if folder:
                self.save_best(folder)
                kept += f", kept in {folder / FILE}"
            raise DivergedError(f"{error}; {kept}, valid MRR {self.best_mrr:.4f}") from error

    def save_best(self, folder: Path) -> None:
        """Write the student at its best epoch on valid, atomically."""
        assert self.best_state is not None  # noqa: S101 - for the type checker; the caller looked
        config, graph = self.classroom.config, self.classroom.graph
        about = About(
            config.student,
            config.rank,
            graph.num_entities,
            graph.num_relations,
            graph.fingerprint,
            self.classroom.taught_graph.fingerprint,
        )
        save_student(folder / FILE, self.best_state["scorer"], about)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Start the environment; the budget begins with the first reset."""
        result = self.env.reset(seed=seed, options=options)
        if not self.done_steps:
            classroom = self.classroom
            self.steps = max(round(self.epochs * len(classroom.taught_rows) / self.num_envs), 1)
            self.selection = Selection(classroom.graph, classroom.teachers)
            self._rewards: list[float] = []
            self._losses: list[float] = []
        return result

    @property
    def classroom(self) -> Classroom:
        """The world of the environment."""
        classroom: Classroom = self.env.unwrapped.classroom  # type: ignore[attr-defined]
        return classroom

    @property
    def done(self) -> bool:
        """Whether the student's budget is spent."""
        return self.done_steps >= self.steps

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step, and record what it did."""
        result = self.env.step(actions)
        info = result[4]
        self.record(
            Queries(info["entity"], info["relation"], info["answer"]),
            info["executed_mask"],
            info["control"],
            float(result[1].mean()),
            float(info["student_cross_entropy"].mean()),
            info.get("executed_tempering"),
        )
        return result

    def teach(
        self, masks: NDArray[np.float32], tempering: NDArray[np.float32] | None = None
    ) -> None:
        """Step with masks, without the observation that a policy which does not look never needs.

        Args:
            masks: float32 `[batch, teachers]`.
            tempering: float32 `[batch]`, of the soft labels; None for no say in it.
        """
        lessons: TeachFrozen = self.unwrapped.lessons  # type: ignore[attr-defined]
        everyone = np.ones(self.num_envs, dtype=np.bool_)
        outcome = lessons.step(masks, everyone, ~everyone, tempering)
        self.record(
            outcome.queries,
            outcome.executed,
            outcome.control,
            float(outcome.rewards.mean()),
            float(outcome.cross_entropy.mean()),
            outcome.tempering,
        )

    def record(
        self,
        queries: Queries,
        executed: NDArray[np.float32],
        control: NDArray[np.bool_],
        reward: float,
        loss: float,
        tempering: NDArray[np.float32] | None = None,
    ) -> None:
        """Count one update, and close an epoch when its last update was made.

        Raises:
            RuntimeError: the budget was already spent.
        """
        if self.done:
            raise RuntimeError("the student's budget is spent")
        tempering = None if tempering is None else tempering[~control]
        self.selection.add(queries[~control], executed[~control], tempering)
        self._rewards.append(reward)
        self._losses.append(loss)
        self.done_steps += 1
        epoch = self.done_steps * self.epochs // self.steps
        if epoch > (self.done_steps - 1) * self.epochs // self.steps:
            self._close_epoch(epoch)

    def snapshot(self) -> Snapshot:
        """The environment and all that was recorded, for `restore`; curves on disk are not in it.

        Raises:
            ResetNeeded: before the first reset.
        """
        base: Any = self.unwrapped
        return {
            "env": base.snapshot(),
            "done_steps": self.done_steps,
            "curves": {name: list(values) for name, values in self.curves.items()},
            "best": [self.best_mrr, self.best_epoch, self.best_state],
            "rewards": list(self._rewards),
            "losses": list(self._losses),
            "selection": self.selection.snapshot(),
        }

    def restore(self, snapshot: Snapshot) -> None:
        """Go to where `snapshot` was taken; the environment was reset before."""
        base: Any = self.unwrapped
        base.restore(snapshot["env"])
        self.done_steps = snapshot["done_steps"]
        self.curves = {name: list(values) for name, values in snapshot["curves"].items()}
        self.best_mrr, self.best_epoch, self.best_state = snapshot["best"]
        self._rewards, self._losses = list(snapshot["rewards"]), list(snapshot["losses"])
        self.selection.restore(snapshot["selection"])

    def _close_epoch(self, epoch: int) -> None:
        # Before anything is selected by it: what is not finite has no rank.
        self.classroom.trainer.check_finite()
        valid = self.classroom.evaluate("valid")
        if valid["mrr"] > self.best_mrr:
            self.best_mrr, self.best_epoch = valid["mrr"], epoch
            self.best_state = self.classroom.state_dict()
        values = {
            "valid_mrr": valid["mrr"],
            "train_loss": float(np.mean(self._losses)),
            "reward": float(np.mean(self._rewards)),
        }
        self.curves["epoch"].append(epoch)
        for name, value in values.items():
            self.curves[name].append(value)
        whole, by_relation = self.selection.close_epoch()
        if self.writer:
            self._write(epoch, values, valid, whole, by_relation)
        self._rewards, self._losses = [], []

    def _write(
        self,
        epoch: int,
        values: dict[str, float],
        valid: dict[str, float],
        whole: Tally,
        by_relation: Tally,
    ) -> None:
        """TensorBoard; docs/metrics.md defines every name."""
        writer = self.writer
        assert writer is not None  # noqa: S101 - for the type checker; the caller looked
        writer.add_scalar("student/valid_mrr", values["valid_mrr"], epoch)
        for k in (1, 3, 10):
            writer.add_scalar(f"student/valid_hits@{k}", valid[f"hits@{k}"], epoch)
        writer.add_scalar("student/train_cross_entropy", values["train_loss"], epoch)
        writer.add_scalar("agent/reward", values["reward"], epoch)
        for name, curve in self.selection.curves.items():
            writer.add_scalar(f"agent/mask/{name}", curve[-1], epoch)
        labels, shares = self.classroom.graph.relation_labels, by_relation.shares()
        taught = np.flatnonzero(by_relation.queries).tolist()
        for k, teacher in enumerate(self.classroom.teachers):
            writer.add_scalar(f"agent/share/{teacher}", whole.shares()[0, k], epoch)
            for relation in taught:
                writer.add_scalar(f"share/{labels[relation]}/{teacher}", shares[relation, k], epoch)
        writer.flush()


def open_writer(folder: Path | None, kept: Mapping[str, int] | None = None) -> SummaryWriter | None:
    """A TensorBoard writer into `folder/tensorboard`, or None.

    What an interrupted trial left there is removed: its curves would be drawn twice.

    Args:
        folder: of the trial.
        kept: of `written_events`, when a checkpoint was written: so much of every file stays.
    """
    if folder is None:
        return None
    kept = kept or {}
    for path in (folder / "tensorboard").glob(_EVENTS):
        if path.name in kept and path.stat().st_size >= kept[path.name]:
            os.truncate(path, kept[path.name])
        else:
            path.unlink()
    missing = [name for name in kept if not (folder / "tensorboard" / name).exists()]
    if missing:
        names = ", ".join(missing)
        _log.warning("%s: %s is gone or cut, and its curves begin later", folder, names)
    return SummaryWriter(str(folder / "tensorboard"))


def written_events(folder: Path) -> dict[str, int]:
    """Sizes of a trial's TensorBoard files by name; whoever writes has flushed them."""
    found = {}
    for path in sorted((folder / "tensorboard").glob(_EVENTS)):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        found[path.name] = path.stat().st_size
    return found
