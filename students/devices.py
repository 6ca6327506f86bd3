"""Where tensors live."""

from __future__ import annotations

import torch


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
