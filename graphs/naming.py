"""Errors about names that do not exist, with the nearest one that does."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST_SHOWN = 80


def shown(value: object) -> str:
    """A value as errors show it, at most `MOST_SHOWN` characters of it and without line ends."""
    text = value if isinstance(value, str) else repr(value)
    if len(text) > MOST_SHOWN:
        text = text[: MOST_SHOWN - 3] + "..."
    return repr(text) if isinstance(value, str) else text


def nearest(name: str, valid: Iterable[str]) -> str:
    """The valid name most like `name`, upper and lower case alike.

    Raises:
        ValueError: `valid` is empty.
    """

    def likeness(other: str) -> float:
        return difflib.SequenceMatcher(None, name.lower(), other.lower()).ratio()

    return max(sorted(valid), key=likeness)


def unknown(argument: str, name: object, valid: Iterable[str]) -> ValueError:
    """The error for an unknown name: argument, value, nearest valid name and all of them.

    Args:
        argument: what the caller's parameter, option or file field is called.
        name: the value that was given.
        valid: every value that would have been accepted.
    """
    names = sorted(valid)
    if not names:
        return ValueError(f"{argument}: unknown {shown(name)}; there are no valid names here")
    # Likeness takes time in the length of the name, which a hostile file decides.
    alike = nearest(str(name)[:MOST_SHOWN], names)
    return ValueError(
        f"{argument}: unknown {shown(name)}; did you mean {alike!r}? Valid: {', '.join(names)}"
    )
