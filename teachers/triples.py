"""Teachers that see triples only: any student's scorer, of the teachers' own size."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from graphs import MultimodalGraph
from students.registry import make_student
from students.scorer import Scorer

# MulDE's family (methods.md §4): `rotate`, and four hyperbolic ones.
MULDE = ("rotate", "transh", "refh", "roth", "atth")


@dataclass(frozen=True)
class OfTriples:
    """Makes a teacher from a student's scorer, as `Structure` is one from ComplEx.

    Attributes:
        student: name in `students.registry`.
    """

    student: str

    def __call__(self, graph: MultimodalGraph, rank: int, generator: torch.Generator) -> Scorer:
        """A freshly initialised teacher of `teacher_rank`, in the unit that its scorer has."""
        sizes = graph.num_entities, graph.num_relations
        return make_student(self.student, *sizes, rank, generator)
