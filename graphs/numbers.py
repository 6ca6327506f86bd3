"""Which values count as numbers where a person writes them."""

from __future__ import annotations

import math
from numbers import Real


def is_number(value: object) -> bool:
    """Whether it is a finite number; NumPy's count too, truth values and text do not."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
