"""CSR and KeyedLists against dicts of sets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs import CSR, KeyedLists

PAIRS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 40)), max_size=60)


def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def expected_gather(lists: dict[int, set[int]], asked: list[int]) -> tuple[list[int], list[int]]:
    entries = [(i, value) for i, key in enumerate(asked) for value in sorted(lists.get(key, ()))]
    return [i for i, _ in entries], [value for _, value in entries]


def brute_force(pairs: list[tuple[int, int]]) -> dict[int, set[int]]:
    lists: dict[int, set[int]] = {}
    for key, value in pairs:
        lists.setdefault(key, set()).add(value)
    return lists


@given(PAIRS, st.lists(st.integers(0, 14), max_size=30))
def test_csr_is_a_dict_of_sets(pairs: list[tuple[int, int]], asked: list[int]) -> None:
    lists = brute_force(pairs)
    csr = CSR.from_pairs(*columns(pairs), num_rows=15)
    assert len(csr) == 15
    assert [csr[row].tolist() for row in range(15)] == [
        sorted(lists.get(row, ())) for row in range(15)
    ]
    rows = np.array(asked, dtype=np.int64)
    positions, values = csr.gather(rows)
    assert (positions.tolist(), values.tolist()) == expected_gather(lists, asked)
    assert csr.counts(rows).tolist() == [len(lists.get(row, ())) for row in asked]


@given(
    PAIRS,
    st.lists(st.integers(-3, 15), max_size=30),
    st.integers(1, 2**40),
)
def test_keyed_lists_are_a_dict_of_sets(
    pairs: list[tuple[int, int]], asked: list[int], stride: int
) -> None:
    # Strides spread the keys, as query keys are spread; absent keys lie between and outside.
    lists = brute_force(pairs)
    keys, values = columns(pairs)
    keyed = KeyedLists.from_pairs(keys * stride, values)
    wanted = np.array(asked, dtype=np.int64) * stride
    positions, gathered = keyed.gather(wanted)
    assert (positions.tolist(), gathered.tolist()) == expected_gather(lists, asked)
    assert keyed.counts(wanted).tolist() == [len(lists.get(key, ())) for key in asked]
    for key in asked:
        assert keyed[key * stride].tolist() == sorted(lists.get(key, ()))
    if stride > 1:
        assert keyed.counts(keys * stride + 1).tolist() == [0] * len(keys)


def test_the_order_of_the_pairs_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    rows, values = rng.integers(0, 50, 500), rng.integers(0, 90, 500)
    order = rng.permutation(500)
    one = CSR.from_pairs(rows, values, 50)
    other = CSR.from_pairs(rows[order], values[order], 50)
    np.testing.assert_array_equal(one.offsets, other.offsets)
    np.testing.assert_array_equal(one.values, other.values)


@pytest.mark.parametrize("dtype", [np.int32, np.int16])
def test_narrow_ids_do_not_overflow(dtype: type) -> None:
    rows = np.array([300, 300, 2], dtype=dtype)
    values = np.array([30_000, 29_999, 1], dtype=dtype)
    csr = CSR.from_pairs(rows, values, 301)
    assert csr[300].tolist() == [29_999, 30_000]
    assert csr.values.dtype == np.int64
