"""Text files: plain or compressed by xz, read line by line, refused by file and line."""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from graphs.csr import IntArray
from graphs.files import atomic_write, most_bytes
from graphs.naming import shown

# How code that expects a document of a certain form comes upon another.
_OF_ANOTHER_FORM = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError)

Content = TypeVar("Content")

_ID = re.compile(r"[0-9]{1,18}")
_NAME_AND_ID = re.compile(r"(.*[^ \t])[ \t]+([0-9]{1,18})[ \t]*")
_COUNT = re.compile(r"[ \t]*[0-9]{1,18}[ \t]*")

# What even the smallest xz file may unpack to, in bytes: as lines it takes several times as much.
_ALWAYS_ALLOWED_BYTES = 2**23


def is_id(text: str) -> bool:
    """Whether a field is a whole number, not negative and of at most 18 digits."""
    return _ID.fullmatch(text) is not None


def malformed(path: Path, line: int, expected: str, got: str) -> ValueError:
    """The error for a line that is not as it should be."""
    return ValueError(f"{path}, line {line}: expected {expected}, got {shown(got)}")


def find_text(folder: Path, *names: str) -> Path | None:
    """The first of the named files that exists, each as it is or with `.xz` behind."""
    for name in names:
        for path in (folder / name, folder / f"{name}.xz"):
            if path.is_file():
                return path
    return None


def need_text(folder: Path, expected: str, *names: str) -> Path:
    """As `find_text`, but one of the files must exist.

    Raises:
        ValueError: none does; the sentence names the first and what it was to hold.
    """
    path = find_text(folder, *names)
    if path is None:
        others = f" (or {', '.join(names[1:])})" if len(names) > 1 else ""
        raise ValueError(f"{folder / names[0]}{others} is missing, expected {expected}")
    return path


def read_text(path: Path) -> str:
    """A UTF-8 file as it is.

    Raises:
        ValueError: no UTF-8.
        OSError: the file cannot be read.
    """
    return _decoded(path, path.read_bytes())


def _decoded(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: expected UTF-8, {error.reason}") from None


def read_lines(path: Path, expected: str) -> list[str]:
    """The lines of a UTF-8 file without their ends.

    Raises:
        ValueError: the file is missing, damaged or no UTF-8.
    """
    try:
        data = _inflate(path) if path.suffix == ".xz" else path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path} is missing, expected {expected}") from None
    text = _decoded(path, data)
    # Not splitlines(): names may hold U+2028 and other characters that it takes for line ends.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def _inflate(path: Path) -> bytes:
    most = most_bytes(path.stat().st_size, _ALWAYS_ALLOWED_BYTES)
    try:
        with lzma.open(path) as file:
            data = file.read(most + 1)
    except (lzma.LZMAError, EOFError, MemoryError) as error:  # its dictionary may be what is large
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path}: expected an xz file, {reason}") from None
    if len(data) > most:
        raise ValueError(f"{path}: expected at most {most} bytes when unpacked")
    return data


def read_rows(path: Path, width: int, fields: str) -> list[list[str]]:
    """The rows of a file of tab-separated fields.

    Args:
        path: the file.
        width: number of fields in every row.
        fields: what they are called, for messages.
    """
    expected = f"{width} tab-separated fields ({fields})"
    rows = []
    for number, line in enumerate(read_lines(path, f"lines of {expected}"), 1):
        row = line.split("\t")
        if len(row) != width:
            raise malformed(path, number, expected, line)
        rows.append(row)
    return rows


def read_table(path: Path, header: tuple[str, ...]) -> list[list[str]]:
    """The rows below the header of a table whose first column counts from 0."""
    rows = read_rows(path, len(header), ", ".join(header))
    if not rows or tuple(rows[0]) != header:
        got = "\t".join(rows[0]) if rows else ""
        raise malformed(path, 1, f"the header {chr(9).join(header)!r}", got)
    for number, row in enumerate(rows[1:]):
        if row[0] != str(number):
            raise malformed(path, number + 2, f"id {number}", row[0])
    return rows[1:]


def write_table(path: Path, rows: Sequence[tuple[str, ...]]) -> None:
    """Write rows of tab-separated fields, atomically.

    Raises:
        ValueError: a field has a tab or a line end.
    """
    for row in rows:
        for field in row:
            if re.search(r"[\t\n\r]", field):
                raise ValueError(f"{path.name}: {field!r} holds a tab or a line end")
    text = "".join("\t".join(row) + "\n" for row in rows)
    atomic_write(path, text.encode())


