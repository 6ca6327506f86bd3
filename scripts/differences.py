"""Print a comparison as a table of paired differences, in Markdown: agents beside controls.

python scripts/differences.py runs/planted-medium --controls all,random,fixed

Of several runs, on as many graphs, differences are paired by graph, each the mean over its seeds:
intervals then say what to expect of another graph of the kind, and not of other initial weights.

python scripts/differences.py runs/planted-hard-* --controls all,random

What has to be the same within a comparison, as how teachers were trained, can differ between two:

python scripts/differences.py runs/alone --beside runs/amid --controls none,all
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from agents.command_line import parse_names, results_files, run
from graphs.text_files import read_json


def main() -> None:
    """Read, check and render."""
    # Here and not above, because Ctrl-C during these seconds must end like any other, in `run`.
    from agents.report.differences import render_differences

    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument(
        "runs", type=Path, nargs="+", help="folder of a comparison, or its results.json"
    )
    command.add_argument(
        "--controls", type=parse_names, help="whom to subtract (default: the controls that ran)"
    )
    command.add_argument(
        "--beside", type=Path, nargs="+", default=[], help="other comparisons on RUN's graph"
    )
    arguments = command.parse_args()

    # Controls may be agents of the others, which a comparison alone does not know.
    alone = None if arguments.beside else arguments.controls

    def checked(document: Any) -> Any:
        """Each alone, so that a bad one is named."""
        render_differences([document], alone)
        return document

    documents = [read_json(path, checked) for path in results_files(arguments.runs)]
    others = results_files(arguments.beside)
    beside = {path.parent.name: read_json(path, checked) for path in others}
    if len(beside) < len(others):
        raise ValueError("--beside: two comparisons are in folders of the same name")
    sys.stdout.write(render_differences(documents, arguments.controls, beside))


if __name__ == "__main__":
    run(main)
