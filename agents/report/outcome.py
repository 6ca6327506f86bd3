"""A comparison as `docs/results.md` shows it: read from `results.json`, checked, summed up."""

from __future__ import annotations

import dataclasses
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

from agents.headroom import HeadRoom, head_room
from agents.report.published import METRICS
from agents.statistics import iqm, summarise
from dsom_env.config import DSoMConfig
from graphs.naming import shown
from students.registry import STUDENTS, make_student

FORMAT = 1
# Fewer seeds than this give no interval: a bootstrap of two can only return the two.
LEAST_FOR_INTERVAL = 3
# A best epoch this close to the end says that more epochs would have helped.
STILL_MOVING = 0.1


@dataclass(frozen=True)
class AgentOutcome:
    """What the students of one agent became. Metrics are in percent.

    Attributes:
        agent: its name.
        seeds: how many.
        valid_mrr: interquartile mean (of up to three seeds the mean).
        test: the same for `mrr`; means of the other metrics.
        interval: 95 % interval of the test MRR; None with too few seeds.
        seconds: wall-clock time per seed, mean.
        best_epochs: per seed the epoch that valid selected.
        moving: for how many seeds that was within the last tenth of the budget.
        search_epochs: student epochs per seed spent beyond the budget.
        share: of the head-room, with its interval, in words; None where that means nothing.
    """

    agent: str
    seeds: int
    valid_mrr: float
    test: Mapping[str, float]
    interval: tuple[float, float] | None
    seconds: float
    best_epochs: tuple[int, ...]
    moving: int
    search_epochs: float
    share: str | None


@dataclass(frozen=True)
class Outcome:
    """One comparison.

    Attributes:
        graph: its name.
        published_valid: whether the dataset was named with `valid=published`.
        fingerprint: of the graph.
        entities: how many.
        relations: how many.
        triples: per split.
        teachers: per teacher its own metrics, in percent, per split.
        agents: best test MRR first.
        seeds: those asked for.
        epochs: the student's budget.
        batch: queries per update of the student.
        settings: arguments of `DSoMConfig`, its defaults included.
        variants: per variant, section and name, what differs.
        parameters: trained numbers of the student; None for a student that is not there.
        command: as typed, but without folders of the machine it ran on.
        machine: processor and cores.
        versions: of Python and the packages that matter.
        seconds: of all trials, one after the other.
        complete: whether every trial finished.
        head_room: a sentence, in percent; None without an oracle.
    """

    graph: str
    published_valid: bool
    fingerprint: str
    entities: int
    relations: int
    triples: Mapping[str, int]
    teachers: Mapping[str, Mapping[str, Mapping[str, float]]]
    agents: tuple[AgentOutcome, ...]
    seeds: tuple[int, ...]
    epochs: int
    batch: int
    settings: Mapping[str, Any]
    variants: Mapping[str, Mapping[str, Mapping[str, Any]]]
    parameters: int | None
    command: str
    machine: str
    versions: Mapping[str, str]
    seconds: float
    complete: bool
    head_room: str | None


def parse_results(results: Any) -> Outcome:
    """The outcome from the content of a `results.json`.

    Raises:
        ValueError: not the result of a comparison, or of none that has finished a trial.
    """
    try:
        if results["format"] != FORMAT:
            raise ValueError(f"format {results['format']!r} is not {FORMAT}")
        if not results["runs"]:
            raise ValueError("no trial has finished")
        return _parse(results)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"not the result of a comparison: {error!r}") from None


def _parse(results: Mapping[str, Any]) -> Outcome:
    config, graph, provenance = results["config"], results["graph"], results["provenance"]
    # Not checked as a `DSoMConfig`: a student that somebody plugged in is unknown here.
    defaults = {field.name: field.default for field in dataclasses.fields(DSoMConfig)}
    settings = defaults | dict(config["environment"])
    epochs = int(config["epochs"])
    by_agent: dict[str, list[Mapping[str, Any]]] = {}
    for run in results["runs"]:
        by_agent.setdefault(str(run["agent"]), []).append(run)
    intervals = {row["agent"]: row["interval"] for row in summarise(results["runs"])}
    room = head_room(results["runs"])
    agents = [_agent(name, runs, intervals[name], epochs, room) for name, runs in by_agent.items()]
    entities, relations = int(graph["entities"]), int(graph["relations"])
    return Outcome(
        graph=str(graph["name"]),
        published_valid="valid=published" in _options(config["dataset"]),
        fingerprint=str(graph["fingerprint"]),
        entities=entities,
        relations=relations,
        triples={split: int(graph["triples"][split]) for split in ("train", "valid", "test")},
        teachers={
            str(name): {split: _percents(metrics[split]) for split in ("valid", "test")}
            for name, metrics in results["teachers"].items()
        },
        agents=tuple(sorted(agents, key=lambda agent: -agent.test["mrr"])),
        seeds=tuple(int(seed) for seed in config["seeds"]),
        epochs=epochs,
        batch=int(config["batch"]),
        settings=settings,
        variants={
            str(name): {str(section): dict(values) for section, values in sections.items()}
            for name, sections in config.get("variants", {}).items()
        },
        parameters=_parameters(settings, entities, relations),
        command=shown_command(provenance["command"], config["dataset"], graph["name"]),
        machine=f"{provenance['machine']}, {int(provenance['cores'])} cores",
        versions={"Python": str(provenance["python"]), **provenance["versions"]},
        seconds=float(sum(run["seconds"] for run in results["runs"])),
        complete=bool(results["complete"]),
        head_room=room.sentence(percent=True) if room else None,
    )


