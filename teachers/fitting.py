"""How long a teacher learns, and which of its states is kept: the one loop of all objectives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch

from graphs import Queries
from graphs.csr import IntArray
from students.batching import shuffled_batches
from students.checkpoints import Checkpoints
from students.evaluation import evaluate_ranking
from students.snapshots import Snapshot
from students.training import Trainer

State = TypeVar("State")


class Patience(Protocol):
    """How long is trained, see `teachers.pretraining.PretrainingConfig`."""

    @property
    def batch_size(self) -> int: ...  # noqa: D102
    @property
    def max_epochs(self) -> int: ...  # noqa: D102
    @property
    def evaluate_every(self) -> int: ...  # noqa: D102
    @property
    def patience(self) -> int: ...  # noqa: D102
    @property
    def sampled(self) -> int | None: ...  # noqa: D102


class Resumable(Protocol):
    """What learns, and can go on elsewhere from the end of an epoch."""

    def snapshot(self) -> Snapshot: ...  # noqa: D102
    def restore(self, snapshot: Snapshot) -> None: ...  # noqa: D102


@dataclass
class _Course:
    """How far `fit` is.

    Attributes:
        kept: snapshot of the best look.
        epoch: that has ended.
        best: valid MRR of the best look.
        looks: since then.
        loss: of the last batch.
    """

    kept: Any
    epoch: int = 0
    best: float = -1.0
    looks: int = 0
    loss: float = 0.0


def fit(
    queries: Queries,
    rows: IntArray,
    batch_size: int,
    max_epochs: int,
    generator: torch.Generator,
    learn: Callable[[Queries], float],
    look: Callable[[int, float], float],
    snapshot: Callable[[], State],
    evaluate_every: int = 1,
    patience: int | None = None,
    end_epoch: Callable[[], None] | None = None,
    checkpoints: Checkpoints | None = None,
    learner: Resumable | None = None,
) -> State:
    """Epochs of shuffled batches, ended early by valid; the best look decides.

    Args:
        queries: all training queries.
        rows: int64 `[n]`, positions of those that are learned from.
        batch_size: queries per update.
        max_epochs: upper bound.
        generator: of the order of the batches.
        learn: makes an update from a batch and returns its loss.
        look: called with epoch and last loss, returns a valid MRR.
        snapshot: copies the state that is kept if the look was the best so far.
        evaluate_every: epochs between looks.
        patience: looks without a better MRR before training stops; None for no such stop.
        end_epoch: called after every epoch, before the look if there is one.
        checkpoints: where it goes on if it was killed; None begins anew.
        learner: all that `learn`, `look` and `end_epoch` change; needed with `checkpoints`.

    Returns:
        The snapshot of the best look.

    Raises:
        ValueError: a checkpoint is of another run.
    """
    course = _Course(snapshot())
    saved = checkpoints.latest() if checkpoints else None
    if checkpoints and learner and saved:
        with checkpoints.restoring():
            course = _Course(**saved["course"])
            learner.restore(saved["learner"])
            generator.set_state(saved["order"])
    while course.epoch < max_epochs and not (patience and course.looks >= patience):
        # Before an epoch, where nothing is under way.
        if checkpoints and learner and course.epoch and checkpoints.due():
            state = {"learner": learner.snapshot(), "order": generator.get_state()}
            checkpoints.write({"course": dict(vars(course)), **state})
        for batch in shuffled_batches(queries, rows, batch_size, generator):
            course.loss = learn(queries[batch])
        course.epoch += 1
        if end_epoch is not None:
            end_epoch()
        if course.epoch % evaluate_every and course.epoch != max_epochs:
            continue
        mrr = look(course.epoch, course.loss)
        course.looks = 0 if mrr > course.best else course.looks + 1
        if mrr > course.best:
            course.best, course.kept = mrr, snapshot()
    kept: State = course.kept
    return kept


class _HookedTrainer:
    """A trainer with its hooks, as `fit` resumes it."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def snapshot(self) -> Snapshot:
        """Parameters, optimiser, counters, and what the hooks remember."""
        hooks = [hook.snapshot() for hook in self.trainer.hooks]
        return {"trainer": self.trainer.state_dict(), "hooks": hooks}

    def restore(self, snapshot: Snapshot) -> None:
        """Take over what `snapshot` returned."""
        self.trainer.load_state_dict(snapshot["trainer"])
        for hook, remembered in zip(self.trainer.hooks, snapshot["hooks"], strict=True):
            hook.restore(remembered)


def fit_trainer(
    trainer: Trainer,
    rows: IntArray,
    config: Patience,
    generator: torch.Generator,
    report: Callable[[str], None] | None = None,
    label: str = "teacher",
    checkpoints: Checkpoints | None = None,
) -> dict[str, Any]:
    """`fit` for a model with one trainer.

    Args:
        trainer: of a teacher; its graph gives queries and valid, test triples are not read. At
            the end of each epoch its hooks are told.
        rows: int64 `[n]`, which of the training queries.
        config: batch size, patience, and how many entities each update is about.
        generator: of the order of the queries, and of samples.
        report: called with a line after each look at valid.
        label: what the line calls the teacher.
        checkpoints: see `fit`.

    Returns:
        `trainer.state_dict()` at the best look.
    """
    notes: list[str] = []

    def end_epoch() -> None:
        notes[:] = [note for hook in trainer.hooks if (note := hook.end_epoch())]

    def learn(batch: Queries) -> float:
        sample = None
        if config.sampled is not None:
            sample = trainer.sample(batch, config.sampled, generator)
        return trainer.update(trainer.forward(batch, sample)).loss

    def look(epoch: int, loss: float) -> float:
        trainer.check_finite()
        mrr = evaluate_ranking(trainer.score, trainer.graph, "valid")["mrr"]
        if report:
            report(" ".join([f"{label} epoch {epoch} loss {loss:.3f}", *notes, f"valid {mrr:.4f}"]))
        return mrr

    return fit(
        trainer.graph.queries("train"),
        rows,
        config.batch_size,
        config.max_epochs,
        generator,
        learn,
        look,
        trainer.state_dict,
        config.evaluate_every,
        config.patience,
        end_epoch,
        checkpoints,
        _HookedTrainer(trainer),
    )
