"""Asking the teachers about every training query: how a store is filled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphs import CSR, MultimodalGraph, Queries
from graphs.csr import IntArray
from students.evaluation import filtered_ranks
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


@dataclass
class _Parts:
    """Arrays of the store while it is being filled, by chunk."""

    counts: list[IntArray]
    entities: list[IntArray]
    log_probs: list[NDArray[np.float16]]
    log_tail: list[NDArray[np.float32]]
    tail_mass: list[NDArray[np.float32]]
    features: list[NDArray[np.float32]]


def teacher_features(
    log_probs: Tensor, queries: Queries, graph: MultimodalGraph
) -> NDArray[np.float32]:
    """State features of one teacher for a chunk of training queries, `[chunk, len(FEATURES)]`.

    Ranks are filtered by training answers, or queries with many answers look unanswerable
    (findings.md 7). The unit is nats for log-probabilities and entropy, log of a rank for ranks.

    Args:
        log_probs: float32 `[chunk, entities]`.
        queries: the chunk.
        graph: training answers and neighbors.
    """
    answers = torch.from_numpy(queries.answers)
    keys = graph.query_keys(queries.entities, queries.relations)
    ranks = filtered_ranks(log_probs, keys, answers, graph.train_answers)
    probabilities = log_probs.exp()
    # 0·log 0 = 0: an underflown probability adds nothing to the entropy.
    entropy = -(probabilities * log_probs.clamp_min(-1e4)).sum(1)
    best = log_probs.topk(2, dim=1).values
    rows, neighbors = graph.neighbors.gather(queries.entities)
    near = probabilities[torch.from_numpy(rows), torch.from_numpy(neighbors)]
    mass = torch.zeros(len(queries)).index_add_(0, torch.from_numpy(rows), near)
    columns = {
        "log_p_answer": log_probs.gather(1, answers[:, None])[:, 0],
        "log_rank": torch.from_numpy(np.log(ranks)).float(),
        "entropy": entropy,
        "max_log_p": best[:, 0],
        "margin": best[:, 0] - best[:, 1],
        "neighbor_mass": mass,
    }
    return torch.stack([columns[name] for name in FEATURES], dim=1).numpy()


def _union(log_probs: Tensor, answers: Tensor, top_k: int) -> tuple[IntArray, IntArray]:
    """Counts per row and entities of the union of all teachers' top-K and the answer.

    Args:
        log_probs: `[teachers, chunk, entities]`.
        answers: int64 `[chunk]`.
        top_k: entities per teacher.
    """
    teachers, chunk, width = log_probs.shape
    listed = torch.zeros(chunk, width, dtype=torch.bool)
    for k in range(teachers):
        # Teachers differ in scale, so each one's top-K are taken apart.
        listed.scatter_(1, log_probs[k].topk(min(top_k, width), dim=1, sorted=False).indices, True)
    listed.scatter_(1, answers[:, None], True)
    return listed.sum(1).numpy(), listed.nonzero()[:, 1].numpy()


@torch.no_grad()
def build_store(
    graph: MultimodalGraph,
    teachers: Mapping[str, Sequence[Scorer]],
    top_k: int | None = 64,
    chunk: int = 512,
    fold_seed: int = 0,
    progress: Progress | None = None,
) -> TeacherStore:
    """Question the teachers about every training query.

    Args:
        graph: gives the queries, the filter and the neighbors.
        teachers: per name one model (in-sample), or K models of which number `f` did not train
            on the triples of fold `f`, so that every query is answered by a stranger to it.
        top_k: entities listed per teacher; None lists them all (`store=exact`).
        chunk: queries scored at a time.
        fold_seed: seed of `fold_of_queries`.
        progress: called with (queries done, all queries).
    """
    queries = graph.queries("train")
    folds = {len(models) for models in teachers.values()}
    if len(folds) != 1:
        raise ValueError(f"every teacher needs the same number of folds, got {sorted(folds)}")
    count = folds.pop()
    fold = fold_of_queries(graph, count, fold_seed)
    parts = _Parts([], [], [], [], [], [])
    order: list[IntArray] = []
    done = 0
    for number in range(count):
        tables = {name: models[number].entity_vectors() for name, models in teachers.items()}
        rows_of_fold = np.flatnonzero(fold == number)
        for start in range(0, len(rows_of_fold), chunk):
            rows = rows_of_fold[start : start + chunk]
            scorers = {name: models[number] for name, models in teachers.items()}
            _question(graph, queries[rows], scorers, tables, top_k, parts)
            order.append(rows)
            done += len(rows)
            if progress:
                progress(done, len(queries))
    return _assemble(graph, tuple(teachers), np.concatenate(order), parts)


def _question(
    graph: MultimodalGraph,
    queries: Queries,
    scorers: Mapping[str, Scorer],
    tables: Mapping[str, Tensor],
    top_k: int | None,
    parts: _Parts,
) -> None:
    """Append the answers to one chunk of queries to `parts`."""
    answers = torch.from_numpy(queries.answers)
    logits = []
    for name, scorer in scorers.items():
        table = tables[name]
        entities = torch.from_numpy(queries.entities).to(table.device)
        relations = torch.from_numpy(queries.relations).to(table.device)
        vectors = scorer.query_vectors(table, entities, relations)
        logits.append(scorer.compare(vectors, table).float().cpu())
    log_probs = torch.stack(logits).log_softmax(dim=2)
    counts, entities_listed = _union(log_probs, answers, top_k or graph.num_entities)
    rows = torch.from_numpy(np.repeat(np.arange(len(queries)), counts))
    listed = log_probs[:, rows, torch.from_numpy(entities_listed)].T
    # The tail is what the exact values leave: what rounding adds to the listed ones would drown it.
    stored = listed.clamp_min(float(torch.finfo(torch.float16).min)).half()
    mass = torch.zeros(len(queries), len(scorers), dtype=torch.float64)
    mass.index_add_(0, rows, listed.double().exp())
    tail_sizes = torch.from_numpy(graph.num_entities - counts).double()[:, None]
    tail = (1 - mass).clamp_min(1e-12)
    parts.counts.append(counts)
    parts.entities.append(entities_listed)
    parts.log_probs.append(stored.numpy())
    parts.log_tail.append((tail / tail_sizes.clamp_min(1)).log().float().numpy())
    parts.tail_mass.append(torch.where(tail_sizes > 0, tail, 0.0).float().numpy())
    parts.features.append(
        np.stack([teacher_features(one, queries, graph) for one in log_probs], axis=1)
    )


def _assemble(
    graph: MultimodalGraph, names: tuple[str, ...], order: IntArray, parts: _Parts
) -> TeacherStore:
    """The store in the order of the queries, from chunks in the order of the folds."""
    counts = np.concatenate(parts.counts)
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    chunked = CSR(offsets, np.concatenate(parts.entities).astype(np.int32))
    log_probs = np.concatenate(parts.log_probs)
    log_tail, tail_mass = np.concatenate(parts.log_tail), np.concatenate(parts.tail_mass)
    features = np.concatenate(parts.features)
    if bool((np.diff(order) < 0).any()):
        back = np.argsort(order)
        rows, values = chunked.gather(back)
        reordered = np.zeros_like(offsets)
        np.cumsum(counts[back], out=reordered[1:])
        starts = np.repeat(offsets[back] - reordered[:-1], counts[back])
        log_probs = log_probs[starts + np.arange(len(rows))]
        chunked = CSR(reordered, values)
        log_tail, tail_mass, features = log_tail[back], tail_mass[back], features[back]
    return TeacherStore(
        names, chunked, log_probs, log_tail, tail_mass, features, graph.num_entities
    )
