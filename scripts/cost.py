"""Print what finished comparisons took per trial, and what a larger grid would take.

python scripts/cost.py runs/emoji runs/MKG-Y --agents 10 --seeds 10 --graphs 5 --cores 2,64
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from agents.command_line import add_runs_argument, results_files, run
from graphs.text_files import read_json


def main() -> None:
    """Read, check and render."""
    # Here and not above, because Ctrl-C during these seconds must end like any other, in `run`.
    from agents.report.cost import Grid, parse_cost, render_cost
    from graphs.files import atomic_write

    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_runs_argument(command)
    command.add_argument("--agents", type=int, default=10, help="of the grid (default: 10)")
    command.add_argument("--seeds", type=int, default=10, help="of the grid (default: 10)")
    command.add_argument("--graphs", type=int, default=5, help="of the grid (default: 5)")
    command.add_argument("--epochs", type=int, help="of a student (default: those measured)")
    command.add_argument(
        "--cores",
        type=_counts,
        default=(1, 2, 16, 64, 256),
        help="between commas (default: 1,2,16,64,256)",
    )
    command.add_argument("--out", type=Path, help="Markdown file to write as well")
    arguments = command.parse_args()
    grid = Grid(
        arguments.agents, arguments.seeds, arguments.graphs, arguments.cores, arguments.epochs
    )
    costs = [read_json(path, parse_cost) for path in results_files(arguments.runs)]
    page = render_cost(costs, grid)
    if arguments.out is not None:
        atomic_write(arguments.out, page.encode())
    sys.stdout.write(page)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    run(main)
