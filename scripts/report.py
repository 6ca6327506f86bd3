"""Write the report page of a comparison again, from its results.json.

python scripts/report.py runs/demo --out demo.html
"""

from __future__ import annotations

import argparse
from pathlib import Path

from agents.command_line import run
from agents.report import render_report
from graphs.files import atomic_write
from graphs.text_files import read_json


def main() -> None:
    """Render and say where the page is."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("results", type=Path, help="folder of a comparison, or its results.json")
    command.add_argument("--out", type=Path, help="default: report.html beside results.json")
    arguments = command.parse_args()
    path = arguments.results / "results.json" if arguments.results.is_dir() else arguments.results
    page = read_json(path, render_report)
    out = arguments.out or path.parent / "report.html"
    atomic_write(out, page.encode())
    print(out)


if __name__ == "__main__":
    run(main)
