"""The format that `save_graph` writes: tables of names, id triples, features, a card."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphs.csr import IntArray
from graphs.entity_names import EntityNames
from graphs.feature_files import MODALITY_NAME, read_modalities, read_thumbnails
from graphs.files import atomic_folder, atomic_write, write_npz
from graphs.graph import SPLITS, MultimodalGraph
from graphs.naming import shown
from graphs.reading import Reading
from graphs.text_files import (
    id_triples,
    malformed,
    read_json_object,
    read_rows,
    read_table,
    write_table,
)

ENTITY_HEADER = ("id", "key", "type", "name")
RELATION_HEADER = ("id", "name")
TEXT_HEADER = ("id", "text")


def matches(folder: Path) -> bool:
    """Whether `folder` has this format."""
    return (folder / "entities.tsv").exists()


def read(folder: Path, reading: Reading) -> MultimodalGraph:
    """Read a folder that `save_graph` has written."""
    entities = read_table(folder / "entities.tsv", ENTITY_HEADER)
    relations = read_table(folder / "relations.tsv", RELATION_HEADER)
    keys: dict[str, int] = {}
    for line, (_, key, _, _) in enumerate(entities, 2):
        if keys.setdefault(key, line) != line:
            expected = f"a key that line {keys[key]} does not have"
            raise malformed(folder / "entities.tsv", line, expected, key)
    card = read_json_object(folder / "card.json")
    mask = _planted_mask(folder / "card.json", card.pop("planted_mask", None))
    card_name = card.pop("name", reading.name)
    if not isinstance(card_name, str) or not card_name.isprintable():
        expected = f"a name that can be printed, got {shown(card_name)}"
        raise ValueError(f"{folder / 'card.json'}: expected {expected}")
    card["entity_types"] = [row[2] for row in entities]
    card["entity_keys"] = [row[1] for row in entities]
    thumbnail_entities, thumbnails = read_thumbnails(folder / "thumbnails.npz", len(entities))
    modalities = read_modalities(folder, EntityNames([row[1] for row in entities]), reading)
    if mask is not None and mask.shape != (2 * len(relations), len(modalities)):
        raise ValueError(
            f"{folder / 'card.json'}: expected planted_mask of shape "
            f"{(2 * len(relations), len(modalities))}, got {mask.shape}"
        )
    sizes = (len(entities), len(relations))
    return MultimodalGraph(
        name=card_name,
        triples={split: _triples(folder / f"{split}.tsv", sizes) for split in SPLITS},
        entity_labels=tuple(row[3] for row in entities),
        relation_labels=tuple(row[1] for row in relations),
        entity_texts=_texts(folder / "texts.tsv", len(entities)),
        modalities=modalities,
        thumbnails=thumbnails,
        thumbnail_entities=thumbnail_entities,
        metadata=card,
        planted_mask=mask,
    )


def _triples(path: Path, sizes: tuple[int, int]) -> IntArray:
    return id_triples(path, read_rows(path, 3, "head, relation and tail ids"), sizes)


def _texts(path: Path, num_entities: int) -> tuple[str | None, ...] | None:
    if not path.exists():
        return None
    rows = read_table(path, TEXT_HEADER)
    if len(rows) != num_entities:
        raise ValueError(f"{path}: expected {num_entities} texts below the header, got {len(rows)}")
    return tuple(text or None for _, text in rows)


def _planted_mask(path: Path, rows: object) -> NDArray[np.bool_] | None:
    if rows is None:
        return None
    if not isinstance(rows, list) or not all(
        isinstance(row, list) and len(row) == len(rows[0]) and all(bit in (0, 1) for bit in row)
        for row in rows
    ):
        raise ValueError(f"{path}: expected planted_mask as equally long lists of 0 and 1")
    return np.array(rows, dtype=np.bool_)


def save_graph(graph: MultimodalGraph, folder: str | os.PathLike[str]) -> None:
    """Write a graph in the native format: whole or not at all.

    Args:
        graph: what `load_graph` shall return. Types and keys of entities come from
            `metadata["entity_types"]` and `metadata["entity_keys"]` where these exist.
        folder: must not exist or be empty; its parent must exist.

    Raises:
        FileExistsError: the folder holds something.
        ValueError: a label has a tab or a line end, or metadata are no JSON.
    """
    target = Path(folder)
    if target.is_dir() and any(target.iterdir()):
        raise _occupied(target)
    metadata = dict(graph.metadata)
    for reserved in ("name", "planted_mask"):
        if reserved in metadata:
            raise ValueError(f"metadata: the key {reserved!r} is reserved for the graph's own")
    count = graph.num_entities
    types = metadata.pop("entity_types", ["entity"] * count)
    keys = metadata.pop("entity_keys", list(map(str, range(count))))
    for name, column in (("entity_types", types), ("entity_keys", keys)):
        if len(column) != count:
            raise ValueError(f"metadata: expected {count} {name}, got {len(column)}")
    metadata["name"] = graph.name
    if graph.planted_mask is not None:
        metadata["planted_mask"] = graph.planted_mask.astype(int).tolist()
    try:
        card = json.dumps(metadata, indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata: expected JSON types, {error}") from None
    entities = [
        (str(number), *map(str, row))
        for number, row in enumerate(zip(keys, types, graph.entity_labels, strict=True))
    ]
    relations = [(str(number), label) for number, label in enumerate(graph.relation_labels)]
    with atomic_folder(target, complete=_refuse_to_discard) as build:
        write_table(build / "entities.tsv", [ENTITY_HEADER, *entities])
        write_table(build / "relations.tsv", [RELATION_HEADER, *relations])
        for split in SPLITS:
            rows = [tuple(map(str, row)) for row in graph.triples[split].tolist()]
            write_table(build / f"{split}.tsv", rows)
        if graph.entity_texts is not None:
            texts = [(str(number), text or "") for number, text in enumerate(graph.entity_texts)]
            write_table(build / "texts.tsv", [TEXT_HEADER, *texts])
        atomic_write(build / "card.json", card.encode() + b"\n")
        (build / "modalities").mkdir()
        for name, modality in graph.modalities.items():
            if not MODALITY_NAME.fullmatch(name):
                raise ValueError(f"modality {name!r}: expected letters, digits, _ and -")
            path = build / "modalities" / f"{name}.npz"
            write_npz(path, entities=modality.entities, features=_narrowed(modality.features))
        if graph.thumbnails is not None and graph.thumbnail_entities is not None:
            path = build / "thumbnails.npz"
            write_npz(path, entities=graph.thumbnail_entities, rgb=graph.thumbnails)


def _narrowed(features: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
    """As float16 where that loses nothing, which is what encoders' features are kept in."""
    with np.errstate(over="ignore"):
        half = features.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), features) else features


def _occupied(target: Path) -> FileExistsError:
    return FileExistsError(f"{target} is not empty, expected a new folder to save a graph in")


def _refuse_to_discard(target: Path) -> bool:
    # Two graphs saved at once need not be equal, so neither may silently stand for the other.
    raise _occupied(target)
