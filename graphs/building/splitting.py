"""Deterministic train, valid and test triples without leaks between them."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

from graphs.csr import IntArray

_STOP_WORDS = frozenset(
    {"a", "an", "and", "at", "by", "for", "from", "in", "is", "it", "of", "on", "or", "the"}
    | {"to", "with"}
)
_ABBREVIATIONS = {"st": "saint"}  # flags abbreviate what countries spell out
_STEM_LETTERS = 4
_ENDING_LETTERS = 3


def name_words(name: str) -> frozenset[str]:
    """Words of a name: lower case, without accents, punctuation and stop words."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    # An apostrophe ends a word too: "one o'clock" spells "clock".
    words = re.findall(r"[^\W_]+", plain)
    return frozenset(_ABBREVIATIONS.get(word, word) for word in words) - _STOP_WORDS


def same_word(first: str, second: str) -> bool:
    """Whether two words are one or look like forms of one (eye, eyes; Italy, Italian).

    Words are forms of one when one is the other with an `s`, or when they share their first
    four letters or more and differ in at most three letters after those. It errs towards yes:
    a wrong yes only keeps a triple in train.
    """
    if first == second or first + "s" == second or second + "s" == first:
        return True
    shared = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        shared += 1
    longest = max(len(first), len(second))
    return shared >= _STEM_LETTERS and longest - shared <= _ENDING_LETTERS


def spells(first: str, second: str) -> bool:
    """Whether one of two names contains the other, word by word and up to word forms.

    Names without words (`*`, `✓`) are compared as they are written.
    """
    one, other = name_words(first), name_words(second)
    if not one or not other:
        return first.strip().casefold() in second.casefold() or (
            second.strip().casefold() in first.casefold()
        )
    return _contained(one, other) or _contained(other, one)


def _contained(words: frozenset[str], others: frozenset[str]) -> bool:
    return all(any(same_word(word, other) for other in others) for word in words)


def pair_groups(triples: IntArray) -> IntArray:
    """Group number of every triple: one group per unordered pair of entities, int64 `[n]`.

    What shares a group must share a split: a triple, its mirror, and triples whose relations
    could imply each other.
    """
    ends = np.sort(triples[:, [0, 2]], axis=1)
    _, groups = np.unique(ends, axis=0, return_inverse=True)
    return groups.reshape(-1).astype(np.int64)


def split_triples(
    triples: IntArray,
    pinned: NDArray[np.bool_],
    rng: np.random.Generator,
    share: float = 0.1,
) -> dict[str, IntArray]:
    """Split triples into train, valid and test.

    Groups (see `pair_groups`) are visited in random order and held out, to the split that has
    fewer triples of the group's relation, unless that would leave an entity or a relation
    without a training triple, exceed the share of a relation, or hold out a pinned triple.

    Args:
        triples: distinct triples, int64 `[n, 3]`.
        pinned: boolean `[n]`, triples that must be in train.
        rng: orders the groups.
        share: the largest fraction of the triples of each relation that valid, and test, get;
            they get less where there are too few candidates. The bound is per relation so that
            relations without pinned triples do not pay for the others.

    Returns:
        Sorted triples by split name, int64 `[·, 3]`.

    Raises:
        ValueError: the share is out of range.
    """
    if not 0 <= share < 0.5:
        raise ValueError(f"share must lie in [0, 0.5), got {share}")
    num_relations = int(triples[:, 1].max(initial=-1)) + 1
    groups = pair_groups(triples)
    open_groups = np.setdiff1d(groups, groups[pinned])
    rows = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[rows], np.arange(groups.max(initial=-1) + 2))

    degrees = np.bincount(triples[:, [0, 2]].ravel())
    in_relation = np.bincount(triples[:, 1], minlength=num_relations)
    most = np.floor(share * in_relation).astype(np.int64)
    held = {split: np.zeros(num_relations, dtype=np.int64) for split in ("valid", "test")}
    owner = np.full(len(triples), "train", dtype="<U5")

    for group in rng.permutation(open_groups):
        members = rows[starts[group] : starts[group + 1]]
        ends, uses = np.unique(triples[members][:, [0, 2]], return_counts=True)
        if (degrees[ends] <= uses).any():
            continue
        added = np.bincount(triples[members, 1], minlength=num_relations)
        relation = int(triples[members[0], 1])
        # Ties go to test: what a relation cannot give to both is better spent on measuring.
        for split in sorted(held, key=lambda name: (int(held[name][relation]), name)):
            total = held[split] + added
            if (total[added > 0] <= most[added > 0]).all():
                held[split] = total
                owner[members] = split
                degrees[ends] -= uses
                break
    return {split: _sorted(triples[owner == split]) for split in ("train", "valid", "test")}


def _sorted(triples: IntArray) -> IntArray:
    return triples[np.lexsort(triples.T[::-1])]
