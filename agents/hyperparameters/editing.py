"""A winner's values in an agent's YAML: everything else in the file stays, comments included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

MARK = "# Tuned:"

# Where, until where, and what stands there instead.
_Edit = tuple[int, int, str]


def edit_hyperparameters(
    text: str, entry: str, sections: Mapping[str, Mapping[str, Any]], comment: str
) -> str:
    """The text of a YAML with other values in one of its entries.

    Args:
        text: of the file, see `parse_hyperparameters`.
        entry: `default` or the name of a dataset; made at the end if need be.
        sections: values by section and name; those not named stay.
        comment: one line that says where they come from, above the entry; takes the place of
            that of an earlier edit.

    Raises:
        ValueError: the entry is written in a way that this cannot edit safely, by an alias say.
    """
    wanted = yaml.safe_load(text)
    merged = {name: dict(values or {}) for name, values in (wanted.get(entry) or {}).items()}
    for section, values in sections.items():
        merged[section] = merged.get(section, {}) | dict(values)
    wanted[entry] = merged
    comment = f"{MARK} {' '.join(comment.split())}\n"
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    found = _children(root).get(entry)
    if found is None:
        lines = "".join(f"  {name}: {_flow(dict(values))}\n" for name, values in sections.items())
        edited = text.rstrip("\n") + f"\n{comment}{_flow(entry)}:\n{lines}"
    else:
        key, node = found
        edits = [*_entry_edits(node, sections), _comment_edit(text, key, comment)]
        edited = text
        for start, stop, replacement in sorted(edits, reverse=True):
            edited = edited[:start] + replacement + edited[stop:]
    try:
        result = yaml.safe_load(edited)
    except yaml.YAMLError:
        result = None
    if result != wanted:
        raise ValueError(
            f"entry {entry!r} is written in a way that cannot be edited without changing something "
            "else"
        )
    return edited


def _children(node: yaml.Node | None) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    """Keys and values of a mapping by name; none for another node, such as an empty one."""
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {key.value: (key, value) for key, value in node.value}


def _entry_edits(node: yaml.Node, sections: Mapping[str, Mapping[str, Any]]) -> list[_Edit]:
    """What has to change in an entry."""
    known = _children(node)
    edits, new = [], {}
    for section, values in sections.items():
        if section not in known:
            new[section] = dict(values)
            continue
        _, body = known[section]
        inside = _children(body)
        edits += [_instead(inside[n][1], value) for n, value in values.items() if n in inside]
        edits += _added(body, {n: value for n, value in values.items() if n not in inside})
    return edits + _added(node, new)


def _added(node: yaml.Node, values: Mapping[str, Any]) -> list[_Edit]:
    """New keys of a mapping, before its first, whose place and indentation are known."""
    if not values:
        return []
    if not isinstance(node, yaml.MappingNode) or not node.value:
        return [_instead(node, dict(values))]
    start = node.value[0][0].start_mark
    between = ", " if node.flow_style else "\n" + " " * start.column
    new = "".join(f"{_flow(name)}: {_flow(value)}{between}" for name, value in values.items())
    return [(start.index, start.index, new)]


def _instead(node: yaml.Node, value: object) -> _Edit:
    start, stop = node.start_mark.index, _end(node)
    return start, stop, _flow(value) if start < stop else f" {_flow(value)}"


def _end(node: yaml.Node) -> int:
    """Where a node ends; YAML lets a block end where the next thing begins, after comments."""
    if isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _comment_edit(text: str, key: yaml.Node, comment: str) -> _Edit:
    start = key.start_mark.index
    above = text.rfind("\n", 0, max(start - 1, 0)) + 1
    return (above if text.startswith(MARK, above) else start), start, comment


def _flow(value: object) -> str:
    """A value in YAML's flow style, on one line."""
    return yaml.safe_dump([value], default_flow_style=True, width=2**30, sort_keys=False)[1:-2]
