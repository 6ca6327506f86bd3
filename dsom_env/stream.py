"""The endless, seeded stream of training queries that the sub-environments share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from graphs import MultimodalGraph, Queries
from graphs.csr import IntArray
from students.batching import shuffled_runs
from students.snapshots import Snapshot


class QueryStream:
    """Deals out rows, every row once per epoch, in an order that only the seed decides.

    Equal questions come in short runs, see `shuffled_runs`. Epochs run into each other, so every
    batch is full and an epoch costs the same number of updates whoever learns.

    Args:
        queries: all training queries.
        rows: int64 `[n]`, positions in `queries`: what is dealt.
        seed: of the order.
    """

    def __init__(self, queries: Queries, rows: IntArray, seed: int) -> None:
        if not len(rows):
            raise ValueError("there are no training queries to deal")
        self.queries, self.rows = queries, rows
        self._generator = torch.Generator().manual_seed(seed)
        self._order = rows[:0]
        self.dealt = 0

    def snapshot(self) -> Snapshot:
        """Where it is."""
        state = self._generator.get_state()
        return {"generator": state, "order": self._order, "dealt": self.dealt}

    def restore(self, snapshot: Snapshot) -> None:
        """Go to where `snapshot` was taken, in a stream of the same queries."""
        self._generator.set_state(snapshot["generator"])
        self._order, self.dealt = snapshot["order"], snapshot["dealt"]

    def take(self, count: int) -> IntArray:
        """The next `count` rows, int64 `[count]`."""
        while len(self._order) < count:
            shuffled = shuffled_runs(self.queries, self.rows, self._generator)
            self._order = np.concatenate([self._order, shuffled])
        batch, self._order = self._order[:count], self._order[count:]
        self.dealt += count
        return batch


def taught_graph(
    graph: MultimodalGraph, fraction: float, among: int | None = None
) -> MultimodalGraph:
    """The graph that student and teachers learn from: without the reward split.

    A teacher that had seen the withheld triples would be paid for whispering them.

    Args:
        graph: with the reward split.
        fraction: of the training triples that may be withheld.
        among: how many of these there are, the first ones; None for all.

    Raises:
        ValueError: `fraction` is not zero, and of this graph none at all.
    """
    if not fraction:
        return graph
    train = graph.triples["train"]
    among = len(train) if among is None else among
    withheld = reward_split(among, fraction)
    if not len(withheld):
        raise ValueError(
            f"reward_fraction: {fraction!r} of {among} training triples is none at all"
        )
    kept = np.delete(train, withheld, axis=0)
    return replace(graph, triples={**graph.triples, "train": kept})


def reward_split(num_triples: int, fraction: float, seed: int = 0) -> IntArray:
    """Training triples withheld as the reward split, ascending; the same for every agent."""
    count = round(fraction * num_triples)
    rows = np.random.default_rng(seed).permutation(num_triples)[:count]
    return np.sort(rows).astype(np.int64)
