"""Readable names and descriptions of entities and relations, from the files that hold them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from graphs.entity_names import EntityNames
from graphs.reading import Reading
from graphs.text_files import find_text, is_id, malformed, read_lines, read_rows

TEXT_TABLE_HEADER = ("id", "key", "name", "description", "source")


@dataclass(frozen=True)
class Names:
    """How entities and relations are called.

    Attributes:
        entities: finds entities by key or by alias.
        entity_labels: one readable label per entity.
        entity_texts: one description per entity, None where there is none.
        relation_labels: one readable label per relation.
    """

    entities: EntityNames
    entity_labels: tuple[str, ...]
    entity_texts: tuple[str | None, ...] | None
    relation_labels: tuple[str, ...]


def name_everything(
    folder: Path, entities: Sequence[str], relations: Sequence[str], reading: Reading
) -> Names:
    """Names of everything in a folder.

    Labels and descriptions come from `entity_text.tsv` (its columns `name` and `description`), or
    labels from `entity2text.txt` and descriptions from `entity2textlong.txt`; labels of relations
    from `relation2text.txt`, or from `rel_links.txt`, which has one a line in the order of ids.
    Without these, labels are the keys, and of a URI what stands behind its last slash.
    """
    names = EntityNames(entities, _links(folder))
    table = find_text(folder, "entity_text.tsv")
    if table is not None:
        labels, texts = _read_text_table(table, names)
    else:
        labels = _read_texts(_named(folder, "entity2text.txt"), names, reading)
        texts = _read_texts(_named(folder, "entity2textlong.txt"), names, reading)
    named = find_text(folder, "relation2text.txt")
    relation_labels = _read_texts(named, EntityNames(relations), reading)
    listed = find_text(folder, "rel_links.txt")
    if named is None and listed is not None:
        lines = read_lines(listed, "lines of relation names")
        if len(lines) == len(relations):
            relation_labels = dict(enumerate(map(_one_line, lines)))
    return Names(
        entities=names,
        entity_labels=_labels(labels, entities),
        entity_texts=tuple(texts.get(i) for i in range(len(entities))) if texts else None,
        relation_labels=_labels(relation_labels, relations),
    )


def _labels(known: Mapping[int, str], keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(known.get(number) or short_name(key) for number, key in enumerate(keys))


def short_name(key: str) -> str:
    """What stands behind the last slash or hash of a URI; another key as it is."""
    bare = key.removeprefix("<").removesuffix(">")
    return re.split(r"[/#]", bare)[-1] or key if re.match(r"https?://", bare) else key


def _named(folder: Path, name: str) -> Path | None:
    """`name`, or the first file in the folder whose name ends so."""
    exact = find_text(folder, name)
    if exact is not None:
        return exact
    ending = sorted(p for p in folder.iterdir() if p.name.removesuffix(".xz").endswith(name))
    return ending[0] if ending else None


def _links(folder: Path) -> list[tuple[str, str]]:
    """Pairs of names of one entity: `ent_links.txt`, `*_ImageIndex.txt`, `*_SameAsLink.txt`."""
    pairs = []
    path = find_text(folder, "ent_links.txt", "ent_links")
    if path is not None:
        pairs += [(left, right) for left, right in read_rows(path, 2, "two names of one entity")]
    path = _named(folder, "_ImageIndex.txt")
    if path is not None:
        pairs += [(left, right) for left, right in read_rows(path, 2, "an entity and its picture")]
    path = _named(folder, "_SameAsLink.txt")
    if path is not None:
        expected = "lines of <name> <SameAs> <name> and a full stop"
        for number, line in enumerate(read_lines(path, expected), 1):
            fields = line.split()
            if len(fields) not in (3, 4):
                raise malformed(path, number, "name, SameAs, name and a full stop", line)
            pairs.append((fields[0], fields[2]))
    return pairs


def _read_text_table(path: Path, names: EntityNames) -> tuple[dict[int, str], dict[int, str]]:
    rows = read_rows(path, len(TEXT_TABLE_HEADER), ", ".join(TEXT_TABLE_HEADER))
    if not rows or tuple(rows[0]) != TEXT_TABLE_HEADER:
        got = "\t".join(rows[0]) if rows else ""
        raise malformed(path, 1, f"the header {chr(9).join(TEXT_TABLE_HEADER)!r}", got)
    labels: dict[int, str] = {}
    texts: dict[int, str] = {}
    for number, (position, _, name, description, _) in enumerate(rows[1:], 2):
        known = is_id(position) and int(position) < len(names)
        if not known or int(position) in labels:
            expected = f"an id in [0, {len(names)}) that no line above has"
            raise malformed(path, number, expected, position)
        labels[int(position)] = _one_line(name)
        if description.strip():
            texts[int(position)] = _one_line(description)
    return labels, texts


def _read_texts(path: Path | None, names: EntityNames, reading: Reading) -> dict[int, str]:
    """Texts by id, from lines of a name, a tab and a text."""
    if path is None:
        return {}
    texts = {}
    lines = read_lines(path, "lines of a name, a tab and a text")
    for number, line in enumerate(lines, 1):
        name, tab, text = line.partition("\t")
        if not tab:
            raise malformed(path, number, "a name, a tab and a text", line)
        found = names.find(name)
        if found is not None and text.strip():
            texts[found] = _one_line(text)
    if lines and not texts:
        reading.notes.append(
            f"{path}: none of its {len(lines)} names is one of the graph, so it is not used"
        )
    return texts


def _one_line(text: str) -> str:
    return " ".join(text.split())
