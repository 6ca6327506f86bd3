"""What happens to the student while an agent chooses: curves, shares, the best state on valid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from dsom_env.classroom import Classroom
from dsom_env.cotraining import AnyVectorWrapper
from dsom_env.lessons import TeachFrozen
from graphs.csr import IntArray


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
        curves: `epoch`, `valid_mrr`, `train_loss`, `reward`, one entry per epoch.
        best_state: the student's state at its best epoch on valid.
    """

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
        self._done_steps = 0

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Start the environment; the budget begins with the first reset."""
        result = self.env.reset(seed=seed, options=options)
        if not self._done_steps:
            classroom = self.classroom
            self.steps = max(round(self.epochs * len(classroom.taught_rows) / self.num_envs), 1)
            relations, teachers = 2 * classroom.graph.num_relations, len(classroom.teachers)
            self._shares = np.zeros((relations, teachers))
            self._counts = np.zeros(relations)
            self._all_shares, self._all_counts = self._shares.copy(), self._counts.copy()
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
        return self._done_steps >= self.steps

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step, and record what it did."""
        result = self.env.step(actions)
        info = result[4]
        self.record(
            info["relation"],
            info["executed_mask"],
            info["control"],
            float(result[1].mean()),
            float(info["student_cross_entropy"].mean()),
        )
        return result

    def teach(self, masks: NDArray[np.float32]) -> None:
        """Step with masks, without the observation that a policy which does not look never needs.

        Args:
            masks: float32 `[batch, teachers]`.
        """
        lessons: TeachFrozen = self.unwrapped.lessons  # type: ignore[attr-defined]
        everyone = np.ones(self.num_envs, dtype=np.bool_)
        outcome = lessons.step(masks, acting=everyone, ends=~everyone)
        self.record(
            outcome.queries.relations,
            outcome.executed,
            outcome.control,
            float(outcome.rewards.mean()),
            float(outcome.cross_entropy.mean()),
        )

    def record(
        self,
        relations: IntArray,
        executed: NDArray[np.float32],
        control: NDArray[np.bool_],
        reward: float,
        loss: float,
    ) -> None:
        """Count one update, and close an epoch when its last update was made.

        Raises:
            RuntimeError: the budget was already spent.
        """
        if self.done:
            raise RuntimeError("the student's budget is spent")
        np.add.at(self._shares, relations[~control], executed[~control] > 0)
        np.add.at(self._counts, relations[~control], 1)
        self._rewards.append(reward)
        self._losses.append(loss)
        self._done_steps += 1
        epoch = self._done_steps * self.epochs // self.steps
        if epoch > (self._done_steps - 1) * self.epochs // self.steps:
            self._close_epoch(epoch)

    def _close_epoch(self, epoch: int) -> None:
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
        if self.writer:
            self._write(epoch, values, valid)
        self._all_shares += self._shares
        self._all_counts += self._counts
        self._shares[:], self._counts[:] = 0.0, 0.0
        self._rewards, self._losses = [], []

    def _write(self, epoch: int, values: dict[str, float], valid: dict[str, float]) -> None:
        """TensorBoard; docs/metrics.md defines every name."""
        writer = self.writer
        assert writer is not None  # noqa: S101 - for the type checker; the caller looked
        writer.add_scalar("student/valid_mrr", values["valid_mrr"], epoch)
        for k in (1, 3, 10):
            writer.add_scalar(f"student/valid_hits@{k}", valid[f"hits@{k}"], epoch)
        writer.add_scalar("student/train_cross_entropy", values["train_loss"], epoch)
        writer.add_scalar("agent/reward", values["reward"], epoch)
        classroom = self.classroom
        half = classroom.graph.num_relations
        for k, teacher in enumerate(classroom.teachers):
            share = self._shares[:, k].sum() / max(self._counts.sum(), 1)
            writer.add_scalar(f"agent/share/{teacher}", share, epoch)
            for relation, label in enumerate(classroom.graph.relation_labels):
                count = self._counts[relation] + self._counts[relation + half]
                chosen = self._shares[relation, k] + self._shares[relation + half, k]
                if count:
                    writer.add_scalar(f"share/{label}/{teacher}", chosen / count, epoch)
        writer.flush()

    def mean_mask(self) -> dict[str, float]:
        """Share of the taught queries that each teacher taught, over the whole run."""
        total = max(self._all_counts.sum(), 1.0)
        shares = (self._all_shares.sum(0) / total).tolist()
        return dict(zip(self.classroom.teachers, shares, strict=True))

    def mask_by_relation(self) -> dict[str, dict[str, float]]:
        """`mean_mask` for each relation, both directions together, by relation label."""
        graph, teachers = self.classroom.graph, self.classroom.teachers
        half = graph.num_relations
        counts = self._all_counts[:half] + self._all_counts[half:]
        chosen = self._all_shares[:half] + self._all_shares[half:]
        return {
            label: dict(zip(teachers, (chosen[r] / counts[r]).tolist(), strict=True))
            for r, label in enumerate(graph.relation_labels)
            if counts[r]
        }


def open_writer(folder: Path | None) -> SummaryWriter | None:
    """A TensorBoard writer into `folder/tensorboard`, or None.

    What an interrupted trial left there is removed: its curves would be drawn twice.
    """
    if folder is None:
        return None
    for old in (folder / "tensorboard").glob("events.*"):
        old.unlink()
    return SummaryWriter(str(folder / "tensorboard"))
