"""Graphs by name or from a folder, and back to a folder."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphs.csr import IntArray
from graphs.files import atomic_folder, atomic_write, open_npz, read_array, write_npz
from graphs.graph import SPLITS, Modality, MultimodalGraph
from graphs.naming import nearest
from graphs.planted import PlantedSpec, parse_planted, planted_graph, planted_levels

ENTITY_HEADER = ("id", "key", "type", "name")
RELATION_HEADER = ("id", "name")

_ID = re.compile(r"[0-9]{1,18}")
_MODALITY_NAME = re.compile(r"[A-Za-z0-9_-]+")


class GraphWarning(UserWarning):
    """A graph that can be used, but whose results need a caveat."""


def load_graph(name_or_path: str | os.PathLike[str] | MultimodalGraph) -> MultimodalGraph:
    """Load a graph; its arrays are read-only.

    Args:
        name_or_path: a name (`emoji`, `planted`, `planted-easy`, `planted-medium`,
            `planted-hard`; the planted ones take options, as in
            `planted:entities=800,relations=8,noise=0.2,seed=3`), a folder in one of the `FORMATS`
            (`./emoji` where the name would win), or a graph, which is returned as it is.

    Raises:
        FileNotFoundError: neither a name nor a path.
        ValueError: a malformed file or option; the sentence names it and what was expected.

    Warns:
        GraphWarning: triples that are in more than one split.
    """
    if isinstance(name_or_path, MultimodalGraph):
        return name_or_path
    if isinstance(name_or_path, str):
        name, _, options = name_or_path.partition(":")
        if name in GRAPHS:
            return _load_name(name, options)
    path = Path(name_or_path)
    if not path.exists():
        name = os.fspath(name_or_path).partition(":")[0]
        raise FileNotFoundError(
            f"{os.fspath(name_or_path)!r} is neither a folder nor a known graph; did you mean "
            f"{nearest(name, GRAPHS)!r}? Known: {', '.join(sorted(GRAPHS))}"
        )
    graph = _freeze(_read_folder(path, path.resolve().name))
    _warn_of_overlaps(graph)
    return graph


@lru_cache(maxsize=8)
def _load_name(name: str, options: str) -> MultimodalGraph:
    parsed: dict[str, str] = {}
    for part in options.split(",") if options else ():
        key, equals, value = part.partition("=")
        if not equals or key in parsed:
            raise ValueError(f"graph {name!r}: expected distinct key=value options, got {part!r}")
        parsed[key.strip()] = value.strip()
    graph = _freeze(GRAPHS[name](parsed))
    _warn_of_overlaps(graph)
    return graph


def _load_emoji(options: Mapping[str, str]) -> MultimodalGraph:
    if options:
        raise ValueError(f"graph 'emoji' takes no options, got {', '.join(options)}")
    return replace(_read_folder(Path(__file__).parent / "data" / "emoji", "emoji"), name="emoji")


def _load_planted(base: PlantedSpec, options: Mapping[str, str]) -> MultimodalGraph:
    return planted_graph(parse_planted(base, options))


GRAPHS: dict[str, Callable[[Mapping[str, str]], MultimodalGraph]] = {
    "emoji": _load_emoji,
    "planted": partial(_load_planted, PlantedSpec()),
    **{f"planted-{level}": partial(_load_planted, spec) for level, spec in planted_levels.items()},
}
"""Graphs by name; each takes its options as text. Adding one is one line."""


def _freeze(graph: MultimodalGraph) -> MultimodalGraph:
    """Make the arrays of a graph read-only: named graphs are shared by all who load them."""
    arrays: list[NDArray[Any] | None] = [graph.planted_mask, graph.thumbnails]
    arrays += [graph.thumbnail_entities, *graph.triples.values()]
    for modality in graph.modalities.values():
        arrays += [modality.entities, modality.features]
    for array in arrays:
        if array is not None:
            array.flags.writeable = False
    return graph


def _warn_of_overlaps(graph: MultimodalGraph) -> None:
    shared = {pair: count for pair, count in graph.split_overlaps().items() if count}
    if shared:
        counts = ", ".join(f"{pair} {count}" for pair, count in shared.items())
        sizes = ", ".join(f"{split} {len(graph.triples[split])}" for split in SPLITS)
        warnings.warn(
            f"graph {graph.name!r}: splits share triples ({counts}; sizes {sizes}), so figures "
            f"on them measure memory",
            GraphWarning,
            stacklevel=3,
        )


# --- folder formats ------------------------------------------------------------------------------


@dataclass(frozen=True)
class FolderFormat:
    """One way to keep a graph in a folder.

    Attributes:
        summary: what such a folder holds, for error messages.
        matches: whether a folder looks like it, by its file names alone.
        read: reads a folder under the name the graph is to have.
    """

    summary: str
    matches: Callable[[Path], bool]
    read: Callable[[Path, str], MultimodalGraph]


def _read_folder(folder: Path, name: str) -> MultimodalGraph:
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected the folder of a graph")
    for form in FORMATS:
        if form.matches(folder):
            return form.read(folder, name)
    known = "; or ".join(form.summary for form in FORMATS)
    raise ValueError(f"{folder}: expected {known}")


def _read_native(folder: Path, name: str) -> MultimodalGraph:
    entities = _read_table(folder / "entities.tsv", ENTITY_HEADER)
    relations = _read_table(folder / "relations.tsv", RELATION_HEADER)
    keys: dict[str, int] = {}
    for line, (_, key, _, _) in enumerate(entities, 2):
        if keys.setdefault(key, line) != line:
            expected = f"a key that line {keys[key]} does not have"
            raise _malformed(folder / "entities.tsv", line, expected, key)
    card = _read_card(folder / "card.json")
    mask = _planted_mask(folder / "card.json", card.pop("planted_mask", None))
    card_name = card.pop("name", name)
    card["entity_types"] = [row[2] for row in entities]
    card["entity_keys"] = [row[1] for row in entities]
    thumbnail_entities, thumbnails = _read_thumbnails(folder / "thumbnails.npz", len(entities))
    modalities = _read_modalities(folder, len(entities))
    if mask is not None and mask.shape != (2 * len(relations), len(modalities)):
        raise ValueError(
            f"{folder / 'card.json'}: expected planted_mask of shape "
            f"{(2 * len(relations), len(modalities))}, got {mask.shape}"
        )
    return MultimodalGraph(
        name=str(card_name),
        triples={
            split: _read_id_triples(folder / f"{split}.tsv", len(entities), len(relations))
            for split in SPLITS
        },
        entity_labels=tuple(row[3] for row in entities),
        relation_labels=tuple(row[1] for row in relations),
        modalities=modalities,
        thumbnails=thumbnails,
        thumbnail_entities=thumbnail_entities,
        metadata=card,
        planted_mask=mask,
    )


def _label_file(folder: Path, split: str) -> Path:
    tsv = folder / f"{split}.tsv"
    return tsv if tsv.exists() else folder / f"{split}.txt"


def _read_labelled(folder: Path, name: str) -> MultimodalGraph:
    rows = {
        split: _read_rows(_label_file(folder, split), 3, "head, relation and tail names")
        for split in SPLITS
    }
    everything = [row for split in SPLITS for row in rows[split]]
    entities = sorted({label for row in everything for label in (row[0], row[2])})
    relations = sorted({row[1] for row in everything})
    entity_ids = {label: number for number, label in enumerate(entities)}
    relation_ids = {label: number for number, label in enumerate(relations)}
    return MultimodalGraph(
        name=name,
        triples={
            split: np.array(
                [(entity_ids[h], relation_ids[r], entity_ids[t]) for h, r, t in rows[split]],
                dtype=np.int64,
            ).reshape(-1, 3)
            for split in SPLITS
        },
        entity_labels=tuple(entities),
        relation_labels=tuple(relations),
        modalities=_read_modalities(folder, len(entities), entity_ids),
        metadata=_read_card(folder / "card.json"),
    )


FORMATS: list[FolderFormat] = [
    FolderFormat(
        "the native format (entities.tsv, relations.tsv and id triples in train.tsv, valid.tsv, "
        "test.tsv)",
        lambda folder: (folder / "entities.tsv").exists(),
        _read_native,
    ),
    FolderFormat(
        "triples of names (train, valid, test with .tsv or .txt)",
        lambda folder: _label_file(folder, "train").exists(),
        _read_labelled,
    ),
]
"""Tried in this order; a further format is one function and one entry."""


# --- text files ----------------------------------------------------------------------------------


def _malformed(path: Path, line: int, expected: str, got: str) -> ValueError:
    shown = got if len(got) <= 80 else got[:77] + "..."
    return ValueError(f"{path}, line {line}: expected {expected}, got {shown!r}")


def _read_lines(path: Path, expected: str) -> list[str]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path} is missing, expected lines of {expected}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: expected UTF-8, {error.reason}") from None
    # Not splitlines(): names may hold U+2028 and other characters that it takes for line ends.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def _read_rows(path: Path, width: int, fields: str) -> list[list[str]]:
    expected = f"{width} tab-separated fields ({fields})"
    rows = []
    for number, line in enumerate(_read_lines(path, expected), 1):
        row = line.split("\t")
        if len(row) != width:
            raise _malformed(path, number, expected, line)
        rows.append(row)
    return rows


def _read_table(path: Path, header: tuple[str, ...]) -> list[list[str]]:
    """Rows below the header of a table whose first column counts from 0."""
    rows = _read_rows(path, len(header), ", ".join(header))
    if not rows or tuple(rows[0]) != header:
        got = "\t".join(rows[0]) if rows else ""
        raise _malformed(path, 1, f"the header {chr(9).join(header)!r}", got)
    for number, row in enumerate(rows[1:]):
        if row[0] != str(number):
            raise _malformed(path, number + 2, f"id {number}", row[0])
    return rows[1:]


def _read_id_triples(path: Path, num_entities: int, num_relations: int) -> IntArray:
    rows = _read_rows(path, 3, "head, relation and tail ids")
    bounds = (num_entities, num_relations, num_entities)
    kinds = ("an entity", "a relation", "an entity")
    for number, row in enumerate(rows, 1):
        for text, bound, kind in zip(row, bounds, kinds, strict=True):
            if not _ID.fullmatch(text) or int(text) >= bound:
                raise _malformed(path, number, f"{kind} id in [0, {bound})", "\t".join(row))
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def _read_card(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    text = "\n".join(_read_lines(path, "JSON"))
    try:
        card = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: expected JSON, {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, {error}") from None
    if not isinstance(card, dict):
        raise ValueError(f"{path}, line 1: expected a JSON object, got a {type(card).__name__}")
    return card


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _planted_mask(path: Path, rows: object) -> NDArray[np.bool_] | None:
    if rows is None:
        return None
    if not isinstance(rows, list) or not all(
        isinstance(row, list) and len(row) == len(rows[0]) and set(row) <= {0, 1} for row in rows
    ):
        raise ValueError(f"{path}: expected planted_mask as equally long lists of 0 and 1")
    return np.array(rows, dtype=np.bool_)


# --- array files ---------------------------------------------------------------------------------


def _sorted_ids(
    path: Path, entities: NDArray[Any], num_entities: int, ids: Mapping[str, int] | None
) -> tuple[IntArray, IntArray]:
    """The entities' ids in ascending order, and the rows of the file they come from."""
    if entities.dtype.kind == "U":
        known = ids or {}
        numbers = np.array([known.get(label, -1) for label in entities.tolist()], dtype=np.int64)
        strangers = int((numbers < 0).sum())
        if strangers:
            warnings.warn(
                f"{path}: left out {strangers} of {len(numbers)} entities, which are in no triple",
                GraphWarning,
                stacklevel=2,
            )
        rows = np.flatnonzero(numbers >= 0)
    else:
        outside = np.flatnonzero((entities < 0) | (entities >= num_entities))
        if len(outside):
            raise ValueError(
                f"{path}, row {outside[0]}: expected an entity id in [0, {num_entities}), "
                f"got {entities[outside[0]]}"
            )
        numbers = entities.astype(np.int64)
        rows = np.arange(len(numbers))
    rows = rows[np.argsort(numbers[rows], kind="stable")]
    repeated = np.flatnonzero(np.diff(numbers[rows]) == 0)
    if len(repeated):
        first, second = sorted(rows[repeated[0] : repeated[0] + 2].tolist())
        raise ValueError(f"{path}, row {second}: expected another entity than that of row {first}")
    return numbers[rows], rows


