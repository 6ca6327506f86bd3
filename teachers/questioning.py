"""Asking the teachers about every training query: how a store is filled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphs import MultimodalGraph, Queries
from graphs.csr import IntArray
from students.evaluation import filtered_ranks
from students.forward import BLOCK_ELEMENTS
from students.scorer import Scorer
from teachers.store import FEATURES, TeacherStore

Progress = Callable[[int, int], None]


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

    def append(self, counts: IntArray, entities: IntArray, log_probs: Tensor) -> slice:
        """Add lists; returns where they went."""
        part = slice(self.used, self.used + len(entities))
        self.entities[part] = entities
        self.log_probs[part] = log_probs.numpy()
        self.used += len(entities)
        return part

    def finish(self) -> TeacherStore:
        """The store."""
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
        )


@dataclass(frozen=True)
class _Opinion:
    """What one teacher says of a chunk: logits of its distinct questions, and what is read off.

    Attributes:
        logits: float32 `[rows, entities]`.
        log_normaliser: `[rows]`.
        best: int64 `[rows, K]`, the entities with the highest logits.
        features: float32 `[queries, len(FEATURES)]`.
    """

    logits: Tensor
    log_normaliser: Tensor
    best: Tensor
    features: NDArray[np.float32]


def _opinion(
    logits: Tensor, row_of: Tensor, queries: Queries, graph: MultimodalGraph, top_k: int
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
    highest, best = logits.topk(min(max(top_k, 2), logits.shape[1]), dim=1)
    exponentials = (logits - highest[:, :1]).exp_()
    sums = exponentials.sum(1)
    log_normaliser = sums.log() + highest[:, 0]
    # A product of vectors per row reads both once; underflowed probabilities add nothing.
    mean = torch.bmm(exponentials[:, None], logits[:, :, None])[:, 0, 0] / sums
    firsts = np.searchsorted(row_of.numpy(), np.arange(len(logits)))
    rows, neighbors = graph.neighbors.gather(queries.entities[firsts])
    near = exponentials[torch.from_numpy(rows), torch.from_numpy(neighbors)]
    mass = torch.zeros(len(logits)).index_add_(0, torch.from_numpy(rows), near) / sums
    by_row = {
        "entropy": log_normaliser - mean,
        "max_log_p": highest[:, 0] - log_normaliser,
        "margin": highest[:, 0] - highest[:, 1],
        "neighbor_mass": mass,
    }
    keys = graph.query_keys(queries.entities, queries.relations)
    answers = torch.from_numpy(queries.answers)
    ranks = filtered_ranks(logits, keys, answers, graph.train_answers, row_of)
    columns = {name: values[row_of] for name, values in by_row.items()}
    columns["log_p_answer"] = logits[row_of, answers] - log_normaliser[row_of]
    columns["log_rank"] = torch.from_numpy(np.log(ranks)).float()
    features: NDArray[np.float32] = torch.stack([columns[f] for f in FEATURES], dim=1).numpy()
    return _Opinion(logits, log_normaliser, best[:, :top_k], features)


def _union(
    opinions: Sequence[_Opinion], row_of: Tensor, answers: Tensor
) -> tuple[IntArray, IntArray]:
    """Counts per query and entities of the union of all teachers' best and the answer."""
    listed = torch.zeros_like(opinions[0].logits, dtype=torch.bool)
    for opinion in opinions:
        # Teachers differ in scale, so each one's best are taken apart.
        listed.scatter_(1, opinion.best, True)
    listed = listed.index_select(0, row_of)
    listed.scatter_(1, answers[:, None], True)
    return torch.count_nonzero(listed, dim=1).numpy(), listed.nonzero()[:, 1].numpy()


