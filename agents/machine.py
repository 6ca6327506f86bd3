"""What a result has to say of the machine it was made on."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("dsom-env", "torch", "numpy", "gymnasium", "stable-baselines3")


def cores() -> int:
    """Processors that this process may use."""
    # Not every system can pin a process to some of them.
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def accelerator() -> str | None:
    """The CUDA device's own name; None without one."""
    # Here and not above: who only asks for the processor need not wait for torch.
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def provenance(*packages: str) -> dict[str, Any]:
    """Command, machine, cores and versions, as JSON types.

    Args:
        *packages: whose versions matter beside those of the packages that everything here needs.
    """
    versions = {}
    for name in (*_PACKAGES, *packages):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    machine = " with ".join(filter(None, (processor(), accelerator())))
    return {
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine,
        "cores": cores(),
        "python": platform.python_version(),
        "versions": versions,
    }
