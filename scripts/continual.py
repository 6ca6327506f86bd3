"""Compare methods against forgetting on a graph that grows, task by task (docs/mspt.md).

python scripts/continual.py --dataset emoji --tasks 5 --orders 2 --seeds 3 --out runs/continual

The same command again resumes: finished trials are kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from agents.command_line import (
    add_environment_arguments,
    parse_names,
    parse_seeds,
    resumable,
    run,
    trial_arguments,
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument(
        "--methods",
        type=parse_names,
        default=("finetuning", "replay", "symmetric", "asymmetric", "joint"),
        help="names between commas (default: all); replay:12 has 12 triples per relation",
    )
    command.add_argument("--agent", default="all", help="who chooses the teachers (default: all)")
    command.add_argument("--tasks", type=int, default=5, help="how many (default: 5)")
    command.add_argument("--arrival", default="relation", help="relation or entity")
    command.add_argument("--orders", type=parse_seeds, default=(0, 1), help="count or list")
    command.add_argument("--seeds", type=parse_seeds, default=(0, 1, 2), help="count or list")
    command.add_argument("--attention-weight", type=float, default=1.0, help="default: 1")
    command.add_argument("--out", type=Path, required=True, help="folder; the same one resumes")
    command.add_argument("--jobs", type=int, help="processes (default: one per core)")
    command.add_argument("--quiet", action="store_true", help="no progress bars")
    add_environment_arguments(command)
    command.set_defaults(epochs=10)
    return command


def main() -> int:
    """Run, print the tables, say where they are."""
    # Here and not above, because Ctrl-C during these seconds must end like any other, in `run`.
    from agents.continual.config import ContinualTrial
    from agents.continual.study import Study, run_study
    from agents.continual.table import render_markdown
    from agents.trial_config import TrialConfig

    arguments = parser().parse_args()
    if arguments.jobs is not None and arguments.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {arguments.jobs}")
    trial = ContinualTrial(
        tasks=arguments.tasks,
        arrival=arguments.arrival,
        attention_weight=arguments.attention_weight,
        trial=TrialConfig(arguments.agent, **trial_arguments(arguments)),
    )
    study = Study(arguments.methods, arguments.orders, arguments.seeds, trial)
    with resumable(arguments.out / "results.json"):
        results = run_study(study, arguments.out, arguments.jobs, arguments.quiet)
    print(render_markdown(results))
    print(f"table:       {arguments.out / 'table.md'}")
    print(f"report:      {arguments.out / 'report.html'}")
    print(f"tensorboard: tensorboard --logdir {arguments.out / 'trials'}")
    return 1 if results["failures"] else 0


if __name__ == "__main__":
    run(main)
