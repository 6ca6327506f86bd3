"""The order in which training queries are learned from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from graphs import Queries
from graphs.csr import IntArray

# Queries of one (entity, relation) that are dealt in a row.
LONGEST_RUN = 16


def shuffled_runs(
    queries: Queries, rows: IntArray, generator: torch.Generator, most: int = LONGEST_RUN
) -> IntArray:
    """One epoch: `rows` in random order, except that equal questions come in runs.

    Queries with the same entity and relation differ in their answers only and share their logits,
    so beside each other they cost one row of products. On the graphs of the literature this
    halves the work (docs/performance.md). Runs are short, so that no question fills a batch, and
    each epoch forms them anew.

    Args:
        queries: all training queries.
        rows: int64 `[n]`, positions in `queries`.
        generator: the only source of randomness.
        most: longest run.

    Returns:
        int64 `[n]`, a permutation of `rows`.
    """
    order = rows[torch.randperm(len(rows), generator=generator).numpy()]
    width = int(queries.relations.max()) + 1 if len(queries) else 1
    keys = queries.entities[order] * width + queries.relations[order]
    by_key = np.argsort(keys, kind="stable")
    order, keys = order[by_key], keys[by_key]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    lengths = np.diff(np.concatenate([starts, [len(keys)]]))
    within = np.arange(len(keys)) - np.repeat(starts, lengths)
    run = np.cumsum(within % most == 0) - 1
    place = torch.randperm(int(run[-1]) + 1 if len(run) else 0, generator=generator).numpy()
    shuffled: IntArray = order[np.argsort(place[run], kind="stable")]
    return shuffled


def shuffled_batches(
    queries: Queries, rows: IntArray, batch_size: int, generator: torch.Generator
) -> Sequence[IntArray]:
    """One epoch of `shuffled_runs` in batches of `batch_size` (the last may be smaller)."""
    order = shuffled_runs(queries, rows, generator)
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
