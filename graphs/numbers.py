"""Which values count as numbers where a person writes them, and what is said when none are left."""

from __future__ import annotations

import math
import re
from numbers import Real

# A number to everybody but YAML 1.1, which wants a dot and a sign.
_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")


class DivergedError(RuntimeError):
    """Numbers are no longer finite, at the step and for the cause that the message says.

    The update that would have used them was not made.
    """


def is_number(value: object) -> bool:
    """Whether it is a finite number; NumPy's count too, truth values and text do not."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def with_exponents(value: object) -> object:
    """A value as YAML gives it, `1e-3` as the number that its writer meant, in lists too."""
    if isinstance(value, list):
        return [with_exponents(part) for part in value]
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value
