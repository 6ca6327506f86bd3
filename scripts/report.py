"""Write the report page of a comparison again, finished or not: one HTML file for other people.

python scripts/report.py runs/demo --out demo.html

It is made of results.json and explorer.json alone (docs/report.md): neither graph nor students
need be on this machine.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from agents.command_line import run
from graphs.text_files import read_json


def main() -> None:
    """Render and say where the page is."""
    # Here and not above, because Ctrl-C during these seconds must end like any other, in `run`.
    from agents.report import render_report
    from agents.report.explorer import FILE, parse_explorer
    from graphs.files import atomic_write

    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("results", type=Path, help="folder of a comparison, or its results.json")
    command.add_argument("--out", type=Path, help="default: report.html beside results.json")
    arguments = command.parse_args()
    path = arguments.results / "results.json" if arguments.results.is_dir() else arguments.results
    looked_at = path.parent / FILE
    # Comparisons from before there was an explorer have none.
    explorer = read_json(looked_at, parse_explorer) if looked_at.exists() else None
    page = read_json(path, partial(render_report, explorer=explorer))
    out = arguments.out or path.parent / "report.html"
    atomic_write(out, page.encode())
    print(out)


if __name__ == "__main__":
    run(main)
