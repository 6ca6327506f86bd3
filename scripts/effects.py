"""Print what each teacher is worth to each relation, from students that were taught by chance.

python scripts/compare.py --agents all,random:relation --seeds 80 --out runs/chance
python scripts/effects.py runs/chance --out runs/effects.md
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from agents.command_line import results_files, run
from graphs.text_files import read_json


def main() -> None:
    """Read, check and render."""
    # Here and not above, because Ctrl-C during these seconds must end like any other, in `run`.
    from agents.effects import Experiment, render_effects
    from graphs.files import atomic_write

    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument(
        "run",
        type=Path,
        metavar="RUN",
        help="folder of a comparison with random:relation, or results.json",
    )
    command.add_argument(
        "--relations", type=int, default=20, help="in the table, the largest first (default: 20)"
    )
    command.add_argument("--out", type=Path, help="Markdown file to write as well")
    arguments = command.parse_args()
    if arguments.relations < 1:
        raise ValueError(f"--relations must be at least 1, got {arguments.relations}")
    (path,) = results_files([arguments.run])
    page = render_effects(read_json(path, Experiment.of), arguments.relations)
    if arguments.out is not None:
        atomic_write(arguments.out, page.encode())
    sys.stdout.write(page)


if __name__ == "__main__":
    run(main)
