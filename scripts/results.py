"""Print docs/results.md from the results of comparisons, published figures beside ours.

python scripts/results.py runs/db15k runs/mkg-w --out docs/results.md
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from agents.command_line import add_runs_argument, results_files, run
from graphs.text_files import read_json

PUBLISHED = Path(__file__).parents[1] / "docs" / "published.json"


def main() -> None:
    """Read, check and render."""
    # Here and not above, because Ctrl-C during these seconds must end like any other, in `run`.
    from agents.report.markdown import render_results
    from agents.report.outcome import parse_results
    from agents.report.published import parse_published
    from graphs.files import atomic_write

    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_runs_argument(command)
    command.add_argument("--out", type=Path, help="file to write (default: the terminal)")
    command.add_argument("--published", type=Path, default=PUBLISHED, help="published figures")
    arguments = command.parse_args()
    published = read_json(arguments.published, parse_published)
    outcomes = [read_json(path, parse_results) for path in results_files(arguments.runs)]
    page = render_results(outcomes, published)
    if arguments.out is None:
        sys.stdout.write(page)
    else:
        atomic_write(arguments.out, page.encode())
        print(arguments.out)


if __name__ == "__main__":
    run(main)
