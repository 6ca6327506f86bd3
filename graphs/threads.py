"""How many threads of torch work on what has to come out with the same bits everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch, so that sums are added in the same order; afterwards as many as before.

    With several, where a sum is cut depends on their number, and so does how it is rounded.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
