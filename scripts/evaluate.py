"""Evaluate the student in a folder of `train.py` or `compare.py`, or a trained agent on fresh ones.

python scripts/evaluate.py runs/ppo --split test
python scripts/evaluate.py --agent runs/ppo --seeds 100,101,102 --beside all,random
python scripts/evaluate.py --agent emoji-ppo --epochs 12 --out runs/again
"""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import nullcontext
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
    from graphs import SPLITS

    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("folder", type=Path, nargs="?", help="folder of a trained student")
    command.add_argument("--split", choices=SPLITS, help="that it is asked about (default: test)")
    command.add_argument("--by-relation", action="store_true", help="each relation apart, too")
    agent = command.add_argument_group(
        "a trained agent, which chooses and learns no more, teaches students from the beginning"
    )
    agent.add_argument("--agent", metavar="PATH", help="folder of train.py, or one that ships")
    agent.add_argument(
        "--seeds", type=parse_seeds, default=(100, 101, 102), help="of students: count or list"
    )
    agent.add_argument(
        "--beside",
        type=parse_names,
        default=("all", "random"),
        help="agents that it is compared with (default: all,random)",
    )
    agent.add_argument("--out", type=Path, help="folder; the same one resumes (default: none)")
    agent.add_argument(
        "--record",
        type=Path,
        help="JSON file of what came out, as those that ship have beside them",
    )
    agent.add_argument("--jobs", type=int, help="processes (default: one per core)")
    agent.add_argument("--quiet", action="store_true", help="no progress bars")
    add_environment_arguments(agent)
    return command


def main() -> int:
    """Print the metrics as JSON, or the table of an agent beside others."""
    # Here and not above, because Ctrl-C during these seconds must end like any other, in `run`.
    command = parser()
    arguments = command.parse_args()
    if (arguments.folder is None) == (arguments.agent is None):
        raise ValueError("expected the folder of a student, or --agent with that of an agent")
    if arguments.agent is not None:
        if arguments.split is not None or arguments.by_relation:
            raise ValueError("--split and --by-relation are about a student, --agent about others")
        return evaluate_agent(arguments)
    for name in (
        "seeds",
        "beside",
        "out",
        "record",
        "jobs",
        "dataset",
        "teachers",
        "epochs",
        "batch",
    ):
        if getattr(arguments, name) != command.get_default(name):
            raise ValueError(f"--{name} is about --agent; a student is what it is")
    if arguments.reward or arguments.settings or arguments.quiet:
        raise ValueError("--reward, --set and --quiet are about --agent; a student is what it is")
    return evaluate_student(arguments)


def evaluate_student(arguments: argparse.Namespace) -> int:
    """What is in a folder, as JSON."""
    from agents.trial import load_trained_student
    from students.evaluation import evaluate_by_relation, evaluate_ranking

    split = arguments.split or "test"
    student, graph = load_trained_student(arguments.folder)
    metrics: dict[str, object] = dict(evaluate_ranking(student, graph, split))
    if arguments.by_relation:
        metrics["relations"] = evaluate_by_relation(student, graph, split)
    print(json.dumps(metrics, indent=1, ensure_ascii=False))
    return 0


def evaluate_agent(arguments: argparse.Namespace) -> int:
    """Compare `trained:PATH` with others, on the same seeds."""
    from agents.comparison import ComparisonConfig, compare
    from agents.names import TRAINED
    from agents.trained import write_record
    from agents.trial_config import TrialConfig
    from agents.verdicts import terminal_table

    if arguments.jobs is not None and arguments.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {arguments.jobs}")
    trial = TrialConfig("all", **trial_arguments(arguments))
    agents = (*arguments.beside, f"{TRAINED}{arguments.agent}")
    config = ComparisonConfig(agents, arguments.seeds, trial)
    kept = arguments.out is not None
    with nullcontext(arguments.out) if kept else tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        with resumable(out / "results.json") if kept else nullcontext():
            results = compare(config, out, arguments.jobs, arguments.quiet)
    print(terminal_table(results))
    if arguments.record is not None and not results["failures"]:
        write_record(arguments.record, results, agents[-1])
    if kept:
        print(f"\nreport:      {out / 'report.html'}")
    return 1 if results["failures"] else 0


if __name__ == "__main__":
    run(main)