@torch.no_grad()
def build_store(
    graph: MultimodalGraph,
    teachers: Mapping[str, Sequence[Scorer]],
    top_k: int | None = 64,
    chunk: int | None = None,
    fold_seed: int = 0,
    progress: Progress | None = None,
) -> TeacherStore:
    """Question the teachers about every training query.

    Args:
        graph: gives the queries, the filter and the neighbors.
        teachers: per name one model (in-sample), or K models of which number `f` did not train
            on the triples of fold `f`, so that every query is answered by a stranger to it.
        top_k: entities listed per teacher; None lists them all (`store=exact`).
        chunk: distinct questions scored at a time; None for what fits a processor's cache.
        fold_seed: seed of `fold_of_queries`.
        progress: called with (queries done, all queries).
    """
    queries = graph.queries("train")
    folds = {len(models) for models in teachers.values()}
    if len(folds) != 1:
        raise ValueError(f"every teacher needs the same number of folds, got {sorted(folds)}")
    count = folds.pop()
    fold = fold_of_queries(graph, count, fold_seed)
    chunk = chunk or max(BLOCK_ELEMENTS // graph.num_entities, 1)
    keys = graph.query_keys(queries.entities, queries.relations)
    width = graph.num_entities
    most = min((top_k or width) * len(teachers) + 1, width)
    filling = _Filling(len(queries), tuple(teachers), most, width)
    done = 0
    for number in range(count):
        scorers = {name: models[number] for name, models in teachers.items()}
        tables = {name: model.entity_vectors() for name, model in scorers.items()}
        rows_of_fold = np.flatnonzero(fold == number)
        # Queries that differ in their answers only are asked once.
        rows_of_fold = rows_of_fold[np.argsort(keys[rows_of_fold], kind="stable")]
        sorted_keys = keys[rows_of_fold]
        new = np.concatenate([[True], sorted_keys[1:] != sorted_keys[:-1]])
        starts = np.append(np.flatnonzero(new), len(rows_of_fold))
        for edges in _pieces(starts, chunk):
            rows = rows_of_fold[edges[0] : edges[-1]]
            row_of = torch.from_numpy(np.repeat(np.arange(len(edges) - 1), np.diff(edges)))
            _question(graph, queries[rows], rows, row_of, scorers, tables, top_k, filling)
            done += len(rows)
            if progress:
                progress(done, len(queries))
    return filling.finish()


def _pieces(starts: IntArray, chunk: int) -> Iterator[IntArray]:
    """Edges of up to `chunk` questions whose queries are not many more than questions.

    Args:
        starts: int64 `[questions + 1]`, first query of each question, and their number.
        chunk: most questions and, unless a single one has more, half the most queries.
    """
    first = 0
    while first < len(starts) - 1:
        most = int(np.searchsorted(starts, starts[first] + 2 * chunk, side="right")) - 1
        last = max(min(first + chunk, most, len(starts) - 1), first + 1)
        yield starts[first : last + 1]
        first = last


def _question(
    graph: MultimodalGraph,
    queries: Queries,
    positions: IntArray,
    row_of: Tensor,
    scorers: Mapping[str, Scorer],
    tables: Mapping[str, Tensor],
    top_k: int | None,
    filling: _Filling,
) -> None:
    """Write down the answers to one chunk of queries, which are at `positions` of the store."""
    answers = torch.from_numpy(queries.answers)
    firsts = np.searchsorted(row_of.numpy(), np.arange(int(row_of[-1]) + 1))
    opinions = []
    for name, scorer in scorers.items():
        table = tables[name]
        entities = torch.from_numpy(queries.entities[firsts]).to(table.device)
        relations = torch.from_numpy(queries.relations[firsts]).to(table.device)
        vectors = scorer.query_vectors(table, entities, relations)
        logits = scorer.compare(vectors, table).float().cpu()
        opinions.append(_opinion(logits, row_of, queries, graph, top_k or graph.num_entities))
    counts, listed = _union(opinions, row_of, answers)
    rows = torch.from_numpy(np.repeat(np.arange(len(queries)), counts))
    places = row_of[rows] * graph.num_entities + torch.from_numpy(listed)
    log_probs = torch.stack(
        [o.logits.view(-1)[places] - o.log_normaliser[row_of[rows]] for o in opinions], dim=1
    )
    # The tail is what the exact values leave: what rounding adds to the listed ones would drown it.
    stored = log_probs.clamp_min(float(torch.finfo(torch.float16).min)).half()
    mass = torch.zeros(len(queries), len(scorers), dtype=torch.float64)
    mass.index_add_(0, rows, log_probs.double().exp())
    tail_sizes = torch.from_numpy(graph.num_entities - counts).double()[:, None]
    tail = (1 - mass).clamp_min(1e-12)
    part = filling.append(counts, listed, stored)
    filling.starts[positions] = part.start + np.cumsum(counts) - counts
    filling.counts[positions] = counts
    filling.log_tail[positions] = (tail / tail_sizes.clamp_min(1)).log().float().numpy()
    filling.tail_mass[positions] = torch.where(tail_sizes > 0, tail, 0.0).float().numpy()
    filling.features[positions] = np.stack([opinion.features for opinion in opinions], axis=1)
