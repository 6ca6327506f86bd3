"""Filling the teacher store beside the products that it cannot do without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from graphs import MultimodalGraph
from teachers.questioning import build_store

from .measuring import Settings, Target, interleaved, ratio, say, seconds
from .subjects import sample, teachers

BLOCK = 250


def bare_products(tables: list[torch.Tensor], queries: int) -> None:
    """The scores of `queries` queries by every teacher, into the same memory again and again."""
    entities, width = tables[0].shape
    vectors = torch.randn(BLOCK, width, generator=torch.Generator().manual_seed(0))
    scores = torch.empty(BLOCK, entities)
    for start in range(0, queries, BLOCK):
        size = min(BLOCK, queries - start)
        for table in tables:
            torch.mm(vectors[:size], table.T, out=scores[:size])


def measure(graph: MultimodalGraph, settings: Settings) -> tuple[dict[str, Any], list[Target]]:
    """Four teachers of the student's rank on a sample of the training queries."""
    part = sample(graph, settings.store_queries, settings.seed)
    models = teachers(part, settings.rank)
    tables = [own[0].entity_vectors().detach() for own in models.values()]
    queries = part.queries("train")
    count = len(queries)
    distinct = len(np.unique(part.query_keys(queries.entities, queries.relations)))
    say(f"store: {count} queries, {distinct} distinct questions")
    contenders: dict[str, Callable[[], float]] = {
        "store": lambda: seconds(lambda: build_store(part, models, settings.top_k)),
        "bare products": lambda: seconds(lambda: bare_products(tables, count)),
        "bare products, distinct questions": lambda: seconds(
            lambda: bare_products(tables, distinct)
        ),
    }
    # The first filling also sorts neighbors and answers, which the graph then keeps.
    _ = part.neighbors, part.train_answers
    times = interleaved(contenders, settings.repetitions, "store")
    speed = ratio(times["bare products"], times["store"])
    section = {
        "graph": graph.name,
        "queries": count,
        "distinct_questions": distinct,
        "seconds": times,
        "ratio": speed,
        "ratio_to_distinct": ratio(times["bare products, distinct questions"], times["store"]),
    }
    return section, [Target("filling the store, speed / bare products", speed, 0.7, False)]
