"""Print what there is to choose in several regimes: one table, a row per comparison.

python scripts/regimes.py runs/gamma-1 runs/gamma-3 runs/gamma-9 --out runs/gamma.md
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from agents.command_line import add_runs_argument, results_files, run
from graphs.text_files import read_json


def main() -> None:
    """Read, check and render."""
    # Here and not above, because Ctrl-C during these seconds must end like any other, in `run`.
    from agents.report.regimes import parse_regime, render_regimes
    from graphs.files import atomic_write

    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_runs_argument(command)
    command.add_argument("--out", type=Path, help="Markdown file to write as well")
    arguments = command.parse_args()
    regimes = [
        read_json(path, partial(parse_regime, name=path.resolve().parent.name))
        for path in results_files(arguments.runs)
    ]
    page = render_regimes(regimes)
    if arguments.out is not None:
        atomic_write(arguments.out, page.encode())
    sys.stdout.write(page)


if __name__ == "__main__":
    run(main)
