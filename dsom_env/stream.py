"""The endless, seeded stream of training queries that the sub-environments share."""

from __future__ import annotations

import numpy as np
import torch

from graphs.csr import IntArray


class QueryStream:
    """Deals out rows, every row once per epoch, in an order that only the seed decides.

    Epochs run into each other, so every batch is full and an epoch costs the same number of
    updates whoever learns.

    Args:
        rows: int64 `[n]`, what is dealt.
        seed: of the order.
    """

    def __init__(self, rows: IntArray, seed: int) -> None:
        if not len(rows):
            raise ValueError("there are no training queries to deal")
        self.rows = rows
        self._generator = torch.Generator().manual_seed(seed)
        self._order = rows[:0]
        self.dealt = 0

    def take(self, count: int) -> IntArray:
        """The next `count` rows, int64 `[count]`."""
        while len(self._order) < count:
            shuffled = torch.randperm(len(self.rows), generator=self._generator).numpy()
            self._order = np.concatenate([self._order, self.rows[shuffled]])
        batch, self._order = self._order[:count], self._order[count:]
        self.dealt += count
        return batch


def reward_split(num_triples: int, fraction: float, seed: int = 0) -> IntArray:
    """Training triples withheld as the reward split, ascending; the same for every agent."""
    count = round(fraction * num_triples)
    rows = np.random.default_rng(seed).permutation(num_triples)[:count]
    return np.sort(rows).astype(np.int64)
