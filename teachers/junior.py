"""A trained student as a teacher: `junior:FOLDER` is the one that a trial left in that folder.

MulDE's iterative distillation (methods.md §4, paper): the Junior of one run teaches the next.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from graphs import MultimodalGraph
from students.saved import FILE, About, load_student, read_about
from students.scorer import Scorer

PREFIX = "junior:"


def is_junior(name: str) -> bool:
    """Whether a teacher's name is that of a trained student."""
    return name.startswith(PREFIX)


def file_of(name: str) -> Path:
    """The file of a Junior: `FOLDER/student.safetensors`, or the file itself."""
    path = Path(name.removeprefix(PREFIX))
    return path if path.suffix == ".safetensors" else path / FILE


def junior_key(name: str) -> str:
    """Sixteen hexadecimal digits of the Junior's file: all that decides what it says."""
    path = file_of(name)
    if not path.is_file():
        raise FileNotFoundError(f"teachers: {name!r} is no teacher: {path} is missing")
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def check_junior(name: str, graph: MultimodalGraph, folds: int = 1) -> None:
    """Refuse a Junior that cannot teach here.

    Raises:
        ValueError: the file is missing or holds none; it is of another graph; it has learned from
            triples that this graph withholds; or it should be cross-fitted.
    """
    try:
        about = read_about(file_of(name))
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"teachers: {name!r} is no teacher: {error}") from None
    _check_graph(name, about, graph)
    if folds > 1:
        raise ValueError(
            f"teachers: {name!r} has seen all training triples and cannot be cross-fitted; "
            f"expected folds=1 and no judged_folds, got {folds} folds"
        )


def _check_graph(name: str, about: About, graph: MultimodalGraph) -> None:
    if graph.fingerprint not in (about.graph, about.taught):
        raise ValueError(
            f"teachers: {name!r} is a student of another graph than {graph.name!r}, or of other "
            f"training triples (a reward split is withheld from one of them): expected fingerprint "
            f"{graph.fingerprint}, got {about.taught}"
        )


def load_junior(name: str, graph: MultimodalGraph, folds: int = 1) -> Scorer:
    """The Junior, as it was saved.

    Raises:
        ValueError: see `check_junior`.
    """
    check_junior(name, graph, folds)
    return load_student(file_of(name))[0]
