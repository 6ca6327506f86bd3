"""Evaluate the student that `train.py` or `compare.py` left in a folder.

python scripts/evaluate.py runs/ppo --split test
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from agents.command_line import run


def main() -> None:
    """Print the metrics as JSON."""
    # Here and not above, because Ctrl-C during these seconds must end like any other, in `run`.
    from agents.trial import load_trained_student
    from graphs import SPLITS
    from students.evaluation import evaluate_by_relation, evaluate_ranking

    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("folder", type=Path, help="folder of a trained agent")
    command.add_argument("--split", choices=SPLITS, default="test")
    command.add_argument("--by-relation", action="store_true", help="each relation apart, too")
    arguments = command.parse_args()
    student, graph = load_trained_student(arguments.folder)
    metrics: dict[str, object] = dict(evaluate_ranking(student, graph, arguments.split))
    if arguments.by_relation:
        metrics["relations"] = evaluate_by_relation(student, graph, arguments.split)
    print(json.dumps(metrics, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    run(main)
