"""How long a teacher learns, and which of its states is kept: the one loop of all objectives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch

from graphs import Queries
from graphs.csr import IntArray
from students.batching import shuffled_batches
from students.evaluation import evaluate_ranking
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

    Returns:
        The snapshot of the best look.
    """
    best, kept, looks, loss = -1.0, snapshot(), 0, 0.0
    for epoch in range(1, max_epochs + 1):
        for batch in shuffled_batches(queries, rows, batch_size, generator):
            loss = learn(queries[batch])
        if end_epoch is not None:
            end_epoch()
        if epoch % evaluate_every and epoch != max_epochs:
            continue
        mrr = look(epoch, loss)
        looks = 0 if mrr > best else looks + 1
        if mrr > best:
            best, kept = mrr, snapshot()
        if patience is not None and looks >= patience:
            break
    return kept


def fit_trainer(
    trainer: Trainer,
    rows: IntArray,
    config: Patience,
    generator: torch.Generator,
    report: Callable[[str], None] | None = None,
    label: str = "teacher",
) -> dict[str, Any]:
    """`fit` for a model with one trainer.

    Args:
        trainer: of a teacher; its graph gives queries and valid, test triples are not read. At
            the end of each epoch its hooks are told.
        rows: int64 `[n]`, which of the training queries.
        config: batch size and patience.
        generator: of the order of the queries.
        report: called with a line after each look at valid.
        label: what the line calls the teacher.

    Returns:
        `trainer.state_dict()` at the best look.
    """
    notes: list[str] = []

    def end_epoch() -> None:
        notes[:] = [note for hook in trainer.hooks if (note := hook.end_epoch())]

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
        lambda batch: trainer.update(trainer.forward(batch)).loss,
        look,
        trainer.state_dict,
        config.evaluate_every,
        config.patience,
        end_epoch,
    )
