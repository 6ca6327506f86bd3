"""Watch a comparison that runs in another terminal, until it ends.

python scripts/watch.py runs/x

Plain text: into a pipe or a file it writes whenever a trial has got further, and in a terminal the
latest state replaces the one before. Exit code 0 for a complete comparison, 1 for one with failed
or missing trials, 2 for bad input.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from agents.command_line import run
from agents.watching import ending, look, progress_text, watch


def main() -> int:
    """Look, say, wait."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("run", type=Path, metavar="RUN", help="folder of a comparison")
    command.add_argument("--every", type=float, default=2.0, help="seconds (default: 2)")
    command.add_argument("--once", action="store_true", help="say how far it is, and end")
    arguments = command.parse_args()
    if not arguments.every > 0:
        raise ValueError(f"--every must be above 0, got {arguments.every:g}")
    terminal = sys.stdout.isatty()

    def say(text: str) -> None:
        # To the top, and what was there away.
        print(f"\x1b[H\x1b[2J{text}" if terminal else f"{text}\n", flush=True)

    try:
        if arguments.once:
            snapshot = look(arguments.run, time.time())
            print(f"{progress_text(snapshot)}\n\n{ending(snapshot)}".rstrip(), flush=True)
            return 0
        snapshot = watch(
            arguments.run, say, lambda: time.sleep(arguments.every), time.time, terminal
        )
    except BrokenPipeError:
        # Whoever read has gone; nothing may be flushed into the pipe at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0 if snapshot.state == "complete" else 1


if __name__ == "__main__":
    run(main)
