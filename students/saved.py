"""A trained student in one file, which says itself what it holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from graphs.files import atomic_write
from graphs.naming import shown
from students.registry import STUDENTS, make_student
from students.scorer import Scorer

FILE = "student.safetensors"
# How torch and a scorer say that sizes are none, or not those of the weights.
_NO_STUDENT = (RuntimeError, TypeError, ValueError, OverflowError, safetensors.SafetensorError)


@dataclass(frozen=True)
class About:
    """What a saved student is, written into the header of its file.

    Attributes:
        student: name of its scorer.
        rank: of its scorer.
        num_entities: `E`.
        num_relations: `R`.
        graph: fingerprint of the graph that it belongs to.
        taught: fingerprint of the graph that it learned from: `graph` unless triples were withheld.
    """

    student: str
    rank: int
    num_entities: int
    num_relations: int
    graph: str
    taught: str

    def header(self) -> dict[str, str]:
        """As safetensors wants it."""
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def of(cls, header: Mapping[str, str]) -> About:
        """From a header.

        Raises:
            KeyError: an entry is missing.
            ValueError: a number is none, or below 1.
        """
        numbers = {name: int(header[name]) for name in ("rank", "num_entities", "num_relations")}
        for name, value in numbers.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        names = {name: header[name] for name in ("student", "graph", "taught")}
        return cls(**names, **numbers)  # type: ignore[arg-type]


def save_student(path: Path, weights: Mapping[str, Tensor], about: About) -> None:
    """Write a student's weights, atomically; equal weights are equal bytes."""
    contiguous = {name: value.contiguous().cpu() for name, value in weights.items()}
    content = safetensors.torch.save(contiguous, metadata=about.header())
    atomic_write(path, _with_sorted_header(content))


def _with_sorted_header(content: bytes) -> bytes:
    """The same file, and always the same bytes: safetensors writes metadata in any order."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    about = {"__metadata__": dict(sorted(header["__metadata__"].items()))}
    text = json.dumps({**header, **about}, separators=(",", ":")).encode()
    # Tensors begin at a multiple of eight.
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[start:]


def read_about(path: Path) -> About:
    """What the file at `path` holds.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it holds no student, or one of a version that did not say which.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: expected the student of a finished trial")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return About.of(file.metadata() or {})
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(f"{path} does not hold a student: {error}") from None
    except KeyError as error:
        raise ValueError(
            f"{path} does not say what student it holds ({error} is missing from its header); run "
            "its trial again"
        ) from None


def _made(about: About) -> Scorer:
    sizes = (about.num_entities, about.num_relations, about.rank)
    return make_student(about.student, *sizes, torch.Generator())


def load_student(path: Path) -> tuple[Scorer, About]:
    """The student in the file at `path`, without gradients.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it holds none, one of a scorer that is not registered, or numbers that are not
            finite.
    """
    about = read_about(path)
    if about.student not in STUDENTS:
        raise ValueError(f"{path} holds a {shown(about.student)} student, and none is registered")
    try:
        weights = safetensors.torch.load_file(path)
        # On no device first: a header may promise more entities than any memory holds.
        with torch.device("meta"):
            _made(about).load_state_dict(weights, assign=True)
        scorer = _made(about)
        scorer.load_state_dict(weights)
    except _NO_STUDENT as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} does not hold a {about.student} student: {reason}") from None
    for name, values in scorer.state_dict().items():
        if not bool(values.isfinite().all()):
            raise ValueError(f"{path}: expected finite numbers, got others in {name!r}")
    return scorer.requires_grad_(False), about
