"""Train agents on every graph, use each on every other, and print the table; see --help.

python scripts/transfer.py --graphs planted-easy,planted-hard --variants docs/ablations.yml \
  --agents ppo,ppo@transfers --seeds 100,101,102 --out runs/transfer
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from agents.command_line import (
    add_environment_arguments,
    add_variants_argument,
    parse_names,
    parse_seeds,
    run,
    trial_arguments,
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument(
        "--graphs",
        required=True,
        help="names or paths between semicolons or, where none has an option, commas",
    )
    command.add_argument("--agents", type=parse_names, required=True, help="learners or variants")
    command.add_argument(
        "--seeds", type=parse_seeds, default=(100, 101, 102), help="of students: count or list"
    )
    command.add_argument("--training-seed", type=int, default=0, help="of agents (default: 0)")
    command.add_argument("--out", type=Path, required=True, help="folder; the same one resumes")
    command.add_argument("--jobs", type=int, help="processes (default: one per core)")
    command.add_argument("--quiet", action="store_true", help="no progress bars")
    add_environment_arguments(command)
    add_variants_argument(command)
    return command


def main() -> None:
    """Run, and print the table as Markdown."""
    # Here and not above, because Ctrl-C during these seconds must end like any other, in `run`.
    from agents.transfer import TransferConfig, render_transfer, transfer
    from agents.trial_config import TrialConfig
    from agents.variants import read_variants

    command = parser()
    arguments = command.parse_args()
    if arguments.jobs is not None and arguments.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {arguments.jobs}")
    if arguments.dataset != command.get_default("dataset"):
        raise ValueError("--dataset is one graph; --graphs are those that count here")
    separator = ";" if ";" in arguments.graphs or ":" in arguments.graphs else ","
    graphs = tuple(name.strip() for name in arguments.graphs.split(separator) if name.strip())
    path = arguments.variants
    config = TransferConfig(
        graphs,
        arguments.agents,
        arguments.seeds,
        arguments.training_seed,
        replace(TrialConfig("all"), **trial_arguments(arguments)),
        read_variants(path) if path else {},
        str(path),
    )
    print(render_transfer(config, transfer(config, arguments.out, arguments.jobs, arguments.quiet)))


if __name__ == "__main__":
    run(main)
