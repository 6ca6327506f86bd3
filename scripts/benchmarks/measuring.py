"""What all sections of the benchmark have in common: clocks, ratios, targets, settings."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STARTED = time.perf_counter()
# What `use_clock` chose.
_clock: Callable[[], float] = time.perf_counter
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def use_clock(name: str) -> None:
    """Time by the clock on the wall, or by what this process used of its processors.

    With one thread the second does not see what other processes do meanwhile.
    """
    global _clock
    _clock = CLOCKS[name]


def now() -> float:
    """Seconds on the chosen clock."""
    return _clock()


@dataclass(frozen=True)
class Settings:
    """Sizes of a run; the defaults are those of the published figures.

    Attributes:
        rank: complex dimensions of the students.
        batch: queries per update, and sub-environments.
        teacher_rank: complex dimensions of the teachers.
        top_k: entities that a store lists per teacher.
        repetitions: how often everything is timed; contenders take turns.
        steps: student updates of a co-training repetition, from which an epoch is scaled.
        store_queries: sample of which stores are built; None for all.
        seed: of every random number.
    """

    rank: int = 200
    batch: int = 1000
    teacher_rank: int = 64
    top_k: int = 64
    repetitions: int = 3
    steps: int = 20
    store_queries: int | None = 8000
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse sizes below one."""
        for name in ("rank", "batch", "teacher_rank", "top_k", "repetitions", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")


@dataclass(frozen=True)
class Target:
    """A bound on a measured figure.

    Attributes:
        name: what is measured.
        value: the figure.
        bound: what it must not pass.
        at_most: whether the bound is from above.
        unit: of both, empty for ratios.
    """

    name: str
    value: float
    bound: float
    at_most: bool
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the figure keeps to its bound."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def line(self) -> str:
        """One line of the table."""
        sign, verdict = "≤" if self.at_most else "≥", "met" if self.met else "MISSED"
        figure = f"{self.value:8.3f}{self.unit}"
        return f"{self.name:64} {figure} {sign} {self.bound:g}{self.unit:4} {verdict}"

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        sense = "at most" if self.at_most else "at least"
        plain = {"name": self.name, "value": self.value, "bound": self.bound, "sense": sense}
        return plain | {"unit": self.unit, "met": self.met}


def say(line: str) -> None:
    """Tell whoever waits what goes on, with the time since the start."""
    print(f"[{time.perf_counter() - STARTED:5.0f} s] {line}", file=sys.stderr, flush=True)


def seconds(work: Callable[[], object]) -> float:
    """How long some work takes."""
    started = now()
    work()
    return now() - started


def scaled(measured: float, done: int, whole: int) -> float:
    """Seconds of `whole` units of work, from the seconds of the `done` first."""
    if done < 1 or whole < 1:
        raise ValueError(f"cannot scale {done} units of work to {whole}")
    return measured * whole / done


def interleaved(
    contenders: Mapping[str, Callable[[], float]], repetitions: int, section: str
) -> dict[str, list[float]]:
    """Let the contenders take turns, so that all of them see the same moods of the machine.

    Args:
        contenders: by name, what measures itself once and returns its seconds.
        repetitions: turns of each.
        section: for the progress lines.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repetitions):
        for name, measure in contenders.items():
            times[name].append(measure())
            say(f"{section} {turn + 1}/{repetitions}: {name} {times[name][-1]:.3f} s")
    return times


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median over repetitions of the ratio within a repetition."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
