"""One process that fills a store, opens it again, teaches a student, and says what it took.

    python scripts/benchmarks/memory_point.py '{"entities": 1000, "queries": 2000, ...}'

The peak is the kernel's `VmHWM`: `ru_maxrss` survives `exec`, so that a child of a big process
would report its parent's.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphs import MultimodalGraph, load_graph
from students.batching import shuffled_batches
from students.complex import ComplEx
from students.distillation import DistillationConfig
from students.registry import make_student
from students.scorer import Scorer
from students.training import Trainer, TrainingConfig
from teachers.cached_store import read_store, write_store
from teachers.questioning import build_store

MB = 1e6


def resident(field: str = "VmRSS") -> float:
    """Resident memory now (`VmRSS`) or at its peak (`VmHWM`), megabytes."""
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MB
    return next(int(line.split()[1]) * 1024 / MB for line in lines if line.startswith(field))


def graph_of(arguments: dict[str, Any]) -> MultimodalGraph:
    """The graph in a folder, or random triples over any number of entities."""
    if "graph" in arguments:
        graph = load_graph(arguments["graph"])
        return dataclasses.replace(graph, modalities={})
    entities, relations = arguments["entities"], 10
    rng = np.random.default_rng(0)
    columns = [
        rng.integers(0, size, arguments["queries"] // 2) for size in (entities, relations, entities)
    ]
    triples = np.stack(columns, axis=1)
    labels = tuple(map(str, range(entities))), tuple(map(str, range(relations)))
    return MultimodalGraph(
        "random", {"train": triples, "valid": triples[:1], "test": triples[:1]}, *labels
    )


def main(arguments: dict[str, Any]) -> dict[str, float]:
    """Megabytes: after imports, of the graph and the tables, at the peak, and beyond them all."""
    torch.set_num_threads(1)
    imports = resident()
    graph = graph_of(arguments)
    _ = graph.neighbors, graph.train_answers
    graph_size = resident() - imports
    generator = torch.Generator().manual_seed(0)
    sizes = graph.num_entities, graph.num_relations
    rank, teacher_rank = arguments["rank"], arguments.get("teacher_rank", arguments["rank"])
    models: dict[str, list[Scorer]] = {}
    for number in range(arguments["teachers"]):
        model = ComplEx(*sizes, teacher_rank, generator=generator, init_scale=0.35)
        models[f"t{number}"] = [model.requires_grad_(False)]
    folder = Path(arguments["cache"]) / "store"
    write_store(build_store(graph, models, arguments["top_k"]), folder, "bench")
    after_store = resident("VmHWM")
    store = read_store(folder, "bench")
    trainer = Trainer(
        make_student("complex", *sizes, rank, generator),
        graph,
        TrainingConfig(),
        DistillationConfig(gamma=3.0),
    )
    queries = graph.queries("train")
    batches = shuffled_batches(queries, np.arange(len(queries)), arguments["batch"], generator)
    for rows in batches[: arguments["steps"]]:
        labels = store.opinions(rows).soft_labels(torch.ones(len(rows), len(models)))
        trainer.update(trainer.forward(queries[rows]), labels)
    # The student's table, its gradient and Adagrad's sums; the teachers' tables.
    vectors = graph.num_entities + 2 * graph.num_relations
    tables = 4 * vectors * 2 * (3 * rank + len(models) * teacher_rank) / MB
    peak = resident("VmHWM")
    return {
        "imports": imports,
        "graph": graph_size,
        "tables": tables,
        "store_file": sum(file.stat().st_size for file in folder.iterdir()) / MB,
        "peak_of_filling": after_store,
        "peak": peak,
        "beyond": peak - imports - graph_size - tables,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
