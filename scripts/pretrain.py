"""Train the teachers of a graph once and keep them in the cache; show how good each one is.

python scripts/pretrain.py --dataset emoji            # in-sample
python scripts/pretrain.py --dataset emoji --folds 5  # cross-fitted
python scripts/pretrain.py --dataset emoji --objective amid --setting student=0 --out runs/amid

--rank and the flags after it are `teacher_rank`, `teacher_learning_rate`, `teacher_regularisation`,
`teacher_batch`, `teacher_epochs` and `teacher_sampled` of `DSoMConfig`: with the same values
compare.py and train.py (as in --set teacher_rank=200) find the same teachers. --objective
with its --setting is `teacher_objective`, as in --set 'teacher_objective={name: amid, student: 0}'
(docs/amid.md).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from agents.command_line import add_settings, parse_names, parse_penalties, run
from agents.cotraining_records import in_words, write_records
from dsom_env.config import DSoMConfig, usual_teachers
from dsom_env.objectives import ALONE, OBJECTIVES
from graphs import load_graph
from students.evaluation import evaluate_by_relation, evaluate_ranking
from teachers.cached_store import open_store
from teachers.pretraining import load_teachers, ship, teacher_history, teacher_key

# By the argument of `DSoMConfig`: the flag, and what it means.
FLAGS = {
    "teacher_rank": ("--rank", "dimensions, complex ones of all but hyperbolic scorers"),
    "teacher_learning_rate": ("--learning-rate", "of Adagrad"),
    "teacher_regularisation": ("--regularisation", "λ of N3, as in 0.1 or in 0.1,text=0.005"),
    "teacher_batch": ("--batch", "queries per update"),
    "teacher_epochs": ("--epochs", "most epochs; valid may end it earlier"),
    "teacher_sampled": ("--sampled", "entities that an update is about"),
}
KINDS = {"teacher_regularisation": parse_penalties, "teacher_sampled": int}


def main() -> None:
    """Train or find the teachers, print their filtered MRR, and fill the store."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--dataset", default="emoji")
    command.add_argument(
        "--teachers", type=parse_names, help="default: structure, one per modality, fused"
    )
    command.add_argument("--folds", type=int, default=1, help="K ≥ 2 cross-fits (default: 1)")
    for setting, (flag, meaning) in FLAGS.items():
        default = getattr(DSoMConfig, setting)
        summary = f"{meaning} (default: {'all' if default is None else default})"
        kind = KINDS.get(setting, type(default))
        command.add_argument(flag, dest=setting, type=kind, default=default, help=summary)
    command.add_argument(
        "--objective", choices=OBJECTIVES, default=ALONE, help=f"(default: {ALONE})"
    )
    add_settings(
        command,
        "--setting",
        "of the objective, see teachers.amid.CotrainingConfig, e.g. --setting auxiliary=0",
    )
    command.add_argument(
        "--out", type=Path, help="folder for the epochs of co-trained teachers (JSON, TensorBoard)"
    )
    command.add_argument("--top-k", type=int, default=64, help="entities listed per teacher")
    command.add_argument("--split", choices=("valid", "test"), default="valid")
    command.add_argument(
        "--ship", action="store_true", help="write them to the folder that the package ships"
    )
    arguments = command.parse_args()
    if arguments.folds < 1 or arguments.top_k < 1:
        raise ValueError("--folds and --top-k must be at least 1")
    settings = {setting: getattr(arguments, setting) for setting in FLAGS}
    objective = {**dict(arguments.settings), "name": arguments.objective}
    config = DSoMConfig.from_kwargs(**settings, teacher_objective=objective).pretraining
    if arguments.out and not config.cotraining:
        raise ValueError(f"--out: teachers of objective {ALONE} have no records of their epochs")
    graph = load_graph(arguments.dataset)
    names = arguments.teachers or usual_teachers(graph)
    if config.cotraining and not any(config.cotraining_of(name) for name in names):
        raise ValueError(f"--objective amid trains none of the teachers {', '.join(names)}")
    models = load_teachers(graph, names, config, arguments.folds, _say)
    relations = list(graph.relation_labels)
    print(f"filtered MRR on {arguments.split}, both directions, mean rank of ties")
    print(f"{'relation':24}" + "".join(f"{name:>12}" for name in names))
    tables = [evaluate_by_relation(models[name][0], graph, arguments.split) for name in names]
    totals = [evaluate_ranking(models[name][0], graph, arguments.split)["mrr"] for name in names]
    for relation in relations:
        cells = [table.get(relation, {}).get("mrr") for table in tables]
        row = "".join(f"{'–':>12}" if cell is None else f"{cell:12.4f}" for cell in cells)
        print(f"{relation[:24]:24}{row}")
    print(f"{'all':24}" + "".join(f"{total:12.4f}" for total in totals))
    for name in names:
        print(f"{name:24}{teacher_key(graph, name, config, arguments.folds, 0)}")
    for name in (name for name in names if config.cotraining_of(name)):
        for fold in range(arguments.folds):
            history = teacher_history(graph, name, config, arguments.folds, fold)
            print(f"{name} fold {fold + 1}: {in_words(history)}")
            if arguments.out:
                write_records(arguments.out / f"{name}-{fold}", history)
    if arguments.ship:
        for folder in ship(graph, names, config, arguments.folds):
            print(f"shipped {folder.name}")
    with tqdm(total=2 * len(graph.triples["train"]), unit="query", desc="store") as bar:
        store = open_store(
            graph,
            names,
            config,
            arguments.folds,
            arguments.top_k,
            progress=lambda done, _: bar.update(done - bar.n),
        )
        bar.update(bar.total - bar.n)
    masses = ", ".join(f"{m:.3f}" for m in store.tail_mass.mean(0))
    listed = len(store.entities) / len(store)
    print(f"store: {listed:.0f} entities a query; mean tail mass {masses}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run(main)
