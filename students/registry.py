"""Which students there are. Adding one is a file and a line."""

from __future__ import annotations

from collections.abc import Callable

import torch

from graphs.naming import unknown
from students.complex import ComplEx
from students.distmult import DistMult
from students.hyperbolic import AttH, RefH, RotH, TransH
from students.rotate import RotatE
from students.scorer import Scorer

STUDENTS: dict[str, Callable[..., Scorer]] = {
    "complex": ComplEx,
    "distmult": DistMult,
    "rotate": RotatE,
    "transh": TransH,
    "refh": RefH,
    "roth": RotH,
    "atth": AttH,
}


def make_student(
    name: str, num_entities: int, num_relations: int, rank: int, generator: torch.Generator
) -> Scorer:
    """A freshly initialised student.

    Raises:
        ValueError: no student has that name; the sentence names the nearest one.
    """
    if name not in STUDENTS:
        raise unknown("student", name, STUDENTS)
    return STUDENTS[name](num_entities, num_relations, rank, generator=generator)
