"""Methods × task orders × seeds on one graph: the study behind `scripts/continual.py`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from agents.continual.config import ContinualTrial, split_method
from agents.continual.report import render_page
from agents.continual.table import render_markdown
from agents.continual.trial import finished_continual, run_continual
from agents.machine import cores, provenance
from agents.workers import collect, run_all, run_into, tell_progress
from graphs import load_graph
from graphs.files import atomic_write, sweep

FORMAT = 1


@dataclass(frozen=True)
class Study:
    """What is compared.

    Attributes:
        methods: distinct, see `ContinualTrial.method`.
        orders: seeds of task orders, distinct.
        seeds: of student, teachers and agent, distinct.
        trial: everything else; its method, order and seed are ignored.
    """

    methods: tuple[str, ...]
    orders: tuple[int, ...]
    seeds: tuple[int, ...]
    trial: ContinualTrial = field(default_factory=ContinualTrial)

    def __post_init__(self) -> None:
        """Refuse empty and repeated lists, and unknown methods."""
        for name in ("methods", "orders", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name} must be distinct and at least one, got {list(values)}")
        for method in self.methods:
            split_method(method)

    def trials(self) -> list[ContinualTrial]:
        """One per method, order and seed.

        Method by method, so that trials which run side by side have other teachers to train:
        those of several methods share what they can.
        """
        return [
            self.trial.of(method, order, seed)
            for method in self.methods
            for order in self.orders
            for seed in self.seeds
        ]

    def to_json(self) -> dict[str, Any]:
        """The study as JSON types."""
        common = self.trial.to_json()
        del common["method"], common["order"], common["trial"]["seed"]
        lists = {"methods": self.methods, "orders": self.orders, "seeds": self.seeds}
        return {**{name: list(values) for name, values in lists.items()}, **common}


def trial_folder(out: Path, trial: ContinualTrial) -> Path:
    """Where a trial's files are."""
    method = trial.method.replace(":", "-")
    return out / "trials" / f"order-{trial.order}" / method / str(trial.seed)


def run_study(
    study: Study, out: Path, jobs: int | None = None, quiet: bool = False
) -> dict[str, Any]:
    """Run what has not run yet, and write results, tables, a page and TensorBoard files.

    Args:
        study: what to compare.
        out: folder of results; made if need be. Running again with the same one resumes.
        jobs: processes, one thread each; None for one per core.
        quiet: without progress bars.

    Returns:
        The content of `results.json` (docs/mspt.md).

    Raises:
        ValueError: bad configuration, or `out` belongs to another one; nothing was written.
        KeyboardInterrupt: after the finished trials were written as partial results.
    """
    trials = study.trials()
    # Every order is cut, and every argument checked, before any work.
    for trial in {(trial.method, trial.order): trial for trial in trials}.values():
        trial.resolve()
    runs = [finished_continual(trial_folder(out, trial), trial) for trial in trials]
    waiting = [trial for trial, run in zip(trials, runs, strict=True) if run is None]
    finished = [run for run in runs if run is not None]
    out.mkdir(parents=True, exist_ok=True)
    sweep(out)
    graph = load_graph(study.trial.trial.dataset)
    context = {
        "graph": {"name": graph.name, "fingerprint": graph.fingerprint},
        "provenance": provenance(),
    }
    failures: list[dict[str, Any]] = []
    tasks = study.trial.tasks

    def write(complete: bool) -> dict[str, Any]:
        return _write(out, study, context, finished, failures, complete)

    jobs = max(1, min(jobs or cores(), len(waiting)))
    calls = [(trial, (trial, trial_folder(out, trial))) for trial in waiting]
    total, initial = len(trials) * tasks, len(finished) * tasks
    with tqdm(total=total, initial=initial, unit="task", disable=quiet) as bar:
        outcomes = run_all(_run_in_worker, calls, jobs, bar)
        collect(outcomes, bar, _name, finished, failures, write)
    return write(complete=not failures)


def _name(trial: ContinualTrial) -> dict[str, Any]:
    return {"method": trial.method, "order": trial.order, "seed": trial.seed}


def _run_in_worker(trial: ContinualTrial, folder: Path) -> dict[str, Any] | str:
    return run_into(folder, lambda: run_continual(trial, folder, lambda task, mrr: tell_progress()))


def _write(
    out: Path,
    study: Study,
    context: dict[str, Any],
    finished: Sequence[dict[str, Any]],
    failures: Sequence[dict[str, Any]],
    complete: bool,
) -> dict[str, Any]:
    place = {method: number for number, method in enumerate(study.methods)}
    runs = sorted(finished, key=lambda run: (place[run["method"]], run["order"], run["seed"]))
    results: dict[str, Any] = {
        "format": FORMAT,
        "complete": complete,
        "config": study.to_json(),
        **context,
        "runs": runs,
        "failures": list(failures),
    }
    atomic_write(out / "results.json", json.dumps(results, indent=1).encode())
    atomic_write(out / "table.md", render_markdown(results).encode())
    atomic_write(out / "report.html", render_page(results).encode())
    return results