def _read_modalities(
    folder: Path, num_entities: int, ids: Mapping[str, int] | None = None
) -> dict[str, Modality]:
    """Every `modalities/<name>.npz`; `ids` resolves labels where files may hold them."""
    modalities = {}
    for path in sorted((folder / "modalities").glob("*.npz")):
        if not _MODALITY_NAME.fullmatch(path.stem):
            raise ValueError(f"{path}: expected a name of letters, digits, _ and -")
        with open_npz(path) as archive:
            kinds = "iu" if ids is None else "iuU"
            entities = read_array(path, archive, "entities", kinds, (None,))
            shape = (len(entities), None)
            features = read_array(path, archive, "features", "f", shape)
        numbers, rows = _sorted_ids(path, entities, num_entities, ids)
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused as infinite below
            features = features.astype(np.float32)
        finite = np.isfinite(features).all(axis=1)
        if not bool(finite.all()):
            row = int(np.flatnonzero(~finite)[0])
            raise ValueError(f"{path}, row {row}: expected finite float32 features")
        modalities[path.stem] = Modality(numbers, features[rows])
    return modalities


def _read_thumbnails(
    path: Path, num_entities: int
) -> tuple[IntArray | None, NDArray[np.uint8] | None]:
    if not path.exists():
        return None, None
    with open_npz(path) as archive:
        entities = read_array(path, archive, "entities", "iu", (None,))
        rgb = read_array(path, archive, "rgb", "u", (len(entities), None, None, 3))
    if rgb.dtype != np.uint8:
        raise ValueError(f"{path}, array 'rgb': expected uint8, got {rgb.dtype}")
    numbers, rows = _sorted_ids(path, entities, num_entities, None)
    return numbers, rgb[rows]


