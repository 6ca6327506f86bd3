"""Ragged integer lists as two arrays, gathered without a Python loop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class CSR:
    """`rows` lists of integers, stored back to back.

    Attributes:
        offsets: int64 `[rows + 1]`; list `i` is `values[offsets[i]:offsets[i + 1]]`.
        values: int64 `[total]`, sorted and distinct within a list.
    """

    offsets: IntArray
    values: IntArray

    @classmethod
    def from_pairs(cls, rows: IntArray, values: IntArray, num_rows: int) -> CSR:
        """Group `values` by `rows`, dropping repeated pairs.

        Args:
            rows: int64 `[n]`, each in `[0, num_rows)`.
            values: int64 `[n]`, not negative.
            num_rows: number of lists, empty ones included.
        """
        width = int(values.max()) + 1 if len(values) else 1
        keys = np.unique(rows.astype(np.int64) * width + values.astype(np.int64))
        owners = keys // width
        offsets = np.zeros(num_rows + 1, dtype=np.int64)
        np.cumsum(np.bincount(owners, minlength=num_rows), out=offsets[1:])
        return cls(offsets, keys % width)

    def __len__(self) -> int:
        """Number of lists."""
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> IntArray:
        """List `row`."""
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def counts(self, rows: IntArray) -> IntArray:
        """Length of each of the lists `rows`."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def gather(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """All entries of the lists `rows`, back to back.

        Returns:
            `(positions, values)`, int64 `[entries]` each: `positions` says which element of
            `rows` an entry belongs to, in ascending order.
        """
        counts = self.counts(rows)
        positions = np.repeat(np.arange(len(rows)), counts)
        starts = np.repeat(self.offsets[rows] - (np.cumsum(counts) - counts), counts)
        return positions, self.values[starts + np.arange(len(positions))]


@dataclass(frozen=True)
class KeyedLists:
    """Lists under sparse integer keys; a key that was never given has an empty list.

    Attributes:
        keys: int64 `[lists]`, ascending and distinct.
        lists: one list per key, and an empty one at the end for every other key.
    """

    keys: IntArray
    lists: CSR

    @classmethod
    def from_pairs(cls, keys: IntArray, values: IntArray) -> KeyedLists:
        """Group `values` `[n]` by `keys` `[n]`, dropping repeated pairs."""
        distinct, rows = np.unique(keys, return_inverse=True)
        return cls(distinct, CSR.from_pairs(rows, values, len(distinct) + 1))

    def rows(self, keys: IntArray) -> IntArray:
        """Position of each key's list in `lists`."""
        rows = np.searchsorted(self.keys, keys)
        found = rows < len(self.keys)
        found[found] = self.keys[rows[found]] == keys[found]
        return np.where(found, rows, len(self.keys))

    def __getitem__(self, key: int) -> IntArray:
        """The list under `key`."""
        return self.lists[int(self.rows(np.array([key]))[0])]

    def counts(self, keys: IntArray) -> IntArray:
        """Length of the list under each of `keys`."""
        return self.lists.counts(self.rows(keys))

    def gather(self, keys: IntArray) -> tuple[IntArray, IntArray]:
        """All entries of the lists under `keys`, back to back, as `CSR.gather` gives them."""
        return self.lists.gather(self.rows(keys))
