"""Print a comparison as a table of paired differences, in Markdown: agents beside controls.

python scripts/differences.py runs/planted-medium --controls all,random,fixed
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from agents.command_line import parse_names, read_json, results_files, run


def main() -> None:
    """Read, check and render."""
    # Here and not above, because Ctrl-C during these seconds must end like any other, in `run`.
    from agents.report.differences import render_differences

    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("run", type=Path, help="folder of a comparison, or its results.json")
    command.add_argument(
        "--controls", type=parse_names, help="whom to subtract (default: the controls that ran)"
    )
    arguments = command.parse_args()
    (path,) = results_files([arguments.run])
    sys.stdout.write(read_json(path, partial(render_differences, controls=arguments.controls)))


if __name__ == "__main__":
    run(main)
