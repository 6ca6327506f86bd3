"""Print docs/results.md from the results of comparisons, published figures beside ours.

python scripts/results.py runs/db15k runs/mkg-w --out docs/results.md
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from agents.command_line import run

PUBLISHED = Path(__file__).parents[1] / "docs" / "published.json"


Content = TypeVar("Content")


def read(path: Path, parse: Callable[[Any], Content]) -> Content:
    """What `parse` makes of a JSON file.

    Raises:
        ValueError: it is no JSON, or not what `parse` expects; names the file.
    """
    try:
        return parse(json.loads(path.read_text("utf-8")))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


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
    command.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="folder of a comparison, or results.json"
    )
    command.add_argument("--out", type=Path, help="file to write (default: the terminal)")
    command.add_argument("--published", type=Path, default=PUBLISHED, help="published figures")
    arguments = command.parse_args()
    published = read(arguments.published, parse_published)
    paths = [folder / "results.json" if folder.is_dir() else folder for folder in arguments.runs]
    if len({path.resolve() for path in paths}) < len(paths):
        raise ValueError("RUN: the same comparison is given twice")
    page = render_results([read(path, parse_results) for path in paths], published)
    if arguments.out is None:
        sys.stdout.write(page)
    else:
        atomic_write(arguments.out, page.encode())
        print(arguments.out)


if __name__ == "__main__":
    run(main)
