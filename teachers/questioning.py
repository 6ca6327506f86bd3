"""Asking the teachers about every training query: how a store is filled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphs import MultimodalGraph, Queries
from graphs.csr import IntArray
from students.evaluation import by_question, filtered_ranks
from students.forward import BLOCK_ELEMENTS
from students.scorer import Scorer
from teachers.information import asked_information
from teachers.store import FEATURES, TeacherStore

Progress = Callable[[int, int], None]
Floats = NDArray[np.float32]

# Logits that are read at a time: 1 MiB, which stay in a core's own cache.
_READ_ELEMENTS = 2**18
# Queries of a chunk, for each of its questions.
_MOST_SHARED = 8


def fold_of_queries(graph: MultimodalGraph, folds: int, seed: int = 0) -> IntArray:
    """Fold of every training query, int64 `[queries]`; both directions of a triple share one."""
    count = len(graph.triples["train"])
    order = np.random.default_rng(seed).permutation(count)
    fold = np.empty(count, dtype=np.int64)
    fold[order] = np.arange(count) % folds
    return np.concatenate([fold, fold])


class _Filling:
    """A store while it is being filled, chunk by chunk.

    Args:
        queries: how many there are.
        teachers: names.
        most: the longest list that there can be.
        num_entities: `E`.
    """

    def __init__(self, queries: int, teachers: tuple[str, ...], most: int, num_entities: int):
        shape = (queries, len(teachers))
        self.teachers, self.num_entities = teachers, num_entities
        self.starts = np.zeros(queries, dtype=np.int64)
        self.counts = np.zeros(queries, dtype=np.int64)
        # Room for the longest lists; what is not written to takes no memory.
        self.entities = np.empty(queries * most, dtype=np.int32)
        self.log_probs = np.empty((queries * most, len(teachers)), dtype=np.float16)
        self.log_tail = np.zeros(shape, dtype=np.float32)
        self.tail_mass = np.zeros(shape, dtype=np.float32)
        self.features = np.zeros((*shape, len(FEATURES)), dtype=np.float32)
        self.used = 0

    def append(
        self, counts: IntArray, entities: NDArray[np.int32], log_probs: NDArray[np.float16]
    ) -> slice:
        """Add lists; returns where they went."""
        part = slice(self.used, self.used + len(entities))
        self.entities[part] = entities
        self.log_probs[part] = log_probs
        self.used += len(entities)
        return part

    def finish(self, names: tuple[str, ...], information: Floats) -> TeacherStore:
        """The store, with what co-trained teachers know of themselves."""
        return TeacherStore(
            self.teachers,
            self.starts,
            self.counts,
            self.entities[: self.used],
            self.log_probs[: self.used],
            self.log_tail,
            self.tail_mass,
            self.features,
            self.num_entities,
            names,
            information,
        )


@dataclass(frozen=True)
class _Opinion:
    """What one teacher says of a chunk: logits of its distinct questions, and what is read off.

    Attributes:
        logits: float32 `[rows, entities]`.
        log_normaliser: float32 `[rows]`.
        best: int64 `[rows, K]`, the entities with the highest logits, in no order.
        features: float32 `[queries, len(FEATURES)]`.
    """

    logits: Floats
    log_normaliser: Floats
    best: IntArray
    features: Floats


def _opinion(
    logits: Tensor, row_of: IntArray, queries: Queries, graph: MultimodalGraph, top_k: int
) -> _Opinion:
    """Read off everything the store keeps of one teacher.

    Ranks are filtered by training answers, or queries with many answers look unanswerable
    (findings.md 7). The unit is nats for log-probabilities and entropy, log of a rank for ranks.

    Args:
        logits: float32 `[rows, entities]`.
        row_of: int64 `[queries]`, the row of each query.
        queries: the chunk, equal questions beside each other.
        graph: training answers and neighbors.
        top_k: how many of the best entities.
    """
    values = logits.numpy()
    step = max(_READ_ELEMENTS // values.shape[1], 1)
    # A few rows at a time, so that they are still in a cache when they are read once more.
    scratch = torch.empty(2, step, values.shape[1])
    parts = [_summary(logits[i : i + step], top_k, scratch) for i in range(0, len(logits), step)]
    best, first, second, log_normaliser, entropy = map(np.concatenate, zip(*parts, strict=True))
    firsts = np.searchsorted(row_of, np.arange(len(values)))
    rows, neighbors = graph.neighbors.gather(queries.entities[firsts])
    near = np.exp(values[rows, neighbors] - log_normaliser[rows])
    by_row = {
        "entropy": entropy,
        "max_log_p": first - log_normaliser,
        "margin": first - second,
        "neighbor_mass": np.bincount(rows, near, len(values)),
    }
    keys = graph.query_keys(queries.entities, queries.relations)
    answers = torch.from_numpy(queries.answers)
    known = graph.train_answers
    ranks = filtered_ranks(logits, keys, answers, known, torch.from_numpy(row_of))
    columns = {name: values[row_of] for name, values in by_row.items()}
    columns["log_p_answer"] = values[row_of, queries.answers] - log_normaliser[row_of]
    columns["log_rank"] = np.log(ranks)
    features = np.stack([columns[f] for f in FEATURES], axis=1).astype(np.float32)
    return _Opinion(values, log_normaliser, best, features)


def _summary(
    logits: Tensor, top_k: int, scratch: Tensor
) -> tuple[IntArray, Floats, Floats, Floats, Floats]:
    """Of rows of logits: the best, the highest two, the log of the normaliser, the entropy."""
    exponentials, products = scratch[:, : len(logits)]
    best = best_columns(logits.numpy(), min(max(top_k, 2), logits.shape[1]))
    top = np.take_along_axis(logits.numpy(), best, axis=1)
    first_place = top.argmax(1)
    first = torch.from_numpy(top.max(1))
    np.put_along_axis(top, first_place[:, None], -np.inf, axis=1)
    torch.sub(logits, first[:, None], out=exponentials).exp_()
    sums = exponentials.sum(1)
    log_normaliser = sums.log() + first
    # Underflowed probabilities add nothing. (A product by bmm takes seven times as long.)
    mean = torch.mul(exponentials, logits, out=products).sum(1) / sums
    entropy = log_normaliser - mean
    if best.shape[1] > top_k:
        best = np.take_along_axis(best, first_place[:, None], axis=1)
    return best, first.numpy(), top.max(1), log_normaliser.numpy(), entropy.numpy()


def best_columns(values: Floats, count: int) -> IntArray:
    """Columns of the `count` highest values of each row, in no order, int64 `[rows, count]`.

    They all lie in the `count` groups of columns with the highest maxima, so that two selections
    among √(columns·count) take the place of one among all.

    Args:
        values: `[rows, columns]`.
        count: from 1 to the number of columns.
    """
    rows, width = values.shape
    size = math.isqrt(width // count)
    if size < 2:
        return _select(values, count)
    groups = width // size
    maxima = values[:, : size * groups].reshape(rows, size, groups).max(1)
    chosen = _select(maxima, count)
    members = np.arange(size)[:, None] * groups
    candidates = (chosen[:, None, :] + members).reshape(rows, -1)
    # Columns that no group has are always candidates.
    left = np.broadcast_to(np.arange(size * groups, width), (rows, width - size * groups))
    candidates = np.concatenate([candidates, left], axis=1)
    found = torch.from_numpy(values).gather(1, torch.from_numpy(candidates)).numpy()
    return np.take_along_axis(candidates, _select(found, count), axis=1)


def _select(values: Floats, count: int) -> IntArray:
    """`best_columns` by one selection; NumPy's has vector instructions, torch's does not."""
    if count == values.shape[1]:
        return np.broadcast_to(np.arange(count), values.shape)
    return np.argpartition(values, -count, axis=1)[:, -count:]


@dataclass(frozen=True)
class _Lists:
    """Lists of entities with the teachers' log-probabilities, back to back.

    Attributes:
        counts: int64 `[lists]`, length of each.
        entities: int32 `[listed]`, ascending and distinct within a list.
        log_probs: float16 `[listed, teachers]`.
        mass: float64 `[lists, teachers]`, exact sums of the listed probabilities.
    """

    counts: IntArray
    entities: NDArray[np.int32]
    log_probs: NDArray[np.float16]
    mass: NDArray[np.float64]


def _union(opinions: Sequence[_Opinion]) -> _Lists:
    """For each row the union of all teachers' best: they differ in scale, so each has its own."""
    entities = np.concatenate([o.best for o in opinions], axis=1).astype(np.int32)
    entities.sort(axis=1)
    distinct = np.ones(entities.shape, dtype=np.bool_)
    np.not_equal(entities[:, 1:], entities[:, :-1], out=distinct[:, 1:])
    counts = distinct.sum(1)
    listed = entities[distinct]
    rows = np.repeat(np.arange(len(counts)), counts)
    log_probs = _log_probs(opinions, rows, listed)
    mass = np.add.reduceat(np.exp(log_probs, dtype=np.float64), np.cumsum(counts) - counts, axis=0)
    return _Lists(counts, listed, _half(log_probs), mass)


