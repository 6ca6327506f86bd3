"""Signs of life of a comparison, for whoever watches it from another process: plain files.

`running.json` is there while a comparison runs, and is touched every few seconds; a file that has
grown old belongs to one that was killed. Every trial in progress has a `progress.json`.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from graphs.files import atomic_write

FILE = "running.json"
PROGRESS = "progress.json"
# Seconds between signs of life, and after which without any a comparison is taken for dead.
EVERY = 2.0
DEAD_AFTER = 30.0


@contextmanager
def shown_as_running(out: Path, plan: Mapping[str, Any]) -> Iterator[None]:
    """Keep `running.json` fresh while the block runs, and remove it afterwards.

    Args:
        out: folder of the comparison.
        plan: what is to be done, JSON types.
    """
    path = out / FILE
    atomic_write(path, json.dumps({**plan, "started": time.time()}).encode())
    over = threading.Event()

    def touch() -> None:
        # Ctrl-C is for the thread that can hold it back (`agents.workers`).
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        while not over.wait(EVERY):
            # Somebody may have removed the folder.
            if path.exists():
                os.utime(path)

    thread = threading.Thread(target=touch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        path.unlink(missing_ok=True)


def write_progress(folder: Path, started: float, epoch: int, mrr: float | None) -> None:
    """Say how far a trial is.

    Args:
        folder: of the trial.
        started: when, in seconds since 1970.
        epoch: that has ended; 0 before the first.
        mrr: on valid, after it.
    """
    document = {"started": started, "epoch": epoch, "valid_mrr": mrr}
    atomic_write(folder / PROGRESS, json.dumps(document).encode())


def end_progress(folder: Path) -> None:
    """A trial that has ended is not in progress."""
    (folder / PROGRESS).unlink(missing_ok=True)
