"""Graphs by name or from a folder."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from graphs.formats import read_folder
from graphs.graph import GraphWarning, MultimodalGraph
from graphs.naming import nearest, unknown
from graphs.planted import planted_graph
from graphs.planted_spec import PlantedSpec, parse_planted, planted_levels
from graphs.reading import Reading
from graphs.splits import VALID_CHOICES, overlap_note, resplit_valid, valid_is_broken

_OPTIONS = re.compile(r"(?P<path>.+):(?P<options>[a-z_]+=[^/\\]*)", re.DOTALL)


def load_graph(
    name_or_path: str | os.PathLike[str] | MultimodalGraph,
    *,
    valid: str | None = None,
    coverage: float | None = None,
) -> MultimodalGraph:
    """Load a graph; its arrays are read-only.

    Args:
        name_or_path: a name (`emoji`, `planted`, `planted-easy`, `planted-medium`,
            `planted-hard`; the planted ones take options, as in
            `planted:entities=800,relations=8,noise=0.2,seed=3`), a folder in one of the `FORMATS`
            (`./emoji` where the name would win), or a graph, which is returned as it is. A folder
            takes the options below, as in `data/DB15K:valid=published`.
        valid: of a folder whose valid split shares more than half of its distinct triples with
            train: `resplit` (default) draws another one from train, `published` keeps it.
        coverage: of a folder: the least share of the entities that features found outside
            `modalities/` must cover to become a modality, 0.01 by default.

    Raises:
        FileNotFoundError: neither a name nor a path.
        ValueError: a malformed file or option; the sentence names it and what was expected.
        ModuleNotFoundError: an HDF5 file without the package that reads it.

    Warns:
        GraphWarning: triples in more than one split, a valid split drawn anew, features or texts
            that are not used.
    """
    if isinstance(name_or_path, MultimodalGraph):
        return name_or_path
    given = {"valid": valid, "coverage": coverage}
    options = {key: str(value) for key, value in given.items() if value is not None}
    if isinstance(name_or_path, str):
        name, _, text = name_or_path.partition(":")
        if name in GRAPHS:
            graph, notes = _load_name(name, text, tuple(options.items()))
            _warn(notes)
            return graph
    path, options = _folder_and_options(os.fspath(name_or_path), options)
    reading, valid = _reading(path, options)
    graph = read_folder(path, reading)
    if valid_is_broken(graph) and valid == "resplit":
        graph, note = resplit_valid(graph)
        reading.notes.append(note)
    overlap = overlap_note(graph)
    _warn((*reading.notes, overlap) if overlap else tuple(reading.notes))
    return _freeze(graph)


def _warn(notes: tuple[str, ...]) -> None:
    for note in notes:
        warnings.warn(note, GraphWarning, stacklevel=3)


def _folder_and_options(text: str, given: dict[str, str]) -> tuple[Path, dict[str, str]]:
    """The folder, and the options behind its last colon: a folder's own name may have one."""
    if Path(text).exists():
        return Path(text), given
    found = _OPTIONS.fullmatch(text)
    if found and Path(found["path"]).exists():
        return Path(found["path"]), {**_parse(found["path"], found["options"]), **given}
    name = text.partition(":")[0]
    raise FileNotFoundError(
        f"{text!r} is neither a folder nor a known graph; did you mean "
        f"{nearest(name, GRAPHS)!r}? Known: {', '.join(sorted(GRAPHS))}"
    )


def _parse(name: str, options: str) -> dict[str, str]:
    parsed: dict[str, str] = {}
    for part in options.split(",") if options else ():
        key, equals, value = part.partition("=")
        if not equals or key.strip() in parsed:
            raise ValueError(f"graph {name!r}: expected distinct key=value options, got {part!r}")
        parsed[key.strip()] = value.strip()
    return parsed


def _reading(path: Path, options: Mapping[str, str]) -> tuple[Reading, str]:
    reading = Reading(path.resolve().name)
    known = ("coverage", "valid")
    for key in options:
        if key not in known:
            raise unknown(f"graph {str(path)!r}", key, known)
    if "coverage" in options:
        try:
            reading.coverage = float(options["coverage"])
        except ValueError:
            reading.coverage = -1
        if not 0 <= reading.coverage <= 1:
            raise ValueError(f"coverage: expected 0 to 1, got {options['coverage']!r}")
    valid = options.get("valid", VALID_CHOICES[0])
    if valid not in VALID_CHOICES:
        raise unknown("valid", valid, VALID_CHOICES)
    return reading, valid


@lru_cache(maxsize=8)
def _load_name(
    name: str, options: str, given: tuple[tuple[str, str], ...]
) -> tuple[MultimodalGraph, tuple[str, ...]]:
    parsed = _parse(name, options)
    if given:
        raise ValueError(f"graph {name!r} takes no {given[0][0]}: only folders do")
    graph = _freeze(GRAPHS[name](parsed))
    overlap = overlap_note(graph)
    return graph, (overlap,) if overlap else ()


def _load_emoji(options: Mapping[str, str]) -> MultimodalGraph:
    if options:
        raise ValueError(f"graph 'emoji' takes no options, got {', '.join(options)}")
    folder = Path(__file__).parent / "data" / "emoji"
    return replace(read_folder(folder, Reading("emoji")), name="emoji")


def _load_planted(name: str, base: PlantedSpec, options: Mapping[str, str]) -> MultimodalGraph:
    return replace(planted_graph(parse_planted(base, options)), name=name)


_PLANTED: dict[str, PlantedSpec] = {
    "planted": PlantedSpec(),
    **{f"planted-{level}": spec for level, spec in planted_levels.items()},
}
GRAPHS: dict[str, Callable[[Mapping[str, str]], MultimodalGraph]] = {
    "emoji": _load_emoji,
    **{name: partial(_load_planted, name, spec) for name, spec in _PLANTED.items()},
}
"""Graphs by name; each takes its options as text. Adding one is one line."""


def planted_spec(dataset: str) -> PlantedSpec | None:
    """What `load_graph` plants under a name with options; None where it plants nothing.

    Raises:
        ValueError: a malformed option.
    """
    name, _, options = dataset.partition(":")
    base = _PLANTED.get(name)
    return None if base is None else parse_planted(base, _parse(name, options))


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
