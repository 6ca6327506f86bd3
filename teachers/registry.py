"""Which teachers there are. A graph's own modalities become teachers without further ado."""

from __future__ import annotations

from collections.abc import Callable

import torch

from graphs import MultimodalGraph
from graphs.naming import unknown
from students.scorer import Scorer
from teachers.fused import Fused
from teachers.split import SplitModality
from teachers.structure import Structure

TeacherFactory = Callable[[MultimodalGraph, int, torch.Generator], Scorer]

TEACHERS: dict[str, TeacherFactory] = {"structure": Structure, "fused": Fused}


def teacher_names(graph: MultimodalGraph) -> tuple[str, ...]:
    """All teachers that `graph` can have: `structure`, one per modality, `fused`.

    A graph without modalities has a structure teacher only; one without images has no `image`.
    """
    others = tuple(name for name in TEACHERS if name not in ("structure", "fused"))
    modalities = tuple(sorted(graph.modalities))
    return ("structure", *modalities, *(("fused",) if modalities else ()), *others)


def make_teacher(
    name: str, graph: MultimodalGraph, rank: int, generator: torch.Generator
) -> Scorer:
    """A freshly initialised teacher.

    Raises:
        ValueError: the graph has no such teacher; the sentence names the nearest one.
    """
    if name not in teacher_names(graph):
        raise unknown(f"teachers of graph {graph.name!r}", name, teacher_names(graph))
    if name in TEACHERS:
        return TEACHERS[name](graph, rank, generator)
    return SplitModality(graph, name, rank, generator)
