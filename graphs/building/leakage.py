"""How far names alone answer the queries of a split: the leak check of built graphs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from graphs.building.splitting import name_words
from graphs.csr import IntArray

Scorer = Callable[[int], NDArray[np.float64]]
"""Scores of all entities, float64 `[E]`, given the query entity alone."""


def nearest_name(embeddings: NDArray[np.float32]) -> Scorer:
    """Scores by cosine of name embeddings of unit length, float32 `[E, width]`."""
    exact = embeddings.astype(np.float64)
    return lambda entity: exact @ exact[entity]


def token_overlap(names: Sequence[str]) -> Scorer:
    """Scores by Jaccard overlap of the words of names."""
    words = [name_words(name) for name in names]

    def scores(entity: int) -> NDArray[np.float64]:
        own = words[entity]
        return np.array([len(own & other) / max(len(own | other), 1) for other in words])

    return scores


def no_name(num_entities: int) -> Scorer:
    """The same score for all entities: the reference that knows no names."""
    return lambda entity: np.zeros(num_entities)


def reciprocal_ranks(
    scorer: Scorer,
    splits: dict[str, IntArray],
    num_entities: int,
    num_relations: int,
    of_right_type: bool,
) -> NDArray[np.float64]:
    """Filtered reciprocal ranks of both queries of every test triple, float64 `[n, 2]`.

    Ties get their mean rank. The query entity is no candidate, as its own name is nearest.

    Args:
        scorer: scores all entities.
        splits: triples by split name; the known answers of all splits but the asked one are left
            out of each ranking.
        num_entities: number of entities.
        num_relations: number of relations.
        of_right_type: rank only entities that answer the relation in this direction in train.

    Returns:
        Column 0 asks for tails, column 1 for heads.
    """
    known: dict[tuple[int, int], set[int]] = defaultdict(set)
    usual = np.zeros((2 * num_relations, num_entities), dtype=np.bool_)
    for split, triples in splits.items():
        for head, relation, tail in triples.tolist():
            known[head, relation].add(tail)
            known[tail, relation + num_relations].add(head)
            if split == "train":
                usual[relation, tail] = usual[relation + num_relations, head] = True
    cached: dict[int, NDArray[np.float64]] = {}
    reciprocal = np.empty((len(splits["test"]), 2))
    for row, (head, relation, tail) in enumerate(splits["test"].tolist()):
        queries = ((head, relation, tail), (tail, relation + num_relations, head))
        for column, (entity, asked, answer) in enumerate(queries):
            if entity not in cached:
                cached[entity] = scorer(entity)
            scores = cached[entity]
            rival = usual[asked].copy() if of_right_type else np.ones(num_entities, dtype=np.bool_)
            rival[[entity, *known[entity, asked]]] = False
            above = int((scores[rival] > scores[answer]).sum())
            equal = int((scores[rival] == scores[answer]).sum())
            reciprocal[row, column] = 1 / (1 + above + equal / 2)
    return reciprocal


def name_baselines(
    names: Sequence[str],
    embeddings: NDArray[np.float32],
    relations: Sequence[str],
    splits: dict[str, IntArray],
) -> dict[str, dict[str, object]]:
    """Mean filtered reciprocal ranks on test of what names give away.

    Returns:
        For each baseline, `mrr` (both directions), `tails`, `heads`, and `relations`: a mean of
        both directions by relation name.
    """
    size, test = len(names), splits["test"]
    nearest, overlap, nothing = nearest_name(embeddings), token_overlap(names), no_name(size)
    baselines = {
        "nearest_name": (nearest, False),
        "token_overlap": (overlap, False),
        "nearest_name_of_right_type": (nearest, True),
        "token_overlap_of_right_type": (overlap, True),
        "guess_of_right_type": (nothing, True),
    }
    report: dict[str, dict[str, object]] = {}
    for name, (scorer, of_right_type) in baselines.items():
        ranks = reciprocal_ranks(scorer, splits, size, len(relations), of_right_type)
        by_relation = {
            label: round(float(ranks[test[:, 1] == relation].mean()), 4)
            for relation, label in enumerate(relations)
            if (test[:, 1] == relation).any()
        }
        report[name] = {
            "mrr": round(float(ranks.mean()), 4),
            "tails": round(float(ranks[:, 0].mean()), 4),
            "heads": round(float(ranks[:, 1].mean()), 4),
            "relations": by_relation,
        }
    return report