# --- and back ------------------------------------------------------------------------------------


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
        _write_table(build / "entities.tsv", [ENTITY_HEADER, *entities])
        _write_table(build / "relations.tsv", [RELATION_HEADER, *relations])
        for split in SPLITS:
            rows = [tuple(map(str, row)) for row in graph.triples[split].tolist()]
            _write_table(build / f"{split}.tsv", rows)
        atomic_write(build / "card.json", card.encode() + b"\n")
        (build / "modalities").mkdir()
        for name, modality in graph.modalities.items():
            if not _MODALITY_NAME.fullmatch(name):
                raise ValueError(f"modality {name!r}: expected letters, digits, _ and -")
            path = build / "modalities" / f"{name}.npz"
            write_npz(path, entities=modality.entities, features=modality.features)
        if graph.thumbnails is not None and graph.thumbnail_entities is not None:
            path = build / "thumbnails.npz"
            write_npz(path, entities=graph.thumbnail_entities, rgb=graph.thumbnails)


def _occupied(target: Path) -> FileExistsError:
    return FileExistsError(f"{target} is not empty, expected a new folder to save a graph in")


def _refuse_to_discard(target: Path) -> bool:
    # Two graphs saved at once need not be equal, so neither may silently stand for the other.
    raise _occupied(target)


