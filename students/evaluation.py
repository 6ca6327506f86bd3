"""Filtered ranking evaluation, in both directions, with the mean rank of ties.

Equal to PyKEEN's evaluator (`realistic` ranks) on the same scores; a test holds it to 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphs import MultimodalGraph
from graphs.csr import IntArray, KeyedLists
from graphs.graph import Queries
from students.devices import elements_at_once

# Scores that are compared at a time, so that they are still in a cache when they are counted.
_RANKED_ELEMENTS = 2**18
# Known answers that are looked at at a time.
_MOST_LISTED = 2**20
# Most queries of one row that are compared with it at a time.
_LONGEST_RUN = 16
# Bytes that are added up as 64-bit words before they are taken apart again.
_PACKED = 1000

ScoreFunction = Callable[[Tensor, Tensor], Tensor]


def filtered_ranks(
    scores: Tensor,
    keys: IntArray,
    answers: Tensor,
    known: KeyedLists,
    row_of: Tensor | None = None,
) -> NDArray[np.float64]:
    """Rank of each answer among the entities that are not known answers themselves.

    Args:
        scores: `[rows, entities]`, higher is better.
        keys: int64 `[queries]`, `graph.query_keys` of the queries.
        answers: int64 `[queries]`.
        known: answers to leave out, by query key; the answer itself always stays.
        row_of: int64 `[queries]`, ascending, the row of each query; None where each has its own.

    Returns:
        float64 `[queries]`; tied entities share their mean rank, so a constant score gets the
        rank of a random guess and not rank 1.
    """
    device = scores.device
    answers = answers.to(device)
    own_row = torch.arange(len(scores), device=device) if row_of is None else row_of.to(device)
    own = scores[own_row, answers]
    if device.type == "cpu" and scores.dtype in (torch.float32, torch.float64):
        rivals = _count_in_cache(scores.detach().numpy(), own.detach().numpy(), own_row.numpy())
    else:
        rivals = _count(scores, own, own_row).cpu().numpy()
    left_out = torch.zeros(len(answers), dtype=torch.int64, device=device)
    ends, first = np.cumsum(known.counts(keys)), 0
    while first < len(keys):
        # Queries of one question list all its answers each: for thousands of them, part by part.
        most = (ends[first - 1] if first else 0) + _MOST_LISTED
        last = max(int(np.searchsorted(ends, most, "right")), first + 1)
        positions, entities = known.gather(keys[first:last])
        queries = torch.from_numpy(positions).to(device) + first
        others = torch.from_numpy(entities).to(device)
        listed, mine = scores[own_row[queries], others], own[queries]
        twice = (listed > mine).long() + (listed >= mine).long()
        twice[others == answers[queries]] = 0
        left_out.index_add_(0, queries, twice)
        first = last
    # Ties count half, and everybody ties with itself.
    ranks: NDArray[np.float64] = 1.0 + (rivals - 1 - left_out.cpu().numpy()) / 2
    return ranks


def _count(scores: Tensor, own: Tensor, row_of: Tensor) -> Tensor:
    """Entities above the answer twice, those that tie with it once, int64 `[queries]`.

    Args:
        scores: `[rows, entities]`.
        own: `[queries]`, scores of the answers.
        row_of: int64 `[queries]`.
    """
    counts = torch.empty(len(own), dtype=torch.int64, device=scores.device)
    step = max(elements_at_once(scores.device, _RANKED_ELEMENTS) // scores.shape[1], 1)
    for start in range(0, len(own), step):
        part = slice(start, start + step)
        block, mine = scores[row_of[part]], own[part, None]
        counts[part] = (block > mine).sum(1) + (block >= mine).sum(1)
    return counts


def _count_in_cache(
    scores: NDArray[np.floating[Any]], own: NDArray[np.floating[Any]], row_of: IntArray
) -> IntArray:
    """`_count` for a CPU: NumPy compares with vector instructions, torch does not.

    Queries of one row look at it together, so that it is read, and where need be copied, once.
    """
    width = scores.shape[1]
    new = np.concatenate([[True], row_of[1:] != row_of[:-1]]) if len(row_of) else row_of == 0
    starts = np.flatnonzero(new)
    lengths = np.diff(starts, append=len(row_of))
    # Runs are cut so that a block with all its queries stays in a cache.
    pieces = -(-lengths // _LONGEST_RUN)
    first = np.repeat(starts - _LONGEST_RUN * (np.cumsum(pieces) - pieces), pieces)
    first += _LONGEST_RUN * np.arange(len(first))
    length = np.minimum(_LONGEST_RUN, np.repeat(starts + lengths, pieces) - first)
    counts = np.empty(len(own), dtype=np.int64)
    for run in np.unique(length).tolist():
        firsts = first[length == run]
        step = max(_RANKED_ELEMENTS // (width * run), 1)
        above, least = (np.empty((step, run, width), dtype=np.bool_) for _ in range(2))
        packed = np.zeros((step, run, -(-width // _PACKED) * _PACKED), dtype=np.uint8)
        for start in range(0, len(firsts), step):
            queries = firsts[start : start + step, None] + np.arange(run)
            size, rows = len(queries), row_of[queries[:, 0]]
            beside = bool((np.diff(rows) == 1).all())
            block = scores[rows[0] : rows[-1] + 1] if beside else scores[rows]
            mine = own[queries][:, :, None]
            np.greater(block[:, None], mine, out=above[:size])
            np.greater_equal(block[:, None], mine, out=least[:size])
            np.add(
                above[:size].view(np.uint8),
                least[:size].view(np.uint8),
                out=packed[:size, :, :width],
            )
            # Eight sums of bytes at a time: 125 terms of at most two stay below 256.
            words = packed[:size].view(np.int64).reshape(size, run, -1, _PACKED // 8)
            counts[queries] = words.sum(3).view(np.uint8).sum(2, dtype=np.int64)
    return counts


def by_question(keys: IntArray) -> tuple[IntArray, IntArray]:
    """Queries in an order in which equal questions are beside each other, the rarest first.

    Queries that differ in their answers only are scored once, and beside questions that are asked
    as often they are ranked without copying their scores.

    Args:
        keys: int64 `[queries]`, `graph.query_keys` of the queries.

    Returns:
        The order, int64 `[queries]`, and where in it each question begins, int64
        `[questions + 1]`.
    """
    _, question, times = np.unique(keys, return_inverse=True, return_counts=True)
    order = np.lexsort((question, times[question]))
    times.sort()
    return order, np.concatenate([[0], np.cumsum(times)])


def ranking_of(
    score: ScoreFunction, graph: MultimodalGraph, split: str = "test", batch_size: int = 512
) -> tuple[Queries, NDArray[np.float64]]:
    """Queries of `split` and the filtered rank of each one's answer.

    Args:
        score: maps int64 tensors (entities, relations), `[batch]` each, to scores
            `[batch, entities]` (tensor or array); relation ids `≥ R` are the reciprocals.
        graph: gives the queries and, by `evaluation_filter`, what is left out.
        split: `train`, `valid` or `test`.
        batch_size: queries scored at a time.

    Raises:
        ValueError: the scores have the wrong shape or hold NaN.
    """
    queries = graph.queries(split)
    known = graph.evaluation_filter(split)
    keys = graph.query_keys(queries.entities, queries.relations)
    order, starts = by_question(keys)
    ranks = np.empty(len(queries))
    for first in range(0, len(starts) - 1, batch_size):
        edges = starts[first : first + batch_size + 1]
        asked, rows = queries[order[edges[:-1]]], order[edges[0] : edges[-1]]
        with torch.no_grad():
            scores = torch.as_tensor(
                score(torch.from_numpy(asked.entities), torch.from_numpy(asked.relations))
            )
        if len(asked) == 1 and scores.ndim == 1:
            # NumPy takes a tensor of one id for a plain number, and drops the batch axis.
            scores = scores[None]
        if tuple(scores.shape) != (len(asked), graph.num_entities):
            raise ValueError(
                f"score must return [{len(asked)}, {graph.num_entities}] for {len(asked)} queries, "
                f"got {list(scores.shape)}"
            )
        # A row with a NaN sums to NaN; so may infinities, hence the second look.
        if bool(scores.sum(1).isnan().any()) and bool(scores.isnan().any()):
            raise ValueError(
                f"score returned NaN for queries between entity {asked.entities[0]}, relation "
                f"{asked.relations[0]} and entity {asked.entities[-1]}, relation "
                f"{asked.relations[-1]}"
            )
        row_of = torch.from_numpy(np.repeat(np.arange(len(asked)), np.diff(edges)))
        answers = torch.from_numpy(queries.answers[rows])
        ranks[rows] = filtered_ranks(scores, keys[rows], answers, known, row_of)
    return queries, ranks


def ranking_metrics(ranks: NDArray[np.float64]) -> dict[str, float]:
    """`mrr`, `hits@1`, `hits@3`, `hits@10`, `mean_rank` and `count` of filtered ranks."""
    if not len(ranks):
        raise ValueError("no queries to evaluate: the split is empty")
    metrics = {"mrr": float((1.0 / ranks).mean())}
    metrics |= {f"hits@{k}": float((ranks <= k).mean()) for k in (1, 3, 10)}
    return metrics | {"mean_rank": float(ranks.mean()), "count": float(len(ranks))}


def evaluate_ranking(
    score: ScoreFunction, graph: MultimodalGraph, split: str = "test", batch_size: int = 512
) -> dict[str, float]:
    """Filtered ranking metrics over both directions of every triple of `split`.

    Args and errors are those of `ranking_of`; the result is that of `ranking_metrics`.
    """
    return ranking_metrics(ranking_of(score, graph, split, batch_size)[1])


def evaluate_by_relation(
    score: ScoreFunction, graph: MultimodalGraph, split: str = "test"
) -> dict[str, dict[str, float]]:
    """`evaluate_ranking` for each relation, both directions together, by relation label."""
    return metrics_by_relation(*ranking_of(score, graph, split), graph)


def metrics_by_relation(
    queries: Queries, ranks: NDArray[np.float64], graph: MultimodalGraph
) -> dict[str, dict[str, float]]:
    """`ranking_metrics` of what `ranking_of` returned, for each relation, by its label."""
    relations = queries.relations % graph.num_relations
    return {
        graph.relation_labels[relation]: ranking_metrics(ranks[relations == relation])
        for relation in np.unique(relations).tolist()
    }
