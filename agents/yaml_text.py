"""YAML that somebody else may have written: small, plain, and refused in one sentence."""

from __future__ import annotations

from typing import Any

import yaml

from graphs.naming import shown

# Beyond any configuration; PyYAML takes seconds for some hundred kilobytes.
_MOST_CHARACTERS = 2**15
_MOST_BRACKETS = 100
# What aliases may repeat; nine lists of nine aliases each would hold a billion values.
_MOST_NODES = 2**15


def parse_yaml(text: str, source: str) -> Any:
    """What a YAML holds, of plain types.

    Args:
        text: YAML.
        source: what errors call it.

    Raises:
        ValueError: it is none, repeats a key, holds itself, or is larger than any configuration.
    """
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"{source}: expected YAML of at most {_MOST_CHARACTERS} characters")
    if _deepest(text) > _MOST_BRACKETS:  # which PyYAML takes seconds to look through
        raise ValueError(f"{source} is not YAML: nested too deeply")
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, source, {})
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ValueError(f"{source} is not YAML{line}: {error.problem or error.context}") from None
    except RecursionError:
        raise ValueError(f"{source} is not YAML: nested too deeply") from None
    except _Refused as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # `!!int ''`, `2001-99-99` and the like raise what comes
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{source} is not YAML: {reason}") from None


def _deepest(text: str) -> int:
    """How many brackets are open at a time, those in quotes included."""
    depth = deepest = 0
    for char in text:
        depth += (char in "[{") - (char in "]}")
        deepest = max(deepest, depth)
    return deepest


class _Refused(Exception):
    """YAML, but not what a configuration may hold."""


def _check(node: yaml.Node, source: str, known: dict[int, int]) -> int:
    """How many nodes there are, those that aliases repeat counted as often; see `parse_yaml`."""
    here = f"{source}, line {node.start_mark.line + 1}"
    if id(node) in known:
        if not known[id(node)]:
            raise _Refused(f"{here}: a value holds itself")
        return known[id(node)]
    known[id(node)] = 0  # not counted yet
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in names:  # the last one would win
                raise _Refused(f"{here}: {shown(key.value)[1:-1]} is there twice")
            names.add(str(key.value))
        parts = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        parts = node.value
    count = 1 + sum(_check(part, source, known) for part in parts)
    if count > _MOST_NODES:
        raise _Refused(f"{here}: expected at most {_MOST_NODES} values, those of aliases included")
    known[id(node)] = count
    return count
