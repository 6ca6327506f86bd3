"""The table of AMID's claim: means, differences by seed with intervals, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.claim import VARIANTS, Run
from agents.cotraining_records import failures
from agents.statistics import paired_difference

# What is compared: how it is called, and its value in a run.
MEASURES = {
    "teacher, valid at the end": ("teacher", "last_valid"),
    "teacher, test": ("teacher", "test"),
    "student, valid at the end": ("student", "last_valid"),
    "student, test": ("student", "test"),
    "gap, valid at the end": ("gap", "last_valid"),
    "gap, test": ("gap", "test"),
    "unexplained": ("last", "unexplained"),
}


@dataclass(frozen=True)
class Claim:
    """A part of the paper's claim as a difference between two variants.

    Attributes:
        words: what is claimed.
        variant: which.
        reference: beside which other.
        measures: of `MEASURES`.
        sign: of the difference that is claimed, 1 or -1.
    """

    words: str
    variant: str
    reference: str
    measures: tuple[str, ...]
    sign: int


_TEACHER = ("teacher, valid at the end", "teacher, test")
_CLOSENESS = ("gap, valid at the end", "gap, test", "unexplained")
CLAIMS = (
    Claim("I(T;S) alone makes the teacher worse", "I(T;S)", "none", _TEACHER, -1),
    Claim("and brings it towards the student", "I(T;S)", "none", _CLOSENESS, -1),
    Claim("I(T;A) keeps the teacher from it", "I(T;S)+I(T;A)", "I(T;S)", _TEACHER, 1),
    Claim("H(T|S) brings the student closer", "I(T;S)+H(T|S)", "I(T;S)", _CLOSENESS, -1),
    Claim("and does so beside I(T;A)", "all", "I(T;S)+I(T;A)", _CLOSENESS, -1),
)


def measure(run: Mapping[str, Any], name: str) -> float:
    """Value of a measure of `MEASURES` in a run.

    The gap is what the teacher's MRR has over the student's; `unexplained` is that of the last
    epoch (`teachers.adversary.unexplained_share`).
    """
    who, what = MEASURES[name]
    if who == "last":
        return float(run["history"][-1][what])
    if who == "gap":
        return float(run["teacher"][what] - run["student"][what])
    return float(run[who][what])


def by_seed(runs: Sequence[Run], variant: str, name: str) -> dict[int, float]:
    """Values of a measure by seed."""
    return {run["seed"]: measure(run, name) for run in runs if run["variant"] == variant}


def difference(
    runs: Sequence[Run], variant: str, reference: str, name: str
) -> tuple[float, tuple[float, float] | None]:
    """Mean difference by seed and its 95 % interval from Student's t; None for a single seed."""
    return paired_difference(by_seed(runs, variant, name), by_seed(runs, reference, name))


def verdict(sign: int, interval: tuple[float, float] | None) -> str:
    """What an interval says of a claimed sign."""
    if interval is None:
        return "one seed says nothing"
    low, high = (sign * end for end in interval)
    if min(low, high) > 0:
        return "as claimed"
    return "the contrary" if max(low, high) < 0 else "not distinguishable"


def render_claim(results: Mapping[str, Any]) -> str:
    """The whole table as text, from the content of `results.json`.

    Raises:
        ValueError: it holds no runs.
    """
    runs: list[Run] = list(results["runs"])
    if not runs:
        raise ValueError("results hold no runs")
    seeds = sorted({run["seed"] for run in runs})
    graph, epochs = results["graph"]["name"], len(runs[0]["history"])
    return "\n\n".join(
        [
            f"{graph}, {epochs} epochs, seeds {', '.join(map(str, seeds))}: filtered MRR, mean of "
            "the seeds; gap is teacher minus student",
            _means(runs),
            "differences from none, by seed, with 95 % Student's t intervals",
            _differences(runs),
            "the claim",
            "\n".join(_claims(runs)),
        ]
    )


def _means(runs: Sequence[Run]) -> str:
    others = list(runs[0]["history"][-1]["information"])
    names = [f"Î(T;{other})" for other in others]
    ends = ("T valid", "S valid", "T test", "S test", "gap test")
    header = [f"{'variant':15}", *(f"{name:>9}" for name in ends)]
    header += [f"{name:>{max(len(name), 8)}}" for name in names]
    header += [f"{'limit':>6}", f"{'unexpl.':>8}", "  adversary"]
    lines = [" ".join(header)]
    shown = [name for name in MEASURES if name not in ("gap, valid at the end", "unexplained")]
    columns = [shown[0], shown[2], shown[1], shown[3], shown[4]]
    for variant in VARIANTS:
        own = [run for run in runs if run["variant"] == variant]
        if not own:
            continue
        last = [run["history"][-1] for run in own]
        cells = [f"{np.mean([measure(run, name) for run in own]):9.4f}" for name in columns]
        for other, name in zip(others, names, strict=True):
            nats = np.mean([record["information"][other] for record in last])
            cells.append(f"{nats:{max(len(name), 8)}.2f}")
        cells.append(f"{np.mean([record['information_limit'] for record in last]):6.2f}")
        cells.append(f"{np.mean([record['unexplained'] for record in last]):8.2f}")
        cells.append("  " + _adversary(own))
        lines.append(" ".join([f"{variant:15}", *cells]))
    return "\n".join(lines)


def _adversary(runs: Sequence[Run]) -> str:
    """Its accuracy at the end, and in how many of all epochs it failed."""
    accuracy = np.mean([run["history"][-1]["adversary"]["accuracy"] for run in runs])
    epochs = sum(len(run["history"]) for run in runs)
    failed = [failures(run["history"]) for run in runs]
    states = sorted({state for found in failed for state in found})
    parts = [f"{state} {sum(f.get(state, 0) for f in failed)}/{epochs}" for state in states]
    return " ".join([f"{accuracy:.2f}", *parts])


def _differences(runs: Sequence[Run]) -> str:
    lines = []
    for variant in list(VARIANTS)[1:]:
        for name in MEASURES:
            mean, interval = difference(runs, variant, "none", name)
            lines.append(f"{variant:15} {name:27} {_with_interval(mean, interval)}")
    return "\n".join(lines)


def _claims(runs: Sequence[Run]) -> list[str]:
    lines = []
    for claim in CLAIMS:
        lines.append(f"{claim.words} ({claim.variant} beside {claim.reference})")
        for name in claim.measures:
            mean, interval = difference(runs, claim.variant, claim.reference, name)
            said = verdict(claim.sign, interval)
            lines.append(f"  {name:27} {_with_interval(mean, interval)}  {said}")
    return lines


def _with_interval(mean: float, interval: tuple[float, float] | None) -> str:
    if interval is None:
        return f"{mean:+.4f}"
    return f"{mean:+.4f} [{interval[0]:+.4f}, {interval[1]:+.4f}]"
