"""Where tensors live."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from graphs.threads import one_thread

# Elements that are passed over at a time on a GPU, where every pass costs the time of its launch.
_ELSEWHERE = 2**26


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU.

    Raises:
        ValueError: torch knows no such device, or this machine has none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        # A build without CUDA says so with an AssertionError.
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device: {name!r} cannot be used ({reason}); try 'auto' or 'cpu'"
        ) from None
    return device


def same_bits(device: torch.device) -> AbstractContextManager[None]:
    """For what is kept for others: on a CPU one thread, whoever computes it and on however many.

    On a GPU, whose roundings differ anyhow, threads stay as they are.
    """
    return one_thread() if device.type == "cpu" else nullcontext()


def elements_at_once(device: torch.device, cached: int) -> int:
    """How many elements of a large array are worked on at a time: on a CPU `cached`, which fit."""
    return cached if device.type == "cpu" else _ELSEWHERE
