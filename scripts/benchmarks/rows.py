"""How many rows of logits an epoch needs: what equal questions save on each graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphs import load_graph
from students.batching import LONGEST_RUN, shuffled_runs

from .student import rows_of


def measure(folders: Sequence[Path]) -> dict[str, Any]:
    """Rows per query of each graph, in our training order and at the least."""
    graphs = {}
    for folder in folders:
        graph = load_graph(str(folder))
        queries = graph.queries("train")
        every = np.arange(len(queries))
        order = shuffled_runs(queries, every, torch.Generator().manual_seed(0))
        keys = graph.query_keys(queries.entities, queries.relations)
        graphs[graph.name] = {
            "queries": len(queries),
            "rows_per_query": rows_of(queries[order]) / len(queries),
            "distinct_per_query": len(np.unique(keys)) / len(queries),
        }
    return {"longest_run": LONGEST_RUN, "graphs": graphs}
