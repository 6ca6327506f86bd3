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

ScoreFunction = Callable[[Tensor, Tensor], Tensor]


def filtered_ranks(
    scores: Tensor, keys: IntArray, answers: Tensor, known: KeyedLists
) -> NDArray[np.float64]:
    """Rank of each answer among the entities that are not known answers themselves.

    Args:
        scores: `[batch, entities]`, higher is better.
        keys: int64 `[batch]`, `graph.query_keys` of the queries.
        answers: int64 `[batch]`.
        known: answers to leave out, by query key; the answer itself always stays.

    Returns:
        float64 `[batch]`; tied entities share their mean rank, so a constant score gets the
        rank of a random guess and not rank 1.
    """
    answer_scores = scores.gather(1, answers[:, None])
    rows, others = known.gather(keys)
    listed = scores[torch.from_numpy(rows), torch.from_numpy(others)]
    other = torch.from_numpy(others) != answers[torch.from_numpy(rows)]
    own = answer_scores[torch.from_numpy(rows), 0]

    def excluded(better: Tensor) -> Tensor:
        counts = torch.zeros(len(scores), dtype=torch.int64)
        return counts.index_add_(0, torch.from_numpy(rows), (better & other).long())

    # count_nonzero, not sum: it is twice as fast on booleans.
    above = torch.count_nonzero(scores > answer_scores, dim=1) - excluded(listed > own)
    tied = torch.count_nonzero(scores == answer_scores, dim=1) - 1 - excluded(listed == own)
    return (1.0 + above.double() + tied.double() / 2).numpy()


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
    ranks = np.empty(len(queries))
    for start in range(0, len(queries), batch_size):
        part = queries[slice(start, start + batch_size)]
        with torch.no_grad():
            scores = torch.as_tensor(
                score(torch.from_numpy(part.entities), torch.from_numpy(part.relations))
            ).cpu()
        if len(part) == 1 and scores.ndim == 1:
            # NumPy takes a tensor of one id for a plain number, and drops the batch axis.
            scores = scores[None]
        if tuple(scores.shape) != (len(part), graph.num_entities):
            raise ValueError(
                f"score must return [{len(part)}, {graph.num_entities}] for {len(part)} queries, "
                f"got {list(scores.shape)}"
            )
        if bool(torch.isnan(scores).any()):
            raise ValueError(f"score returned NaN for queries {start} to {start + len(part) - 1}")
        keys = graph.query_keys(part.entities, part.relations)
        answers = torch.from_numpy(part.answers)
        ranks[start : start + len(part)] = filtered_ranks(scores, keys, answers, known)
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
