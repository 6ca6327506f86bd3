"""One epoch: every query once, equal questions in short runs, the runs in random order."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs import Queries
from students.batching import shuffled_batches, shuffled_runs


def random_queries(seed: int, count: int) -> Queries:
    rng = np.random.default_rng(seed)
    return Queries(*(rng.integers(0, n, count) for n in (4, 3, 9)))


def run_lengths(queries: Queries, order: np.ndarray) -> list[tuple[int, int]]:
    """(question, length) of each stretch of equal questions."""
    keys = (queries.entities * 3 + queries.relations)[order].tolist()
    runs: list[tuple[int, int]] = []
    for key in keys:
        if runs and runs[-1][0] == key:
            runs[-1] = (key, runs[-1][1] + 1)
        else:
            runs.append((key, 1))
    return runs


@given(seed=st.integers(0, 99), count=st.integers(0, 60), most=st.integers(1, 7))
@settings(max_examples=80, deadline=None)
def test_an_epoch_is_a_permutation_in_runs(seed: int, count: int, most: int) -> None:
    queries = random_queries(seed, 70)
    rows = np.random.default_rng(seed + 1).permutation(70)[:count]
    order = shuffled_runs(queries, rows, torch.Generator().manual_seed(seed), most)
    assert sorted(order.tolist()) == sorted(rows.tolist())
    totals: dict[int, int] = {}
    for key in (queries.entities * 3 + queries.relations)[rows].tolist():
        totals[key] = totals.get(key, 0) + 1
    # Runs of one question may by chance lie side by side, so there are at most as many stretches.
    assert len(run_lengths(queries, order)) <= sum(-(-n // most) for n in totals.values())


def test_runs_are_formed_anew_each_epoch_and_follow_the_seed() -> None:
    queries, rows = random_queries(0, 300), np.arange(300)
    generator = torch.Generator().manual_seed(1)
    first, second = (shuffled_runs(queries, rows, generator, 4) for _ in range(2))
    again = shuffled_runs(queries, rows, torch.Generator().manual_seed(1), 4)
    np.testing.assert_array_equal(first, again)
    assert (first != second).mean() > 0.9
    # Which queries of a question stand together changes, too.
    beside = [set(zip(o[:-1].tolist(), o[1:].tolist(), strict=True)) for o in (first, second)]
    assert len(beside[0] & beside[1]) < 60


def test_batches_are_the_epoch_cut_in_pieces() -> None:
    queries, rows = random_queries(0, 50), np.arange(50)
    batches = shuffled_batches(queries, rows, 16, torch.Generator().manual_seed(3))
    assert [len(batch) for batch in batches] == [16, 16, 16, 2]
    whole = shuffled_runs(queries, rows, torch.Generator().manual_seed(3))
    np.testing.assert_array_equal(np.concatenate(batches), whole)
