r"""Put AMID's claim to the test: co-train without and with its terms.

python scripts/amid.py --dataset emoji --epochs 40 --seeds 3 --out runs/amid-emoji
python scripts/amid.py --dataset graphs/MKG-W --rank 64 --batch 1000 --epochs 8 \
  --regularisation 0.1,text=0.005 --seeds 3 --out runs/amid-MKG-W

The whole budget is spent, and valid selects the states whose test MRR is printed. The same command
again resumes, and with --only-print prints what there is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from agents.command_line import (
    add_settings,
    parse_penalties,
    parse_seeds,
    resumable,
    run,
)
from graphs.text_files import read_json


def main() -> None:
    """Co-train, or read what has been, and print the table."""
    # Here and not above, because Ctrl-C during these seconds must end like any other, in `run`.
    from agents.claim import ClaimConfig, try_claim
    from agents.claim_table import render_claim
    from dsom_env.config import DSoMConfig
    from dsom_env.objectives import AMID

    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--dataset", default="emoji")
    command.add_argument("--seeds", type=parse_seeds, default=(0, 1, 2), help="(default: 3)")
    command.add_argument("--epochs", type=int, default=40, help="budget (default: 40)")
    command.add_argument("--rank", type=int, default=DSoMConfig.teacher_rank, help="teacher's")
    command.add_argument("--batch", type=int, default=DSoMConfig.teacher_batch)
    command.add_argument(
        "--regularisation",
        type=parse_penalties,
        default=DSoMConfig.teacher_regularisation,
        help="λ of N3, as in 0.1 or in 0.1,text=0.005",
    )
    add_settings(
        command,
        "--setting",
        "strength of a term where it is on, or a size: see teachers.amid.CotrainingConfig, "
        "e.g. --setting entropy=2 --setting student_rank=16",
    )
    command.add_argument("--out", type=Path, required=True, help="folder of the results")
    command.add_argument("--only-print", action="store_true", help="the table of a finished --out")
    arguments = command.parse_args()
    if arguments.only_print:
        print(read_json(arguments.out / "results.json", render_claim))
        return
    environment: dict[str, Any] = {
        "teacher_rank": arguments.rank,
        "teacher_batch": arguments.batch,
        "teacher_epochs": arguments.epochs,
        "teacher_regularisation": arguments.regularisation,
        "teacher_objective": {**dict(arguments.settings), "name": AMID},
    }
    pretraining = DSoMConfig.from_kwargs(**environment).pretraining
    assert pretraining.cotraining is not None  # noqa: S101 - the objective was named
    config = ClaimConfig(
        arguments.dataset, arguments.seeds, pretraining, strengths=pretraining.cotraining
    )
    with resumable(arguments.out):
        results = try_claim(config, arguments.out, _say)
    print(render_claim(results))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run(main)
