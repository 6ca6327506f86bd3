"""What the command lines of the scripts have in common."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agents.backends import BACKENDS, LOCAL
from agents.yaml_text import parse_yaml
from graphs.naming import shown
from graphs.numbers import DivergedError, with_exponents

# What is wrong with the input, and not with the program.
REFUSALS = (ValueError, OSError, ImportError, MemoryError)
_MOST_SEEDS = 10_000
# Characters of an error: a name in it may be as long as a file.
_MOST_SAID = 1500


def parse_seeds(text: str) -> tuple[int, ...]:
    """`3` is seeds 0, 1, 2; `7,8` is seeds 7 and 8; `7,` is seed 7 alone.

    Raises:
        argparse.ArgumentTypeError: not whole numbers of at least 0, or none.
    """
    try:
        if "," in text:
            seeds = tuple(int(part) for part in text.split(",") if part.strip())
        else:
            seeds = tuple(range(min(int(text), _MOST_SEEDS + 1)))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0:
        raise argparse.ArgumentTypeError(
            f"expected a count (3) or a list of seeds (100,101,102), got {shown(text)}"
        )
    if len(seeds) > _MOST_SEEDS:
        raise argparse.ArgumentTypeError(f"expected at most {_MOST_SEEDS} seeds, got {shown(text)}")
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
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {shown(text)}")
    try:
        value = parse_yaml(text_value, name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
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


def add_backend_argument(parser: argparse.ArgumentParser) -> None:
    """Where trials run, for the scripts that run many."""
    parser.add_argument(
        "--backend",
        choices=tuple(BACKENDS),
        default=LOCAL,
        help="where trials run: processes of this machine, the Ray cluster at $RAY_ADDRESS or one "
        "of this machine, or SLURM's jobs (default: local; docs/scale.md)",
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
    """Run a script: bad input is one sentence and exit code 2, divergence 1, Ctrl-C 130."""
    try:
        code = main()
    except REFUSALS as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        code = 2
    except DivergedError as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code or 0)


def sentence(error: BaseException) -> str:
    """What an error says, on one line, without what would move a terminal's cursor."""
    words = " ".join(str(error).split()) or type(error).__name__
    if len(words) > _MOST_SAID:
        words = words[:_MOST_SAID] + "..."
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in words)
