"""What a result has to say of the machine it was made on."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path


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
