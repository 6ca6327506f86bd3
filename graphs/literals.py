"""Numeric literals (heights, dates, populations) as a modality of their own.

The files are those of MMKB (Liu et al. 2019): `entity attribute value` a line.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from graphs.entity_names import EntityNames
from graphs.graph import Modality
from graphs.text_files import malformed, read_lines

LEAST_ENTITIES = 20
MOST_ATTRIBUTES = 64


def read_literals(path: Path, names: EntityNames) -> Modality:
    """Two columns per frequent attribute: its value, standardised, and whether there is one.

    Values become ranks among the entities that have the attribute (mean rank of ties), of mean 0
    and variance 1: populations span nine decades, and a mean of them would be that of the largest.
    Where an entity has several values of an attribute, their mean counts; where it has none, both
    columns are 0. Entities without any of the attributes lack the modality.

    Args:
        path: lines of entity, attribute and value; plain or `.xz`.
        names: of the entities; literals of others are not read.

    Returns:
        Columns `[value, has value]` of the at most `MOST_ATTRIBUTES` attributes that most
        entities have, at least `LEAST_ENTITIES` of them, the most frequent first.

    Raises:
        ValueError: a line is malformed, or a value is no finite number.
    """
    values: dict[str, dict[int, list[float]]] = {}
    expected = "an entity, an attribute and a number"
    for number, line in enumerate(read_lines(path, f"lines of {expected}"), 1):
        fields = line.split("\t") if "\t" in line else line.split()
        if len(fields) == 4 and fields[3] == ".":
            fields = fields[:3]
        value = _number(fields[2]) if len(fields) == 3 else None
        if value is None:
            raise malformed(path, number, expected, line)
        entity = names.find(fields[0])
        if entity is not None:
            values.setdefault(fields[1], {}).setdefault(entity, []).append(value)
    frequent = [name for name, by_entity in values.items() if len(by_entity) >= LEAST_ENTITIES]
    frequent.sort(key=lambda name: (-len(values[name]), name))
    columns = np.zeros((len(names), 2 * min(len(frequent), MOST_ATTRIBUTES)), dtype=np.float32)
    for position, name in enumerate(frequent[:MOST_ATTRIBUTES]):
        entities = np.array(sorted(values[name]))
        means = np.array([math.fsum(values[name][i]) / len(values[name][i]) for i in entities])
        columns[entities, 2 * position] = _standardised_ranks(means)
        columns[entities, 2 * position + 1] = 1
    present = np.flatnonzero(columns[:, 1::2].any(axis=1))
    return Modality(present, columns[present])


def _number(text: str) -> float | None:
    # Typed literals of RDF read "1.5"^^<http://…#double>.
    bare = text.split("^^", 1)[0].strip().strip('"')
    try:
        value = float(bare)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _standardised_ranks(values: np.ndarray) -> np.ndarray:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    spread = ranks.std()
    return (ranks - ranks.mean()) / spread if spread else np.zeros(len(values))
