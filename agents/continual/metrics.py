"""What is read off `R[k][j]`, the filtered MRR on task `j` when task `k` has been learned.

`R` is lower triangular: task `j` is asked from its own end on, among all candidates that exist by
the end of task `k`, so that old tasks grow harder for everybody as the graph grows. `joint`, which
forgets nothing, shows how much of a drop is due to that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Matrix = Sequence[Sequence[float]]


def seen(matrix: Matrix, counts: Sequence[int], task: int) -> float:
    """MRR on all tasks so far, every query counting once.

    Args:
        matrix: `R`.
        counts: test queries of each task.
        task: the newest.
    """
    return float(np.average(matrix[task], weights=counts[: task + 1]))


def newest(matrix: Matrix, task: int) -> float:
    """MRR on the task that was learned last: plasticity."""
    return matrix[task][task]


def forgetting(matrix: Matrix, task: int) -> float | None:
    """`mean_{j<k} (max_{j≤l<k} R[l][j] − R[k][j])`: the drop from each task's best (stability).

    After Chaudhry et al. 2018: the best is that before now, so that a task on which later ones help
    counts below zero. None for the first task.
    """
    if not task:
        return None
    drops = [
        max(matrix[later][old] for later in range(old, task)) - matrix[task][old]
        for old in range(task)
    ]
    return float(np.mean(drops))


def forward_transfer(zero_shot: Sequence[float], untrained: Sequence[float], task: int) -> float:
    """`F[k] − b[k]`: how much better a task begins than it would for somebody who knows nothing.

    After Lopez-Paz and Ranzato 2017.

    Args:
        zero_shot: per task the MRR on it before its first update, tables already grown.
        untrained: per task the MRR of a new student with the same candidates.
        task: which; that of the first one is 0, since it begins with a new student.
    """
    return zero_shot[task] - untrained[task]


def curves(run: dict[str, Any], who: str) -> dict[str, list[float | None]]:
    """Every metric after every task, by name.

    Args:
        run: entry of `runs` of a study's results.
        who: `student`, or the name of a teacher in `run["teachers"]`.
    """
    matrix = run["student"] if who == "student" else run["teachers"][who]
    count = len(matrix)
    found: dict[str, list[float | None]] = {
        "seen": [seen(matrix, run["counts"], task) for task in range(count)],
        "newest": [newest(matrix, task) for task in range(count)],
        "forgetting": [forgetting(matrix, task) for task in range(count)],
    }
    if who == "student":
        found["forward"] = [
            forward_transfer(run["zero_shot"], run["untrained"], task) if task else None
            for task in range(count)
        ]
    return found


def summary(run: dict[str, Any], who: str) -> dict[str, float]:
    """A run in few numbers: `seen` and `forgetting` at the end, means of `newest` and `forward`."""
    found = curves(run, who)
    numbers = {
        "seen": found["seen"][-1],
        "newest": _mean(found["newest"]),
        "forgetting": found["forgetting"][-1],
        "forward": _mean(found.get("forward", [])),
    }
    return {name: value for name, value in numbers.items() if value is not None}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