def _with_answers(
    lists: _Lists, opinions: Sequence[_Opinion], row_of: IntArray, answers: IntArray
) -> _Lists:
    """For each query the list of its row, and its answer where that has not got it."""
    starts = np.cumsum(lists.counts) - lists.counts
    width = opinions[0].logits.shape[1]
    listed = np.repeat(np.arange(len(starts)), lists.counts) * width + lists.entities
    wanted = row_of * width + answers
    places = np.searchsorted(listed, wanted)
    missing = listed[np.minimum(places, len(listed) - 1)] != wanted
    counts = lists.counts[row_of] + missing
    total = int(counts.sum())
    begins = np.cumsum(counts) - counts
    # What comes after the answer in its list is one place further there than in the row's.
    inserted = np.where(missing, begins + places - starts[row_of], total)
    target = np.arange(total)
    source = target + np.repeat(starts[row_of] - begins, counts)
    source -= target > np.repeat(inserted, counts)
    entities = lists.entities.take(source, mode="clip")
    log_probs = lists.log_probs.take(source, axis=0, mode="clip")
    own = _log_probs(opinions, row_of[missing], answers[missing])
    entities[inserted[missing]] = answers[missing]
    log_probs[inserted[missing]] = _half(own)
    mass = lists.mass[row_of]
    mass[missing] += np.exp(own, dtype=np.float64)
    return _Lists(counts, entities, log_probs, mass)