def read_names(path: Path, kind: str) -> list[str]:
    """The names in a file, in the order of their ids.

    `*2id.txt` has a name and its id a line, the id behind the last space or tab, so names may have
    spaces. A first line with one number and nothing else counts the lines below it, as OpenKE has
    it. In every other file each line is a name, and its id is its place.

    Args:
        path: such as `entity2id.txt` or `entities.txt`.
        kind: what is named, for messages.

    Raises:
        ValueError: a repeated name, a count that is wrong, or ids that are not 0, 1, 2, ...
    """
    lines = read_lines(path, f"lines of {kind} names")
    if not path.name.removesuffix(".xz").endswith("2id.txt"):
        _refuse_repeated(path, lines, 1)
        return lines
    first = 1
    if lines and _COUNT.fullmatch(lines[0]):
        check_count(path, lines, f"{kind} names")
        lines, first = lines[1:], 2
    names = []
    by_id: dict[int, str] = {}
    for number, line in enumerate(lines, first):
        found = _NAME_AND_ID.fullmatch(line)
        if found is None:
            raise malformed(path, number, f"the name of {kind} and its id", line)
        position = int(found[2])
        if position >= len(lines) or position in by_id:
            expected = f"an id in [0, {len(lines)}) that no line above has"
            raise malformed(path, number, expected, line)
        by_id[position] = found[1]
        names.append(found[1])
    _refuse_repeated(path, names, first)
    return [by_id[position] for position in range(len(by_id))]


def _refuse_repeated(path: Path, names: Sequence[str], first_line: int) -> None:
    lines: dict[str, int] = {}
    for number, name in enumerate(names, first_line):
        if lines.setdefault(name, number) != number:
            raise malformed(path, number, f"a name that line {lines[name]} does not have", name)


def check_count(path: Path, lines: Sequence[str], counted: str) -> None:
    """Hold the count in the first line against the lines below it.

    Raises:
        ValueError: the first line is no count, or a wrong one.
    """
    expected = f"the number of {counted} below, {max(len(lines) - 1, 0)}"
    if not lines or not _COUNT.fullmatch(lines[0]) or int(lines[0]) != len(lines) - 1:
        raise malformed(path, 1, expected, lines[0] if lines else "")


def id_triples(
    path: Path,
    rows: Sequence[Sequence[str]],
    bounds: tuple[int, int],
    first_line: int = 1,
    order: tuple[int, int, int] = (0, 1, 2),
) -> IntArray:
    """Triples of ids, int64 `[n, 3]` as head, relation, tail.

    Args:
        path: for messages.
        rows: the three fields of each line.
        bounds: numbers of entities and of relations.
        first_line: number of the line that the first row comes from.
        order: which field is the head, which the relation, which the tail.
    """
    flat = [field for row in rows for field in row]
    limits = (bounds[0], bounds[1], bounds[0])
    digits = "".join(flat)
    if digits.isascii() and (digits.isdigit() or not flat) and all(map(_ID.fullmatch, flat)):
        triples = np.array(list(map(int, flat)), dtype=np.int64).reshape(-1, 3)[:, order]
        if not len(triples) or bool((triples < limits).all()):
            return np.ascontiguousarray(triples)
    kinds = ("an entity", "a relation", "an entity")
    for number, row in enumerate(rows, first_line):
        for column, bound, kind in zip(order, limits, kinds, strict=True):
            text = row[column]
            if not _ID.fullmatch(text) or int(text) >= bound:
                raise malformed(path, number, f"{kind} id in [0, {bound})", "\t".join(row))
    raise AssertionError("unreachable: some field was refused above")  # pragma: no cover


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one where there is no such file.

    Raises:
        ValueError: other content.
    """
    if not path.exists():
        return {}
    card = parse_json(path, "\n".join(read_lines(path, "JSON")), _refuse_constant)
    if not isinstance(card, dict):
        raise ValueError(f"{path}, line 1: expected a JSON object, got a {type(card).__name__}")
    return card


def parse_json(path: Path, text: str, constant: Callable[[str], float] = float) -> Any:
    """What a JSON text holds.

    Args:
        path: for messages.
        text: JSON.
        constant: makes something of `NaN`, `Infinity` and `-Infinity`, or refuses them.

    Raises:
        ValueError: other content.
    """
    try:
        return json.loads(text, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: expected JSON, {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, {error}") from None


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def read_json(path: Path, parse: Callable[[Any], Content]) -> Content:
    """What `parse` makes of a JSON file.

    Raises:
        ValueError: it is no JSON, or not what `parse` expects; names the file.
        OSError: the file cannot be read.
    """
    document = parse_json(path, read_text(path))
    try:
        return parse(document)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except _OF_ANOTHER_FORM as error:
        # The name of an error alone, such as KeyError, says less than with what it is about.
        raise ValueError(f"{path} is not what was expected: {shown(error)}") from None
