"""What comparisons have cost per trial, and what a larger grid of such trials would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.report.markdown import cell, table
from agents.report.outcome import parse_results


@dataclass(frozen=True)
class Cost:
    """What the trials of one comparison took.

    Attributes:
        graph: its name.
        triples: in train.
        epochs, batch, rank: the student's budget and size.
        machine: processor and cores.
        seconds: by agent of one trial, mean over seeds.
    """

    graph: str
    triples: int
    epochs: int
    batch: int
    rank: int
    machine: str
    seconds: Mapping[str, float]

    def at(self, epochs: int | None) -> dict[str, float]:
        """Seconds of a trial by agent, in proportion to its epochs; None for those it had."""
        share = 1.0 if epochs is None else epochs / self.epochs
        return {agent: share * seconds for agent, seconds in self.seconds.items()}


@dataclass(frozen=True)
class Grid:
    """Trials that somebody wants to know the cost of.

    Attributes:
        agents, seeds, graphs: how many of each.
        cores: numbers of cores to say the time for.
        epochs: of a student; None for those of the measured trials.
    """

    agents: int
    seeds: int
    graphs: int
    cores: tuple[int, ...]
    epochs: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is not at least one."""
        given = (self.agents, self.seeds, self.graphs, self.epochs or 1, *self.cores)
        if min(given) < 1 or not self.cores or self.epochs == 0:
            raise ValueError("agents, seeds, graphs, cores and epochs must be at least 1")

    @property
    def trials(self) -> int:
        """How many."""
        return self.agents * self.seeds * self.graphs


def parse_cost(results: Any) -> Cost:
    """The cost of a comparison from the content of its `results.json`.

    Raises:
        ValueError: not the result of a comparison, or of none that has finished a trial.
    """
    outcome = parse_results(results)
    return Cost(
        outcome.graph,
        outcome.triples["train"],
        outcome.epochs,
        outcome.batch,
        int(outcome.settings["rank"]),
        outcome.machine,
        {agent.agent: agent.seconds for agent in outcome.agents},
    )


def cells(costs: Sequence[Cost], epochs: int | None = None) -> list[dict[str, float]]:
    """Seconds of a trial by agent, for every comparison and every agent of any of them.

    An agent that a graph was not measured with is taken to be as much slower than the others as
    it is on the graphs that it was measured on.

    Raises:
        ValueError: there is no such graph that shares an agent with this one.
    """
    measured = [cost.at(epochs) for cost in costs]
    names = list(dict.fromkeys(name for one in measured for name in one))
    return [{name: _cell(name, here, measured) for name in names} for here in measured]


def _cell(name: str, here: Mapping[str, float], measured: Sequence[Mapping[str, float]]) -> float:
    if name in here:
        return here[name]
    found = []
    for there in measured:
        common = here.keys() & there.keys()
        if name in there and common:
            share = sum(here[agent] for agent in common) / sum(there[agent] for agent in common)
            found.append(share * there[name])
    if not found:
        raise ValueError(f"{name}: no graph was measured with it and with an agent of the others")
    return sum(found) / len(found)


def grid_seconds(costs: Sequence[Cost], grid: Grid) -> tuple[float, float]:
    """Seconds of all trials of a grid one after the other, and of its longest.

    Every agent on every graph that was measured stands for as many others of the grid.
    """
    seconds = [value for one in cells(costs, grid.epochs) for value in one.values()]
    return grid.trials * sum(seconds) / len(seconds), max(seconds)


def render_cost(costs: Sequence[Cost], grid: Grid) -> str:
    """Both as Markdown: seconds by agent and graph, and hours by cores.

    A trial has one core. Whoever gives a free core the next trial ends no later than after all
    trials divided by the cores, and the longest once more but for a core's share (Graham 1966).
    """
    epochs = "" if grid.epochs is None else f" for {grid.epochs} epochs, in proportion"
    by_graph = cells(costs, grid.epochs)
    rows = []
    for name in sorted(by_graph[0], key=lambda agent: sum(one[agent] for one in by_graph)):
        marks = ["" if name in cost.seconds else "≈ " for cost in costs]
        shown = [f"{mark}{one[name]:.1f}" for mark, one in zip(marks, by_graph, strict=True)]
        rows.append([f"`{cell(name)}`", *shown])
    lines = [
        f"Seconds of one trial{epochs} (≈: not measured, but from the other graphs' proportions):",
        "",
        table(["agent", *(cell(cost.graph) for cost in costs)], rows),
        "",
    ]
    for cost in costs:
        lines.append(
            f"* {cell(cost.graph)}: {cost.triples:,} training triples, measured with "
            f"epochs {cost.epochs}, batch {cost.batch}, rank {cost.rank}; {cost.machine}"
        )
    total, longest = grid_seconds(costs, grid)
    lines += [
        "",
        f"{grid.agents} agents × {grid.seeds} seeds × {grid.graphs} graphs are {grid.trials:,} "
        f"trials: {_hours(total)} of one core, the longest trial {_hours(longest)}.",
        "",
    ]
    rows = [
        [
            str(cores),
            _hours(max(total / cores, longest)),
            _hours(total / cores + longest * (1 - 1 / cores)),
        ]
        for cores in grid.cores
    ]
    lines += [table(["cores", "at least", "at most"], rows), ""]
    return "\n".join(lines)


def _hours(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
