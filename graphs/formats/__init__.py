"""Ways to keep a graph in a folder, one file each. Adding one is one function and one entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from graphs.feature_files import FEATURE_FORMATS, FOLDER, PLACES
from graphs.files import refuse_strays
from graphs.formats import labelled, native, openke
from graphs.graph import MultimodalGraph
from graphs.reading import Reading


@dataclass(frozen=True)
class FolderFormat:
    """One way to keep a graph in a folder.

    Attributes:
        summary: what such a folder holds, for error messages.
        matches: whether a folder looks like it, by its file names alone.
        read: reads a folder as it is told to.
    """

    summary: str
    matches: Callable[[Path], bool]
    read: Callable[[Path, Reading], MultimodalGraph]


FORMATS: dict[str, FolderFormat] = {
    "native": FolderFormat(
        "entities.tsv, relations.tsv and id triples in train.tsv, valid.tsv, test.tsv",
        native.matches,
        native.read,
    ),
    "openke": FolderFormat(
        "OpenKE's train2id.txt, valid2id.txt, test2id.txt, entity2id.txt, relation2id.txt",
        openke.matches,
        openke.read,
    ),
    "labelled": FolderFormat(
        "triples of names (train, valid, test with .tsv or .txt)", labelled.matches, labelled.read
    ),
}
"""By name, tried in this order."""

# Endings of all that is read from a folder; pictures and the like are not.
_ENDINGS = ("", ".txt", ".tsv", ".json", ".xz", *FEATURE_FORMATS)


def read_folder(folder: Path, reading: Reading) -> MultimodalGraph:
    """Read a folder in the first format that it looks like.

    Raises:
        ValueError: it is no folder, looks like none of the `FORMATS`, has links out of it, or is
            malformed.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected the folder of a graph")
    refuse_strays(folder, (FOLDER, *PLACES), _ENDINGS)
    for form in FORMATS.values():
        if form.matches(folder):
            try:
                return form.read(folder, reading)
            except ValueError as error:
                # What is wrong with the whole graph, such as no training triples, has no file.
                told = str(error).startswith(str(folder))
                raise error if told else ValueError(f"{folder}: {error}") from None
    known = "; or ".join(f"{name} ({form.summary})" for name, form in FORMATS.items())
    raise ValueError(f"{folder}: expected one of the formats {known}")


__all__ = ["FORMATS", "FolderFormat", "Reading", "read_folder"]
