"""Errors about names that do not exist, with the nearest one that does."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
        return ValueError(f"{argument}: unknown {name!r}; there are no valid names here")
    return ValueError(
        f"{argument}: unknown {name!r}; did you mean {nearest(str(name), names)!r}? "
        f"Valid: {', '.join(names)}"
    )
