"""Filtered ranking evaluation, in both directions, with the mean rank of ties.

Equal to PyKEEN's evaluator (`realistic` ranks) on the same scores; a test holds it to 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphs import MultimodalGraph
from graphs.csr import IntArray, KeyedLists
from graphs.graph import Queries

# Scores that are compared at a time, so that they are still in a cache when they are counted.
_RANKED_ELEMENTS = 2**20

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
        row_of: int64 `[queries]`, the row of each query; None where each has its own.

    Returns:
        float64 `[queries]`; tied entities share their mean rank, so a constant score gets the
        rank of a random guess and not rank 1.
    """
    device, width = scores.device, scores.shape[1]
    own_row = torch.arange(len(scores), device=device) if row_of is None else row_of
    answer_scores = scores[own_row, answers]
    above = torch.empty(len(answers), dtype=torch.int64, device=device)
    tied = torch.empty_like(above)
    step = max(_RANKED_ELEMENTS // width, 1)
    for start in range(0, len(answers), step):
        part = slice(start, start + step)
        block = scores[part] if row_of is None else scores.index_select(0, row_of[part])
        mine = answer_scores[part, None]
        # count_nonzero, not sum: it is twice as fast on booleans.
        above[part] = torch.count_nonzero(block > mine, dim=1)
        tied[part] = torch.count_nonzero(block == mine, dim=1) - 1
    positions, entities = known.gather(keys)
    queries, others = torch.from_numpy(positions).to(device), torch.from_numpy(entities).to(device)
    listed = scores[own_row[queries], others]
    other = others != answers[queries]
    own = answer_scores[queries]
    above.index_add_(0, queries, -((listed > own) & other).long())
    tied.index_add_(0, queries, -((listed == own) & other).long())
    return (1.0 + above.double() + tied.double() / 2).cpu().numpy()


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
    # Queries that differ in their answers only are scored once.
    order = np.argsort(keys, kind="stable")
    new = np.concatenate([[True], keys[order][1:] != keys[order][:-1]]) if len(order) else order
    starts = np.append(np.flatnonzero(new), len(order))
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
        ranks[rows] = filtered_ranks(
            scores, keys[rows], answers.to(scores.device), known, row_of.to(scores.device)
        )
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
    queries, ranks = ranking_of(score, graph, split)
    relations = queries.relations % graph.num_relations
    return {
        graph.relation_labels[relation]: ranking_metrics(ranks[relations == relation])
        for relation in np.unique(relations).tolist()
    }
