"""Many agents, many seeds, one budget: the comparison behind `scripts/compare.py`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from agents.headroom import head_room
from agents.hyperparameters import Sections
from agents.machine import cores, provenance
from agents.report import render_report
from agents.statistics import summarise
from agents.trial import finished_trial, run_trial
from agents.trial_config import TrialConfig, fill_caches
from agents.variants import Variants, changes_of, check_trial
from agents.verdicts import overall_verdict
from agents.workers import collect, run_all, run_into, tell_progress
from dsom_env.config import DSoMConfig
from graphs.files import atomic_write
from students.evaluation import evaluate_ranking
from teachers.pretraining import load_teachers

FORMAT = 1
BASELINE = "all"


@dataclass(frozen=True)
class ComparisonConfig:
    """What is compared.

    Attributes:
        agents: names in the zoo or of variants, distinct.
        seeds: distinct; a seed decides initial weights and order of queries for every agent.
        trial: everything else; its agent, seed and changes are ignored.
        variants: by name what differs from the agent before the `@`; those not among `agents` are
            ignored.
        source: what errors call the variants.
    """

    agents: tuple[str, ...]
    seeds: tuple[int, ...]
    trial: TrialConfig = field(default_factory=lambda: TrialConfig("all"))
    variants: Variants = field(default_factory=dict)
    source: str = "variants"

    def __post_init__(self) -> None:
        """Refuse empty and repeated lists, and unknown variants."""
        for name in ("agents", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name} must be distinct and at least one, got {list(values)}")
        for agent in self.agents:
            self.changes(agent)

    def changes(self, agent: str) -> Sections:
        """What differs for an agent, see `TrialConfig`."""
        return changes_of(agent, self.variants, self.source)

    def trials(self) -> list[TrialConfig]:
        """One configuration per agent and seed, seed by seed, so that partial results pair up."""
        return [
            replace(self.trial, agent=agent, seed=seed, changes=self.changes(agent))
            for seed in self.seeds
            for agent in self.agents
        ]

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON types."""
        common = replace(self.trial, changes={}).to_json()
        del common["agent"], common["seed"]
        variants = {agent: changes for agent in self.agents if (changes := self.changes(agent))}
        lists = {"agents": list(self.agents), "seeds": list(self.seeds)}
        return {**lists, **common, "variants": variants}


def trial_folder(out: Path, config: TrialConfig) -> Path:
    """Where a trial's files are."""
    return out / "trials" / config.agent.replace(":", "-") / str(config.seed)


def compare(
    config: ComparisonConfig, out: Path, jobs: int | None = None, quiet: bool = False
) -> dict[str, Any]:
    """Run what has not run yet, and write `results.json`, `report.html` and TensorBoard files.

    Args:
        config: what to compare.
        out: folder of results; made if need be. Running again with the same one resumes.
        jobs: processes, one thread each; None for one per core.
        quiet: without progress bars.

    Returns:
        The content of `results.json` (docs/results-format.md).

    Raises:
        ValueError: bad configuration, or `out` belongs to another one; nothing was written.
        KeyboardInterrupt: after the finished trials were written as partial results.
    """
    trials = config.trials()
    for trial in trials[: len(config.agents)]:
        check_trial(trial, config.source)
    runs = [finished_trial(trial_folder(out, trial), trial) for trial in trials]
    waiting = [trial for trial, run in zip(trials, runs, strict=True) if run is None]
    finished = [run for run in runs if run is not None]
    out.mkdir(parents=True, exist_ok=True)
    context = _context(config, quiet)
    failures: list[dict[str, Any]] = []

    def write(complete: bool) -> dict[str, Any]:
        return _write_results(out, config, context, finished, failures, complete)

    jobs = max(1, min(jobs or cores(), len(waiting)))
    calls = [(trial, (trial, trial_folder(out, trial))) for trial in waiting]
    epochs = config.trial.epochs
    with tqdm(
        total=len(trials) * epochs,
        initial=len(finished) * epochs,
        unit="epoch",
        disable=quiet,
        smoothing=0.05,
    ) as bar:
        outcomes = run_all(_run_in_worker, calls, jobs, bar)
        collect(outcomes, bar, _name, finished, failures, write)
    return write(complete=not failures)


def _context(config: ComparisonConfig, quiet: bool) -> dict[str, Any]:
    """Everything about the graph, the teachers and the machine; fills the caches on the way."""
    # Once here, so that the workers find everything in the cache.
    graph, teachers = fill_caches(config.trials()[: len(config.agents)], quiet)
    pretraining = DSoMConfig.from_kwargs(**config.trial.environment).pretraining
    models = load_teachers(graph, teachers, pretraining)
    return {
        "graph": {
            "name": graph.name,
            "fingerprint": graph.fingerprint,
            "entities": graph.num_entities,
            "relations": graph.num_relations,
            "triples": {split: len(rows) for split, rows in graph.triples.items()},
        },
        "teachers": {
            name: {
                split: evaluate_ranking(models[name][0], graph, split)
                for split in ("valid", "test")
            }
            for name in teachers
        },
        "provenance": provenance(),
    }


def _write_results(
    out: Path,
    config: ComparisonConfig,
    context: dict[str, Any],
    finished: Sequence[dict[str, Any]],
    failures: Sequence[dict[str, Any]],
    complete: bool,
) -> dict[str, Any]:
    order = {name: index for index, name in enumerate(config.agents)}
    runs = sorted(finished, key=lambda run: (order[run["agent"]], run["seed"]))
    summary = summarise(runs, baseline=BASELINE) if runs else []
    results: dict[str, Any] = {
        "format": FORMAT,
        "complete": complete,
        "config": config.to_json(),
        **context,
        "runs": runs,
        "summary": summary,
        "failures": list(failures),
    }
    room = head_room(runs)
    results["head_room"] = room.to_json() if room else None
    results["verdict"] = overall_verdict(results)
    atomic_write(out / "results.json", json.dumps(results, indent=1).encode())
    atomic_write(out / "report.html", render_report(results).encode())
    return results


def _name(trial: TrialConfig) -> dict[str, Any]:
    return {"agent": trial.agent, "seed": trial.seed}


def _run_in_worker(trial: TrialConfig, folder: Path) -> dict[str, Any] | str:
    return run_into(folder, lambda: run_trial(trial, folder, lambda epoch, mrr: tell_progress()))