def _log_probs(
    opinions: Sequence[_Opinion], rows: IntArray, entities: NDArray[np.integer[Any]]
) -> Floats:
    """Every teacher's log-probability of (row, entity) pairs, float32 `[pairs, teachers]`."""
    places = rows * opinions[0].logits.shape[1] + entities
    log_probs = np.empty((len(rows), len(opinions)), dtype=np.float32)
    for number, opinion in enumerate(opinions):
        # Gathered by torch, which is quicker at it.
        own = torch.from_numpy(opinion.logits).view(-1)[torch.from_numpy(places)].numpy()
        np.subtract(own, opinion.log_normaliser[rows], out=log_probs[:, number])
    return log_probs


def _half(log_probs: Floats) -> NDArray[np.float16]:
    return np.maximum(log_probs, np.finfo(np.float16).min).astype(np.float16)


@torch.no_grad()
def build_store(
    graph: MultimodalGraph,
    teachers: Mapping[str, Sequence[Scorer]],
    top_k: int | None = 64,
    chunk: int | None = None,
    progress: Progress | None = None,
    queries: Queries | None = None,
) -> TeacherStore:
    """Question the teachers about every training query, or about others.

    Args:
        graph: gives the queries, the filter and the neighbors.
        teachers: per name one model (in-sample), or K models of which number `f` did not train
            on the triples of fold `f`, so that every query is answered by a stranger to it.
        top_k: entities listed per teacher; None lists them all (`store=exact`).
        chunk: distinct questions scored at a time; None for what fits a processor's cache.
        progress: called with (queries done, all queries).
        queries: others than the training ones, to which every teacher is a stranger: the folds
            take turns. What co-trained teachers know of themselves is not known of these, and 0.
    """
    others, queries = queries, graph.queries("train") if queries is None else queries
    folds = {len(models) for models in teachers.values()}
    if len(folds) != 1:
        raise ValueError(f"every teacher needs the same number of folds, got {sorted(folds)}")
    count = folds.pop()
    fold = fold_of_queries(graph, count)
    names, information = asked_information(graph, teachers, fold)
    if others is not None:
        fold = np.arange(len(others)) % count
        information = np.zeros((len(others), len(names)), dtype=np.float32)
    chunk = chunk or max(BLOCK_ELEMENTS // graph.num_entities, 1)
    keys = graph.query_keys(queries.entities, queries.relations)
    width = graph.num_entities
    most = min((top_k or width) * len(teachers) + 1, width)
    filling = _Filling(len(queries), tuple(teachers), most, width)
    buffers = {name: torch.empty(chunk, width) for name in teachers}
    done = 0
    for number in range(count):
        scorers = {name: models[number] for name, models in teachers.items()}
        tables = {name: model.entity_vectors() for name, model in scorers.items()}
        rows_of_fold = np.flatnonzero(fold == number)
        # Queries that differ in their answers only are asked once.
        order, starts = by_question(keys[rows_of_fold])
        rows_of_fold = rows_of_fold[order]
        for edges in _pieces(starts, chunk):
            rows = rows_of_fold[edges[0] : edges[-1]]
            row_of = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
            _question(graph, queries[rows], rows, row_of, scorers, tables, top_k, buffers, filling)
            done += len(rows)
            if progress:
                progress(done, len(queries))
    return filling.finish(names, information)


def _pieces(starts: IntArray, chunk: int) -> Iterator[IntArray]:
    """Edges of up to `chunk` questions whose queries are not many more than questions.

    Args:
        starts: int64 `[questions + 1]`, first query of each question, and their number.
        chunk: most questions and, unless a single one has more, an eighth of the most queries.
    """
    first = 0
    while first < len(starts) - 1:
        most = int(np.searchsorted(starts, starts[first] + _MOST_SHARED * chunk, "right")) - 1
        last = max(min(first + chunk, most, len(starts) - 1), first + 1)
        yield starts[first : last + 1]
        first = last


def _question(
    graph: MultimodalGraph,
    queries: Queries,
    positions: IntArray,
    row_of: IntArray,
    scorers: Mapping[str, Scorer],
    tables: Mapping[str, Tensor],
    top_k: int | None,
    buffers: Mapping[str, Tensor],
    filling: _Filling,
) -> None:
    """Write down the answers to one chunk of queries, which are at `positions` of the store."""
    firsts = np.searchsorted(row_of, np.arange(int(row_of[-1]) + 1))
    opinions = []
    for name, scorer in scorers.items():
        table, logits = tables[name], buffers[name][: len(firsts)]
        entities = torch.from_numpy(queries.entities[firsts]).to(table.device)
        relations = torch.from_numpy(queries.relations[firsts]).to(table.device)
        vectors = scorer.query_vectors(table, entities, relations)
        alike = table.dtype == logits.dtype and table.device == logits.device
        if scorer.is_inner_product and alike:
            # Into memory that is there already: fresh memory costs a fifth of the product.
            torch.mm(vectors, table.T, out=logits)
        else:
            logits.copy_(scorer.compare(vectors, table))
        opinions.append(_opinion(logits, row_of, queries, graph, top_k or graph.num_entities))
    lists = _with_answers(_union(opinions), opinions, row_of, queries.answers)
    # The tail is what the exact values leave: what rounding adds to the listed ones would drown it.
    tail_sizes = (graph.num_entities - lists.counts)[:, None]
    tail = np.maximum(1 - lists.mass, 1e-12)
    part = filling.append(lists.counts, lists.entities, lists.log_probs)
    filling.starts[positions] = part.start + np.cumsum(lists.counts) - lists.counts
    filling.counts[positions] = lists.counts
    filling.log_tail[positions] = np.log(tail / np.maximum(tail_sizes, 1))
    filling.tail_mass[positions] = np.where(tail_sizes > 0, tail, 0.0)
    filling.features[positions] = np.stack([opinion.features for opinion in opinions], axis=1)
