"""How long a teacher learns, and which of its states is kept: the one loop of all objectives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from graphs import Queries
from graphs.csr import IntArray
from students.batching import shuffled_batches

State = TypeVar("State")


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

    Returns:
        The snapshot of the best look.
    """
    best, kept, looks, loss = -1.0, snapshot(), 0, 0.0
    for epoch in range(1, max_epochs + 1):
        for batch in shuffled_batches(queries, rows, batch_size, generator):
            loss = learn(queries[batch])
        if epoch % evaluate_every and epoch != max_epochs:
            continue
        mrr = look(epoch, loss)
        looks = 0 if mrr > best else looks + 1
        if mrr > best:
            best, kept = mrr, snapshot()
        if patience is not None and looks >= patience:
            break
    return kept
