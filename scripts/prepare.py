"""Prepare the data that ships with the package or that experiments read."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from graphs.building.sources import BuildError


def _emoji(arguments: argparse.Namespace) -> int:
    # Torch takes a second to import: only who builds pays for it.
    from graphs.building.emoji import SHIPPED, build_emoji, check_emoji

    target = SHIPPED if arguments.out is None else arguments.out
    if arguments.check:
        different = check_emoji(target, arguments.openmoji)
        if different:
            print(f"{target} differs from a new build in: {', '.join(different)}", file=sys.stderr)
            return 1
        print(f"{target} equals a new build, byte by byte")
        return 0
    card = build_emoji(target, arguments.openmoji)
    triples = {split: card["triples"][split] for split in ("train", "valid", "test")}
    print(f"{target}: {card['entities']['total']} entities, triples {triples}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="prepare.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    emoji = commands.add_parser(
        "emoji",
        help="build the embedded graph `emoji`",
        description="Build the embedded graph `emoji` (needs the extra build-data, and npm).",
    )
    emoji.add_argument(
        "--openmoji", type=Path, metavar="PATH", help="unpacked npm package openmoji, not fetched"
    )
    emoji.add_argument(
        "--out", type=Path, metavar="PATH", help="folder to write or check (default: the package's)"
    )
    emoji.add_argument(
        "--check", action="store_true", help="write nothing; compare the folder with a new build"
    )
    emoji.set_defaults(run=_emoji)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit code: 2 when it cannot run here."""
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        return int(parsed.run(parsed))
    except (BuildError, OSError) as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
