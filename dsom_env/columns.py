"""Names and bounds of the observation's columns; numpy only, so that spaces are made at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SUMMARY_COLUMNS = ("entity_norm", "relation_norm", "query_norm")
RELATION_CODE_WIDTH = 8
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


@dataclass(frozen=True)
class Columns:
    """Names and finite bounds of the observation's columns."""

    names: tuple[str, ...]
    low: NDArray[np.float32]
    high: NDArray[np.float32]


def observation_columns(modalities: tuple[str, ...], teachers: tuple[str, ...]) -> Columns:
    """Columns for a graph with these modalities and teachers (methods.md §1.2)."""
    columns: list[tuple[str, float, float]] = [
        *((name, 0.0, HIGHEST_NORM) for name in SUMMARY_COLUMNS),
        ("entity_log_degree", 0.0, 1.0),
        ("answer_log_degree", 0.0, 1.0),
        ("relation_log_count", 0.0, 1.0),
        ("reciprocal", 0.0, 1.0),
        *((f"entity_has_{name}", 0.0, 1.0) for name in modalities),
        *((f"answer_has_{name}", 0.0, 1.0) for name in modalities),
        *((f"relation_code_{i}", -1.0, 1.0) for i in range(RELATION_CODE_WIDTH)),
        *((f"{t}_{name}", low, high) for t in teachers for name, low, high in TEACHER_COLUMNS),
        *STUDENT_COLUMNS,
    ]
    names, low, high = zip(*columns, strict=True)
    return Columns(names, np.array(low, dtype=np.float32), np.array(high, dtype=np.float32))