def _agent(
    name: str,
    runs: Sequence[Mapping[str, Any]],
    interval: Sequence[float],
    epochs: int,
    room: HeadRoom | None,
) -> AgentOutcome:
    tests = [_percents(run["test"]) for run in runs]
    test = {metric: float(np.mean([values[metric] for values in tests])) for metric in METRICS}
    test["mrr"] = iqm(np.array([values["mrr"] for values in tests]))
    best_epochs = tuple(int(run["best_epoch"]) for run in runs)
    return AgentOutcome(
        agent=name,
        seeds=len(runs),
        valid_mrr=iqm(np.array([_percents(run["valid"])["mrr"] for run in runs])),
        test=test,
        interval=(100 * interval[0], 100 * interval[1])
        if len(runs) >= LEAST_FOR_INTERVAL
        else None,
        seconds=float(np.mean([run["seconds"] for run in runs])),
        best_epochs=best_epochs,
        moving=sum(epoch > (1 - STILL_MOVING) * epochs for epoch in best_epochs),
        search_epochs=float(np.mean([run["search_epochs"] for run in runs])),
        share=room.share_with_interval(name) if room and name in room.shares else None,
    )


def _percents(metrics: Mapping[str, Any]) -> dict[str, float]:
    values = {metric: float(metrics[metric]) for metric in METRICS}
    for metric, value in values.items():
        if not (math.isfinite(value) and 0 <= value <= 1):
            raise ValueError(f"{metric} must lie in [0, 1], got {value!r}")
    return {metric: 100 * value for metric, value in values.items()}


def _parameters(settings: Mapping[str, Any], entities: int, relations: int) -> int | None:
    name, rank = settings["student"], settings["rank"]
    if name not in STUDENTS:
        return None
    # Counted on no device: a file may name more entities than any memory holds.
    try:
        with torch.device("meta"):
            student = make_student(name, entities, relations, rank, torch.Generator())
    except RuntimeError:
        sizes = f"{shown(entities)} entities, {shown(relations)} relations, rank {shown(rank)}"
        raise ValueError(f"there is no {name} student of {sizes}") from None
    return sum(parameter.numel() for parameter in student.parameters())


def _options(dataset: str) -> list[str]:
    """Options behind the colon of a dataset, as in `folder:valid=published`."""
    _, _, options = dataset.rpartition(":")
    return [part.strip() for part in options.split(",")] if "=" in options else []


def shown_dataset(dataset: str, graph: str) -> str:
    """A dataset without folders of the machine: a folder is `data/<graph>`, with its options."""
    if dataset == graph or not re.search(r"[/\\]", dataset):
        return dataset
    options = ",".join(_options(dataset))
    return f"data/{graph}" + (f":{options}" if options else "")


def shown_command(command: str, dataset: str, graph: str) -> str:
    """A command without folders of the machine that it ran on.

    Args:
        command: as a shell takes it.
        dataset: the command's dataset, see `shown_dataset`.
        graph: the graph's name.
    """
    shown = shown_dataset(dataset, graph)
    return shlex.join(_shown_word(word, dataset, shown) for word in shlex.split(command))


def _shown_word(word: str, dataset: str, shown: str) -> str:
    if word == dataset:
        return shown
    option, equals, value = word.partition("=")
    if equals:
        return f"{option}={_shown_word(value, dataset, shown)}"
    path = PurePath(word)
    if path.suffix == ".py":
        return f"scripts/{path.name}"
    if path.is_absolute() or ".." in path.parts or word.startswith("~"):
        return path.name if path.suffix in (".yml", ".yaml") else f"runs/{path.name}"
    return word
