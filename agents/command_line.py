"""What the command lines of the scripts have in common."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from graphs.numbers import with_exponents

Content = TypeVar("Content")


def parse_seeds(text: str) -> tuple[int, ...]:
    """`3` is seeds 0, 1, 2; `7,8` is seeds 7 and 8; `7,` is seed 7 alone.

    Raises:
        argparse.ArgumentTypeError: not whole numbers of at least 0, or none.
    """
    try:
        if "," in text:
            seeds = tuple(int(part) for part in text.split(",") if part.strip())
        else:
            seeds = tuple(range(int(text)))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0:
        raise argparse.ArgumentTypeError(
            f"expected a count (3) or a list of seeds (100,101,102), got {text!r}"
        )
    return seeds


def parse_names(text: str) -> tuple[str, ...]:
    """Names between commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_penalties(text: str) -> dict[str, float]:
    """`0.1,text=0.005` as numbers by name; the one without a name is `default`.

    Raises:
        ValueError: a value is no number.
    """
    parts = [part.rpartition("=") for part in text.split(",")]
    return {name.strip() or "default": float(value) for name, _, value in parts}


def add_settings(command: argparse.ArgumentParser, flag: str, meaning: str) -> None:
    """An option `flag NAME=VALUE`, again and again, read as `settings`: (name, value) pairs."""
    command.add_argument(
        flag,
        dest="settings",
        type=parse_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=meaning,
    )


def parse_setting(text: str) -> tuple[str, Any]:
    """`gamma=3` as (`gamma`, 3); values are YAML, but `1e-3` is a number.

    Raises:
        argparse.ArgumentTypeError: there is no `=`, or the value is not YAML.
    """
    name, separator, text_value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    try:
        value = yaml.safe_load(text_value)
    except yaml.YAMLError:
        raise argparse.ArgumentTypeError(f"the value is not YAML: {text!r}") from None
    return name.strip(), with_exponents(value)


def add_environment_arguments(parser: argparse.ArgumentParser) -> None:
    """Graph, teachers, budget and settings, for every script that trains a student."""
    parser.add_argument(
        "--dataset",
        default="emoji",
        help="emoji, planted[-easy|-medium|-hard][:key=value,...] or path (docs/graphs.md)",
    )
    parser.add_argument("--teachers", type=parse_names, help="names between commas (default: all)")
    parser.add_argument("--epochs", type=int, default=20, help="student's budget (default: 20)")
    parser.add_argument("--batch", type=int, default=512, help="queries per update (default: 512)")
    parser.add_argument("--reward", help="replaces the reward of the learning agents' YAML")
    add_settings(
        parser,
        "--set",
        "any other argument of DSoMConfig, e.g. --set gamma=3 --set folds=5; wins over the "
        "learning agents' YAML",
    )


def add_variants_argument(parser: argparse.ArgumentParser) -> None:
    """Variants, for the scripts that train agents by name."""
    parser.add_argument(
        "--variants",
        type=Path,
        metavar="FILE",
        help="YAML of variants such as ppo@short, which then are agents as well; what one changes "
        "wins over --set, --reward and the agent's YAML (docs/plugging-in.md)",
    )


def trial_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `add_environment_arguments` parsed, as keywords of `TrialConfig`."""
    return {
        "dataset": arguments.dataset,
        "teachers": arguments.teachers,
        "epochs": arguments.epochs,
        "batch": arguments.batch,
        "environment": dict(arguments.settings),
        "reward": arguments.reward,
    }


def add_runs_argument(parser: argparse.ArgumentParser) -> None:
    """Finished comparisons, for the scripts that print several side by side."""
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="folder of a comparison, or results.json"
    )


def results_files(runs: Sequence[Path]) -> list[Path]:
    """The `results.json` of every comparison.

    Raises:
        ValueError: one is given twice.
    """
    paths = [run / "results.json" if run.is_dir() else run for run in runs]
    if len({path.resolve() for path in paths}) < len(paths):
        raise ValueError("RUN: the same comparison is given twice")
    return paths


def read_json(path: Path, parse: Callable[[Any], Content]) -> Content:
    """What `parse` makes of a JSON file.

    Raises:
        ValueError: it is no JSON, or not what `parse` expects; names the file.
        OSError: the file cannot be read.
    """
    try:
        return parse(json.loads(path.read_text("utf-8")))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


@contextmanager
def resumable(results: Path) -> Iterator[None]:
    """Say on Ctrl-C where what has finished is, if anything has."""
    try:
        yield
    except KeyboardInterrupt:
        if results.exists():
            print(f"\nfinished trials are in {results}; the same command resumes")
        raise


def run(main: Callable[[], int | None]) -> None:
    """Run a script: bad input is one sentence and exit code 2, Ctrl-C is 130."""
    try:
        code = main()
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code or 0)
