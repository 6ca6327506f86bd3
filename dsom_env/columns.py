"""Names and bounds of the observation's columns; numpy only, so that spaces are made at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SUMMARY_COLUMNS = ("entity_norm", "relation_norm", "query_norm")
# Bounds of columns in units of log E; log-probabilities below -3·log E all mean "never".
LOWEST_LOG_P = -3.0
HIGHEST_NORM = 10.0
HIGHEST_DIVERGENCE = 5.0
STUDENT_COLUMNS = (
    ("student_log_p_answer", LOWEST_LOG_P, 0.0),
    ("student_entropy", 0.0, 1.0),
    ("student_log_rank", 0.0, 1.0),
)
TEACHER_COLUMNS = (
    ("log_p_answer", LOWEST_LOG_P, 0.0),
    ("log_rank", 0.0, 1.0),
    ("entropy", 0.0, 1.0),
    ("max_log_p", LOWEST_LOG_P, 0.0),
    ("margin", 0.0, -LOWEST_LOG_P),
    ("neighbor_mass", 0.0, 1.0),
    ("kl_to_student", 0.0, HIGHEST_DIVERGENCE),
)


# What `DSoMConfig.hide` may leave out; `answer` is all that sees the answer, whoever says it.
GROUPS = ("student", "frequency", "modalities", "relation", "teachers", "information", "answer")
_SEES_ANSWER = ("log_p_answer", "log_rank")


@dataclass(frozen=True)
class Columns:
    """Names and finite bounds of the observation's columns.

    Attributes:
        names: of the columns that are shown.
        low: float32 `[columns]`.
        high: float32 `[columns]`.
        shown: int64 `[columns]`, their positions among all that there are.
    """

    names: tuple[str, ...]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    shown: NDArray[np.int64]


def observation_columns(
    modalities: tuple[str, ...],
    teachers: tuple[str, ...],
    relation_code: int,
    hide: Sequence[str] = (),
    information: Sequence[str] = (),
) -> Columns:
    """Columns for a graph with these modalities and teachers (methods.md §1.2).

    Args:
        modalities: of the graph.
        teachers: names.
        relation_code: width of the relation's code.
        hide: groups of `GROUPS` to leave out.
        information: names of what co-trained teachers know of themselves, see
            `dsom_env.objectives`; in units of log E, of which estimates are mostly a part.
    """
    columns: list[tuple[str, str, float, float]] = [
        *(("student", name, 0.0, HIGHEST_NORM) for name in SUMMARY_COLUMNS),
        ("frequency", "entity_log_degree", 0.0, 1.0),
        ("frequency+answer", "answer_log_degree", 0.0, 1.0),
        ("frequency", "relation_log_count", 0.0, 1.0),
        ("relation", "reciprocal", 0.0, 1.0),
        *(("modalities", f"entity_has_{name}", 0.0, 1.0) for name in modalities),
        *(("modalities+answer", f"answer_has_{name}", 0.0, 1.0) for name in modalities),
        *(("relation", f"relation_code_{i}", -1.0, 1.0) for i in range(relation_code)),
        *(
            (_group("teachers", name), f"{teacher}_{name}", low, high)
            for teacher in teachers
            for name, low, high in TEACHER_COLUMNS
        ),
        *(
            (_group("student", name.removeprefix("student_")), name, low, high)
            for name, low, high in STUDENT_COLUMNS
        ),
        *(("information", name, -1.0, 1.0) for name in information),
    ]
    shown = [i for i, column in enumerate(columns) if not set(column[0].split("+")) & set(hide)]
    if not shown:
        raise ValueError("hide: nothing is left to observe")
    _, names, low, high = zip(*(columns[i] for i in shown), strict=True)
    bounds = np.array([low, high], dtype=np.float32)
    return Columns(names, bounds[0], bounds[1], np.array(shown))


def _group(group: str, name: str) -> str:
    return f"{group}+answer" if name in _SEES_ANSWER else group
