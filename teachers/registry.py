"""Which teachers there are. A graph's own modalities become teachers without further ado."""

from __future__ import annotations

from collections.abc import Callable

import torch

from graphs import MultimodalGraph
from graphs.naming import unknown
from students.scorer import Scorer
from teachers.fused import Attentive, Fused
from teachers.split import SplitModality
from teachers.structure import Structure
from teachers.uniform import Uniform

TeacherFactory = Callable[[MultimodalGraph, int, torch.Generator], Scorer]

TEACHERS: dict[str, TeacherFactory] = {
    "structure": Structure,
    "fused": Fused,
    "attentive": Attentive,
    "uniform": Uniform,
}


def fuses(name: str) -> bool:
    """Whether a teacher is a `Fused` one: it has gates over modalities, and needs some."""
    factory = TEACHERS.get(name)
    return isinstance(factory, type) and issubclass(factory, Fused)


def teacher_names(graph: MultimodalGraph) -> tuple[str, ...]:
    """All teachers that `graph` can have: those of the registry, and one per modality.

    A graph without images has no `image` teacher, one without modalities nothing to fuse.
    """
    registered = [name for name in TEACHERS if graph.modalities or not fuses(name)]
    return (*registered, *(name for name in sorted(graph.modalities) if name not in TEACHERS))


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
