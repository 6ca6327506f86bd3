"""Triples by name or id in `train`, `valid`, `test` with `.tsv` or `.txt`.

So keep their graphs PyKEEN, KG-BERT, MyGO (with `entities.txt`, `relations.txt`) and MoMoK (with
`entity2id.txt`, `relation2id.txt`, fields between spaces and a full stop behind).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from graphs.feature_files import read_modalities
from graphs.formats.texts import name_everything
from graphs.graph import SPLITS, MultimodalGraph
from graphs.reading import Reading
from graphs.text_files import (
    find_text,
    malformed,
    need_text,
    read_json_object,
    read_lines,
    read_names,
)

_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")

_Rows = dict[str, list[list[str]]]


def matches(folder: Path) -> bool:
    """Whether `folder` has this format."""
    return find_text(folder, "train.tsv", "train.txt") is not None


def read(folder: Path, reading: Reading) -> MultimodalGraph:
    """Read triples by name or by id.

    Where the folder lists names (`entity2id.txt` or `entities.txt`, and the same for relations),
    ids are those of the list, and fields are names of the list if all of them are, otherwise ids.
    Without a list, fields are ids if all are numbers and at least half of the numbers up to the
    largest occur; otherwise they are names, and ids follow their order.
    """
    paths = {}
    for split in SPLITS:
        expected = "lines of head, relation and tail"
        paths[split] = need_text(folder, expected, f"{split}.tsv", f"{split}.txt")
    rows = {split: _read_rows(path) for split, path in paths.items()}
    listed = find_text(folder, "entity2id.txt", "entities.txt")
    entities, entity_ids = _number(rows, paths, (0, 2), "an entity", listed)
    listed = find_text(folder, "relation2id.txt", "relations.txt")
    relations, relation_ids = _number(rows, paths, (1,), "a relation", listed)
    names = name_everything(folder, entities, relations, reading)
    return MultimodalGraph(
        name=reading.name,
        triples={
            split: np.array(
                [(entity_ids[h], relation_ids[r], entity_ids[t]) for h, r, t in rows[split]],
                dtype=np.int64,
            ).reshape(-1, 3)
            for split in SPLITS
        },
        entity_labels=names.entity_labels,
        relation_labels=names.relation_labels,
        entity_texts=names.entity_texts,
        modalities=read_modalities(folder, names.entities, reading),
        metadata={
            **read_json_object(folder / "card.json"),
            "entity_keys": entities,
            "relation_keys": relations,
        },
    )


def _read_rows(path: Path) -> list[list[str]]:
    """Three fields a line, with tabs or spaces between and a full stop behind as in the first."""
    lines = read_lines(path, "lines of head, relation and tail")
    separator = "\t" if lines and "\t" in lines[0] else None
    stop = ["."] if lines and lines[0].split(separator)[3:] == ["."] else []  # as N-Triples end
    kind = "tab-separated fields" if separator else "fields between spaces"
    expected = f"3 {kind} (head, relation, tail)" + (" and a full stop" if stop else "")
    rows = []
    for number, line in enumerate(lines, 1):
        row = line.split(separator)
        if row[3:] != stop or len(row) < 3:
            raise malformed(path, number, expected, line)
        rows.append(row[:3])
    return rows


def _number(
    rows: _Rows, paths: dict[str, Path], columns: tuple[int, ...], kind: str, listed: Path | None
) -> tuple[list[str], dict[str, int]]:
    """The names by id, and the id of each field in `columns`."""
    fields = {row[column] for part in rows.values() for row in part for column in columns}
    numbers = [int(field) for field in fields if _NUMBER.fullmatch(field)]
    only_numbers = len(numbers) == len(fields) > 0
    if listed is None:
        dense = only_numbers and 2 * len(fields) > max(numbers)
        names = [str(i) for i in range(max(numbers) + 1)] if dense else sorted(fields)
        return names, {name: i for i, name in enumerate(names)}
    names = read_names(listed, kind)
    ids = {name: i for i, name in enumerate(names)}
    if fields <= ids.keys():
        return names, ids
    if only_numbers and max(numbers) < len(names):
        return names, {str(i): i for i in range(len(names))}
    expected = f"{kind} that {listed.name} lists, all by name or all by ids in [0, {len(names)})"
    known_ids = {str(i) for i in range(len(names))}
    # A field that is neither tells more than one that is not of the kind of the others.
    for known in (ids.keys() | known_ids, ids.keys()):
        for split, part in rows.items():
            for number, row in enumerate(part, 1):
                for column in columns:
                    if row[column] not in known:
                        raise malformed(paths[split], number, expected, row[column])
    raise AssertionError("unreachable: some field is no name")  # pragma: no cover
