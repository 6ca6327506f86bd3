"""Which teachers there are. A graph's own modalities become teachers without further ado."""

from __future__ import annotations

from collections.abc import Callable

import torch

from graphs import MultimodalGraph
from graphs.naming import unknown
from students.scorer import Scorer
from teachers.fused import Attentive, Fused
from teachers.junior import check_junior, is_junior, load_junior
from teachers.split import SplitModality
from teachers.structure import Structure
from teachers.triples import MULDE, OfTriples
from teachers.uniform import Uniform

TeacherFactory = Callable[[MultimodalGraph, int, torch.Generator], Scorer]

TEACHERS: dict[str, TeacherFactory] = {
    "structure": Structure,
    "fused": Fused,
    "attentive": Attentive,
    "uniform": Uniform,
    **{name: OfTriples(name) for name in MULDE},
}


def fuses(name: str) -> bool:
    """Whether a teacher is a `Fused` one: it has gates over modalities, and needs some."""
    factory = TEACHERS.get(name)
    return isinstance(factory, type) and issubclass(factory, Fused)


def teacher_names(graph: MultimodalGraph) -> tuple[str, ...]:
    """All teachers that `graph` can have: those of the registry, and one per modality.

    Beside them every trained student of the graph is one, as `junior:FOLDER`.

    A graph without images has no `image` teacher, one without modalities nothing to fuse.
    """
    registered = [name for name in TEACHERS if graph.modalities or not fuses(name)]
    return (*registered, *(name for name in sorted(graph.modalities) if name not in TEACHERS))


def check_teacher(name: str, graph: MultimodalGraph, folds: int = 1) -> None:
    """Refuse a name that is no teacher of `graph`, or cannot be asked in so many folds.

    Raises:
        ValueError: there is no such teacher; the sentence names the nearest one. Or it is a Junior
            that cannot teach here, see `check_junior`.
    """
    if is_junior(name):
        check_junior(name, graph, folds)
    elif name not in teacher_names(graph):
        raise unknown(f"teachers of graph {graph.name!r}", name, teacher_names(graph))


def make_teacher(
    name: str, graph: MultimodalGraph, rank: int, generator: torch.Generator
) -> Scorer:
    """A freshly initialised teacher; a Junior comes trained, whatever the rank.

    Raises:
        ValueError: see `check_teacher`.
    """
    check_teacher(name, graph)
    if is_junior(name):
        return load_junior(name, graph)
    if name in TEACHERS:
        return TEACHERS[name](graph, rank, generator)
    return SplitModality(graph, name, rank, generator)
