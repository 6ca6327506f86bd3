"""Which kind of matrix product is the quickest on this processor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .measuring import Settings, interleaved, ratio, seconds

SHAPE = (1000, 400, 15000)


def measure(settings: Settings) -> dict[str, Any]:
    """`[1000, 400] × [400, 15000]` in single precision and in bfloat16, with its conversions."""
    rows, width, columns = SHAPE
    generator = torch.Generator().manual_seed(settings.seed)
    left = torch.randn(rows, width, generator=generator)
    right = torch.randn(columns, width, generator=generator)
    single = torch.empty(rows, columns)
    half_left, half_right = left.bfloat16(), right.bfloat16()
    half = torch.empty(rows, columns, dtype=torch.bfloat16)
    contenders: dict[str, Callable[[], float]] = {
        "float32": lambda: seconds(lambda: torch.mm(left, right.T, out=single)),
        "bfloat16": lambda: seconds(lambda: torch.mm(half_left, half_right.T, out=half)),
    }
    for warm_up in contenders.values():
        warm_up()
    times = interleaved(contenders, max(settings.repetitions, 5), "products")
    operations = 2 * rows * width * columns
    return {
        "shape": list(SHAPE),
        "seconds": times,
        "gflops": {name: operations / min(values) / 1e9 for name, values in times.items()},
        "bfloat16 / float32": ratio(times["bfloat16"], times["float32"]),
    }
