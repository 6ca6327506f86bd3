"""Many agents, many seeds, one budget: the comparison behind `scripts/compare.py`."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import queue
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from agents.headroom import head_room
from agents.machine import cores, processor
from agents.report import render_report
from agents.statistics import summarise
from agents.trial import TrialConfig, finished_trial, resolve, run_trial
from agents.verdicts import overall_verdict
from dsom_env.config import DSoMConfig
from graphs import load_graph
from graphs.files import atomic_write
from students.evaluation import evaluate_ranking
from teachers.cached_store import open_store
from teachers.pretraining import load_teachers

FORMAT = 1
BASELINE = "all"
_VERSIONS = ("dsom-env", "torch", "numpy", "gymnasium", "stable-baselines3")


@dataclass(frozen=True)
class ComparisonConfig:
    """What is compared.

    Attributes:
        agents: names in the zoo, distinct.
        seeds: distinct; a seed decides initial weights and order of queries for every agent.
        trial: everything else; its agent and seed are ignored.
    """

    agents: tuple[str, ...]
    seeds: tuple[int, ...]
    trial: TrialConfig = field(default_factory=lambda: TrialConfig("all"))

    def __post_init__(self) -> None:
        """Refuse empty and repeated lists."""
        for name in ("agents", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name} must be distinct and at least one, got {list(values)}")

    def trials(self) -> list[TrialConfig]:
        """One configuration per agent and seed, seed by seed, so that partial results pair up."""
        return [
            replace(self.trial, agent=agent, seed=seed)
            for seed in self.seeds
            for agent in self.agents
        ]

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON types."""
        common = asdict(self.trial)
        del common["agent"], common["seed"]
        return {"agents": list(self.agents), "seeds": list(self.seeds), **common}


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
        resolve(trial)
    runs = [finished_trial(trial_folder(out, trial), trial) for trial in trials]
    waiting = [trial for trial, run in zip(trials, runs, strict=True) if run is None]
    finished = [run for run in runs if run is not None]
    out.mkdir(parents=True, exist_ok=True)
    context = _context(config, quiet)
    failures: list[dict[str, Any]] = []

    def write(complete: bool) -> dict[str, Any]:
        return _write_results(out, config, context, finished, failures, complete)

    jobs = max(1, min(jobs or cores(), len(waiting)))
    epochs = config.trial.epochs
    try:
        with tqdm(
            total=len(trials) * epochs,
            initial=len(finished) * epochs,
            unit="epoch",
            disable=quiet,
            smoothing=0.05,
        ) as bar:
            for trial, outcome in _run_all(waiting, out, jobs, bar):
                if isinstance(outcome, str):
                    failures.append({"agent": trial.agent, "seed": trial.seed, "error": outcome})
                    continue
                finished.append(outcome)
                write(complete=False)
    except KeyboardInterrupt:
        write(complete=False)
        raise
    return write(complete=not failures)


def _context(config: ComparisonConfig, quiet: bool) -> dict[str, Any]:
    """Everything about the graph, the teachers and the machine; fills the caches on the way."""
    _, teachers = resolve(replace(config.trial, agent=BASELINE))
    graph = load_graph(config.trial.dataset)
    environment = DSoMConfig.from_kwargs(**config.trial.environment)
    pretraining, folds, top_k = environment.pretraining, environment.folds, environment.top_k
    say = None if quiet else lambda line: print(line, file=sys.stderr, flush=True)
    # Once here, so that the workers find everything in the cache.
    open_store(graph, teachers, pretraining, folds, top_k, report=say)
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
        "provenance": {
            "command": shlex.join(["python", *sys.argv]),
            "machine": processor(),
            "cores": cores(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in _VERSIONS},
        },
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


_progress: Any = None


def _start_worker(progress: Any) -> None:
    """One thread per process; Ctrl-C is the parent's business, and its death is ours."""
    global _progress
    _progress = progress
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Without this a killed comparison would leave its workers training for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_in_worker(trial: TrialConfig, folder: Path) -> dict[str, Any] | str:
    """The trial's result, or the error in words."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return run_trial(trial, folder, lambda epoch, mrr: _progress.put(1))
    except Exception as error:  # the other trials go on; the parent reports it
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Hold Ctrl-C back; processes started meanwhile never see it, not even while they import."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _pool(jobs: int, progress: Any) -> Iterator[ProcessPoolExecutor]:
    """Worker processes that are gone when the block ends, however it ends."""
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, spawn, initializer=_start_worker, initargs=(progress,))
    try:
        yield pool
    except BaseException:
        workers = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()
        raise
    pool.shutdown()


def _run_all(
    trials: Sequence[TrialConfig], out: Path, jobs: int, bar: Any
) -> Iterator[tuple[TrialConfig, dict[str, Any] | str]]:
    """Trials and their results as they finish."""
    if not trials:
        return
    progress = multiprocessing.get_context("spawn").Queue()
    with _pool(jobs, progress) as pool:
        with _interrupts_wait():
            pending: dict[Future[dict[str, Any] | str], TrialConfig] = {
                pool.submit(_run_in_worker, trial, trial_folder(out, trial)): trial
                for trial in trials
            }
        while pending:
            done, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            _drain(progress, bar.update)
            for future in done:
                trial = pending.pop(future)
                bar.set_postfix_str(f"{trial.agent} seed {trial.seed} done")
                yield trial, future.result()
    _drain(progress, bar.update)


def _drain(progress: Any, update: Callable[[int], Any]) -> None:
    while True:
        try:
            update(progress.get_nowait())
        except queue.Empty:
            return