def _write_table(path: Path, rows: Sequence[tuple[str, ...]]) -> None:
    for row in rows:
        for field in row:
            if re.search(r"[\t\n\r]", field):
                raise ValueError(f"{path.name}: {field!r} holds a tab or a line end")
    text = "".join("\t".join(row) + "\n" for row in rows)
    atomic_write(path, text.encode())


# --- a graph in words ----------------------------------------------------------------------------


def describe(graph: MultimodalGraph) -> str:
    """The card of a graph: sizes, splits and their overlaps, unseen entities, coverage."""
    lines = [
        f"{graph.name}: {graph.num_entities} entities, {graph.num_relations} relations, "
        f"{sum(map(len, graph.triples.values()))} triples"
    ]
    train = graph.triples["train"]
    seen = np.zeros(graph.num_entities, dtype=np.bool_)
    seen[train[:, [0, 2]]] = True
    seen_relations = np.zeros(graph.num_relations, dtype=np.bool_)
    seen_relations[train[:, 1]] = True
    for split in SPLITS:
        triples = graph.triples[split]
        line = f"  {split}: {len(triples)} triples"
        repeated = len(triples) - len(np.unique(triples, axis=0)) if len(triples) else 0
        if repeated:
            line += f", {repeated} repeated"
        if split != "train":
            entities = np.unique(triples[:, [0, 2]])
            relations = np.unique(triples[:, 1])
            line += (
                f", {int((~seen[entities]).sum())} of {len(entities)} entities and "
                f"{int((~seen_relations[relations]).sum())} of {len(relations)} relations "
                f"are not in train"
            )
        lines.append(line)
    overlaps = graph.split_overlaps()
    lines.append("  shared: " + ", ".join(f"{pair} {count}" for pair, count in overlaps.items()))
    for name, modality in sorted(graph.modalities.items()):
        share = len(modality.entities) / graph.num_entities
        lines.append(
            f"  {name}: {len(modality.entities)} entities ({share:.1%}), {modality.width} columns"
        )
    if graph.thumbnails is not None:
        height, width = graph.thumbnails.shape[1:3]
        lines.append(f"  thumbnails: {len(graph.thumbnails)} of {height}×{width} pixels")
    if graph.planted_mask is not None:
        names = sorted(graph.modalities)
        for relation in range(graph.num_relations):
            competent = [names[m] for m in np.flatnonzero(graph.planted_mask[relation])]
            lines.append(f"  {graph.relation_label(relation)}: taught by {', '.join(competent)}")
    return "\n".join(lines)
