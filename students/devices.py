"""Where tensors live."""

from __future__ import annotations

import torch

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


def elements_at_once(device: torch.device, cached: int) -> int:
    """How many elements of a large array are worked on at a time: on a CPU `cached`, which fit."""
    return cached if device.type == "cpu" else _ELSEWHERE
