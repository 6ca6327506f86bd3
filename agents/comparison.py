"""Many agents, many seeds, one budget: the comparison behind `scripts/compare.py`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from agents.answers import read_answers
from agents.explorer import Explorer
from agents.headroom import head_room
from agents.hyperparameters import Sections
from agents.machine import cores, provenance
from agents.names import folder_of
from agents.report import render_report
from agents.report.explorer import FILE as EXPLORER
from agents.running import end_progress, shown_as_running, write_progress
from agents.statistics import summarise
from agents.trial import finished_trial, run_trial
from agents.trial_config import TrialConfig, fill_caches
from agents.variants import Variants, changes_of, check_trial
from agents.verdicts import overall_verdict
from agents.workers import collect, run_all, run_into, tell_progress
from dsom_env.config import DSoMConfig
from dsom_env.stream import taught_graph
from graphs.files import atomic_write, sweep
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
    return folder_of(out, config.agent, config.seed)


def compare(
    config: ComparisonConfig, out: Path, jobs: int | None = None, quiet: bool = False
) -> dict[str, Any]:
    """Run what has not run yet, and write `results.json`, the page and TensorBoard files.

    Results and page are there from the beginning, and are written again after every trial;
    `scripts/watch.py` shows in between how far it is.

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
    sweep(out)
    jobs = max(1, min(jobs or cores(), len(waiting)))
    plan = {"agents": list(config.agents), "seeds": list(config.seeds), "jobs": jobs}
    with shown_as_running(out, {**plan, "epochs": config.trial.epochs}):
        context, explorer = _context(config, quiet)
        record = _Record(out, config, context, explorer, finished)
        record.write(complete=False)
        _run_waiting(record, waiting, jobs, quiet)
        return record.write(complete=not record.failures)


def _run_waiting(record: _Record, waiting: Sequence[TrialConfig], jobs: int, quiet: bool) -> None:
    """Run trials, and write what is known after each."""
    calls = [(trial, (trial, trial_folder(record.out, trial))) for trial in waiting]
    epochs = record.config.trial.epochs
    done = len(record.finished)
    with tqdm(
        total=(done + len(waiting)) * epochs,
        initial=done * epochs,
        unit="epoch",
        disable=quiet,
        smoothing=0.05,
    ) as bar:
        outcomes = run_all(_run_in_worker, calls, jobs, bar)
        collect(outcomes, bar, _name, record.finished, record.failures, record.write)


def _context(config: ComparisonConfig, quiet: bool) -> tuple[dict[str, Any], Explorer]:
    """Everything about the graph, the teachers and the machine; fills the caches on the way."""
    # Once here, so that the workers find everything in the cache.
    graph, teachers = fill_caches(config.trials()[: len(config.agents)], quiet)
    environment = DSoMConfig.from_kwargs(**replace(config.trial, changes={}).settled)
    models = load_teachers(graph, teachers, environment.pretraining)
    # Those that teach have not seen a reward split.
    taught = taught_graph(graph, environment.withheld)
    teaching = load_teachers(taught, teachers, environment.pretraining)
    context = {
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
    return context, Explorer.of(graph, {name: teaching[name][0] for name in teachers})


@dataclass
class _Record:
    """What is known of a comparison, and where it is written.

    Attributes:
        out: folder.
        config: what is compared.
        context: what does not change from trial to trial.
        explorer: queries to look at.
        finished: results of trials, in the order in which they ended.
        failures: agent, seed and error.
    """

    out: Path
    config: ComparisonConfig
    context: dict[str, Any]
    explorer: Explorer
    finished: list[dict[str, Any]]
    failures: list[dict[str, Any]] = field(default_factory=list)

    def write(self, complete: bool) -> dict[str, Any]:
        """Write `results.json`, `explorer.json` and the page; returns the results."""
        order = {name: index for index, name in enumerate(self.config.agents)}
        runs = sorted(self.finished, key=lambda run: (order[run["agent"]], run["seed"]))
        summary = summarise(runs, baseline=BASELINE) if runs else []
        results: dict[str, Any] = {
            "format": FORMAT,
            "complete": complete,
            "config": self.config.to_json(),
            **self.context,
            "runs": runs,
            "summary": summary,
            "failures": list(self.failures),
        }
        room = head_room(runs)
        results["head_room"] = room.to_json() if room else None
        results["verdict"] = overall_verdict(results)
        looked_at = self.explorer.document(self._answers())
        atomic_write(self.out / "results.json", json.dumps(results, indent=1).encode())
        content = json.dumps(looked_at, ensure_ascii=False, separators=(",", ":"))
        atomic_write(self.out / EXPLORER, content.encode())
        atomic_write(self.out / "report.html", render_report(results, looked_at).encode())
        return results

    def _answers(self) -> dict[str, dict[str, Any]]:
        """Per agent what its first finished trial answered, in the order of the configuration."""
        done = {(run["agent"], run["seed"]) for run in self.finished}
        found: dict[str, dict[str, Any]] = {}
        for trial in self.config.trials():
            if trial.agent not in found and (trial.agent, trial.seed) in done:
                answers = read_answers(trial_folder(self.out, trial), trial.key)
                if answers is not None:
                    found[trial.agent] = answers
        order = [agent for agent in self.config.agents if agent in found]
        return {agent: found[agent] for agent in order}


def _name(trial: TrialConfig) -> dict[str, Any]:
    return {"agent": trial.agent, "seed": trial.seed}


def _run_in_worker(trial: TrialConfig, folder: Path) -> dict[str, Any] | str:
    """The trial's result, or the error in words; its folder says how far it is."""
    started = time.time()

    def tell(epoch: int, mrr: float) -> None:
        tell_progress()
        write_progress(folder, started, epoch, mrr)

    def run() -> dict[str, Any]:
        write_progress(folder, started, 0, None)
        return run_trial(trial, folder, tell)

    try:
        return run_into(folder, run)
    finally:
        end_progress(folder)
