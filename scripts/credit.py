"""Check how well first-order credit predicts what a lesson does to held-out triples.

python scripts/credit.py --dataset planted-medium --epochs 8 --set reward_fraction=0.1
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from agents.command_line import add_environment_arguments, run, trial_arguments


def main() -> None:
    """Teach a student with random masks, and price lessons after every so many epochs."""
    # Here and not above, because Ctrl-C during these seconds must end like any other, in `run`.
    import gymnasium as gym
    import numpy as np

    import dsom_env as _registration  # noqa: F401 - registers DSoM-v0
    from agents.credit import measure_credit
    from agents.machine import provenance
    from agents.trial_config import TrialConfig, resolve
    from graphs.files import atomic_write

    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_environment_arguments(command)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--queries", type=int, default=64, help="priced each time, by teacher")
    command.add_argument("--every", type=int, default=1, help="epochs between two looks")
    command.add_argument("--out", type=Path, help="JSON file to write")
    arguments = command.parse_args()
    trial = trial_arguments(arguments)
    for name in ("queries", "every", "epochs"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(arguments, name)}")
    if arguments.queries > arguments.batch:
        raise ValueError(f"--queries must be at most the batch, got {arguments.queries}")
    usual = {"reward": "gate", "reward_fraction": 0.05, "judged_folds": None}
    settings = {**usual, **trial["environment"]}
    _, teachers = resolve(TrialConfig("random", **trial))
    env: Any = gym.make_vec(
        "DSoM-v0",
        num_envs=arguments.batch,
        dataset=arguments.dataset,
        teachers=teachers,
        **settings,
    )
    env.reset(seed=arguments.seed)
    classroom, lessons = env.unwrapped.classroom, env.unwrapped.lessons
    if not len(classroom.withheld_rows):
        raise ValueError("credit needs a reward split: set reward_fraction above 0")
    rng = np.random.default_rng(arguments.seed)
    everyone = np.ones(arguments.batch, dtype=np.bool_)
    looks = []
    print(f"{'':8}{'':8}{'plain slope of the held-out loss':^36}{'along Adagrads step':^36}")
    kinds = f"{'Spearman':>9}{'Pearson':>9}{'sign':>9}{'slope':>9}"
    print(f"{'epoch':>8}{'helped':>8}{kinds}{kinds}")
    for epoch in range(1, arguments.epochs + 1):
        for _ in range(max(len(classroom.taught_rows) // arguments.batch, 1)):
            masks = rng.integers(0, 2, (arguments.batch, len(classroom.teachers)))
            lessons.step(masks.astype(np.float32), everyone, ~everyone)
        if epoch % arguments.every and epoch != arguments.epochs:
            continue
        found = measure_credit(classroom, lessons.lesson.rows, arguments.queries).summary()
        looks.append({"epoch": epoch, **found})
        cells = [
            f"{found[kind][name]:9.2f}"
            for kind in ("plain", "adagrad")
            for name in ("spearman", "correlation", "sign", "slope")
        ]
        print(f"{epoch:8}{found['helped']:8.2f}{''.join(cells)}", flush=True)
    if arguments.out:
        config = {**trial, "seed": arguments.seed, "environment": settings}
        document = {"config": config, "looks": looks, "provenance": provenance()}
        atomic_write(arguments.out, json.dumps(document, indent=1).encode())


if __name__ == "__main__":
    run(main)
