"""Search an agent's hyperparameters on valid; the test split is not read. See docs/tuning.md.

python scripts/tune.py --agent ppo --dataset emoji --trials 40 --epochs 8 --seeds 2 --out runs/tune
"""

from __future__ import annotations

import argparse
from pathlib import Path

from agents.command_line import (
    add_backend_argument,
    add_environment_arguments,
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
    command.add_argument("--agent", required=True, help="name in the zoo, see compare.py --help")
    command.add_argument("--trials", type=int, default=40, help="to be finished (default: 40)")
    command.add_argument("--seeds", type=parse_seeds, default=(0, 1), help="count or list")
    command.add_argument("--out", type=Path, required=True, help="folder; the same one resumes")
    command.add_argument("--jobs", type=int, default=1, help="trials at a time (default: 1)")
    command.add_argument("--space", type=Path, help="YAML; by default the agent's own")
    command.add_argument(
        "--prune",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="give up what lags behind the median",
    )
    command.add_argument("--seed", type=int, default=0, help="of the sampler")
    command.add_argument(
        "--write",
        nargs="?",
        const="dataset",
        choices=("dataset", "default"),
        help="put the winner into the agent's YAML, for this dataset or as its default",
    )
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    add_backend_argument(command)
    add_environment_arguments(command)
    return command


def main() -> None:
    """Search, print the ranking, say where the study is."""
    arguments = parser().parse_args()
    # Here and not above, because Ctrl-C during these seconds must end like any other, in `run`.
    try:
        import optuna as _optuna  # noqa: F401 - before torch, which takes seconds
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise ValueError("tuning needs Optuna: pip install 'dsom-env[tune]'") from None
    from agents.trial_config import TrialConfig
    from agents.tuning.config import TuningConfig
    from agents.tuning.study import tune
    from agents.tuning.winner import ranking, settings_of, writable_file, write_winner

    trial = TrialConfig(arguments.agent, **trial_arguments(arguments))
    config = TuningConfig.make(
        trial, arguments.seeds, arguments.space, arguments.prune, arguments.seed
    )
    if arguments.write:
        writable_file(config)
    with resumable(arguments.out / "study.json"):
        document = tune(
            config,
            arguments.out,
            arguments.trials,
            arguments.jobs,
            arguments.quiet,
            arguments.backend,
        )
    print(ranking(document))
    print(f"\nstudy:   {arguments.out / 'study.json'}")
    if document["best"] and set(document["best"]["parameters"]) == {"environment"}:
        print(f"options: {settings_of(document['best']['parameters'])}")
    if arguments.write:
        entry = document["graph"]["name"] if arguments.write == "dataset" else "default"
        print(f"written: {write_winner(config, document, entry)}, entry {entry}")


if __name__ == "__main__":
    run(main)
