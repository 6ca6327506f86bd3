"""Compare agents on one graph at the same student budget; see --help.

python scripts/compare.py --dataset emoji --agents none,all,random,ppo --seeds 3 --out runs/x
"""

from __future__ import annotations

import argparse
from pathlib import Path

from agents.command_line import (
    add_environment_arguments,
    add_variants_argument,
    parse_names,
    parse_seeds,
    resumable,
    run,
    trial_arguments,
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    from agents.registry import AGENTS

    zoo = "\n".join(f"  {name:16} {spec.summary}" for name, spec in AGENTS.items())
    command = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"agents:\n{zoo}\n  single:T         the teacher T alone\n"
        "  trained:PATH     what an agent in the folder PATH has learned, or one that ships\n"
        "  a-then-b         a for half of the budget, then b; of agents that do not learn\n"
        "  A@NAME           the variant NAME of the agent A in --variants",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--agents", type=parse_names, required=True, help="names between commas")
    command.add_argument("--seeds", type=parse_seeds, default=(0, 1, 2), help="count or list")
    command.add_argument("--out", type=Path, required=True, help="folder; the same one resumes")
    command.add_argument("--jobs", type=int, help="processes (default: one per core)")
    command.add_argument("--quiet", action="store_true", help="no progress bars")
    add_environment_arguments(command)
    add_variants_argument(command)
    return command


def main() -> int:
    """Run, print the table, say where the report is."""
    # Here and not above, because Ctrl-C during these seconds must end like any other, in `run`.
    from agents.comparison import ComparisonConfig, compare
    from agents.trial_config import TrialConfig
    from agents.variants import read_variants
    from agents.verdicts import terminal_table

    arguments = parser().parse_args()
    if arguments.jobs is not None and arguments.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {arguments.jobs}")
    trial = TrialConfig("all", **trial_arguments(arguments))
    path = arguments.variants
    variants = read_variants(path) if path else {}
    config = ComparisonConfig(arguments.agents, arguments.seeds, trial, variants, str(path))
    with resumable(arguments.out / "results.json"):
        results = compare(config, arguments.out, arguments.jobs, arguments.quiet)
    print(terminal_table(results))
    print(f"\nreport:      {arguments.out / 'report.html'}")
    print(f"tensorboard: tensorboard --logdir {arguments.out / 'trials'}")
    return 1 if results["failures"] else 0


if __name__ == "__main__":
    run(main)
