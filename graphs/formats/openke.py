"""OpenKE's folders (Han et al. 2018): `*2id.txt`, a count first, then `head tail relation`."""

from __future__ import annotations

from pathlib import Path

from graphs.csr import IntArray
from graphs.feature_files import read_modalities
from graphs.formats.texts import name_everything
from graphs.graph import SPLITS, MultimodalGraph
from graphs.reading import Reading
from graphs.text_files import (
    check_count,
    find_text,
    id_triples,
    malformed,
    need_text,
    read_json_object,
    read_lines,
    read_names,
)


def matches(folder: Path) -> bool:
    """Whether `folder` has this format."""
    return find_text(folder, "train2id.txt") is not None


def read(folder: Path, reading: Reading) -> MultimodalGraph:
    """Read an OpenKE folder; any of its text files may be compressed by xz."""
    entities = read_names(need_text(folder, "entity names with ids", "entity2id.txt"), "an entity")
    path = need_text(folder, "relation names with ids", "relation2id.txt")
    relations = read_names(path, "a relation")
    names = name_everything(folder, entities, relations, reading)
    return MultimodalGraph(
        name=reading.name,
        triples={
            split: _triples(folder, split, (len(entities), len(relations))) for split in SPLITS
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


def _triples(folder: Path, split: str, sizes: tuple[int, int]) -> IntArray:
    expected = "a count and lines of head, tail and relation ids"
    path = need_text(folder, expected, f"{split}2id.txt")
    lines = read_lines(path, expected)
    check_count(path, lines, "triples")
    rows = [line.split() for line in lines[1:]]
    for number, row in enumerate(rows, 2):
        if len(row) != 3:
            raise malformed(path, number, "head, tail and relation ids", lines[number - 1])
    return id_triples(path, rows, sizes, first_line=2, order=(0, 2, 1))
