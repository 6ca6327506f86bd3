"""Comparisons as a table of paired differences: every agent beside every control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agents.report.markdown import cell, table
from agents.report.outcome import parse_results
from agents.statistics import summarise
from agents.verdicts import controls_of

NOTE = """\
Points of test MRR (of 100): interquartile mean over {unit}s, then differences paired by {unit} with
Student's t 95 % intervals, bold where the whole interval lies above 0. {count}{partial}."""


def render_differences(
    documents: Sequence[Any],
    controls: Sequence[str] | None = None,
    beside: Mapping[str, Any] | None = None,
) -> str:
    """A row per agent, best test MRR first; a column per control.

    Args:
        documents: contents of `results.json`. Of one, differences are paired by seed; of several,
            by graph, each the mean over its seeds.
        controls: agents to be subtracted; None for all of `verdicts.CONTROLS` that were run.
        beside: by a name for each, comparisons of the same graph and seeds with other settings
            than the one document: their agents stand beside its own, as `all of NAME`.

    Raises:
        ValueError: see `parse_results`; a control was not run; or of several, two are of one graph
            or not the same agents and settings; or one beside it is not of its graph and seeds.
    """
    outcomes = [parse_results(document) for document in documents]
    complete = all(outcome.complete for outcome in outcomes)
    unit, runs = "seed", documents[0]["runs"]
    if len(documents) > 1:
        unit, runs = "graph", _over_graphs(documents)
    for name, other in (beside or {}).items():
        complete = parse_results(other).complete and complete
        runs = runs + _renamed(documents, name, other)
    rows = summarise(runs)
    agents = [row["agent"] for row in rows]
    columns = controls_of({"summary": rows}) if controls is None else list(controls)
    for control in columns:
        if control not in agents:
            raise ValueError(f"{control} was not run; the agents are {', '.join(agents)}")
    header = ["agent", "test MRR", *(f"− `{cell(control)}`" for control in columns)]
    cells = [
        [f"`{cell(row['agent'])}`", f"{100 * row['iqm']:.1f}"]
        + [_difference(row["differences"].get(control)) for control in columns]
        for row in rows
    ]
    number = max(row["runs"] for row in rows)
    count = f"Seeds: {number}"
    if len(documents) > 1:
        seeds = sorted({len(document["config"]["seeds"]) for document in documents})
        count = f"Graphs: {number}, seeds of each: {' or '.join(map(str, seeds))}"
    note = NOTE.format(unit=unit, count=count, partial="" if complete else " (partial results)")
    return f"{table(header, cells)}\n\n{note}\n"


def _renamed(documents: Sequence[Any], name: str, other: Any) -> list[dict[str, Any]]:
    """The runs of a comparison whose agents stand beside those of another one."""
    if len(documents) > 1:
        raise ValueError(f"{name} can stand beside one comparison, got {len(documents)}")
    first = documents[0]
    if first["graph"]["fingerprint"] != other["graph"]["fingerprint"]:
        raise ValueError(f"{name} cannot stand beside a comparison on another graph")
    if first["config"]["seeds"] != other["config"]["seeds"]:
        raise ValueError(f"{name} cannot stand beside a comparison with other seeds")
    return [{**run, "agent": f"{run['agent']} of {name}"} for run in other["runs"]]


def _over_graphs(documents: Sequence[Any]) -> list[dict[str, Any]]:
    """One run per agent and graph, with the graph in the place of the seed."""
    prints = [document["graph"]["fingerprint"] for document in documents]
    if len(set(prints)) < len(prints):
        raise ValueError("several comparisons are of the same graph, where one of each is expected")
    agents = [set(map(str, document["config"]["agents"])) for document in documents]
    settings = [
        {name: document["config"][name] for name in ("environment", "epochs", "batch", "seeds")}
        for document in documents
    ]
    for place, (names, values) in enumerate(zip(agents, settings, strict=True)):
        if names != agents[0] or values != settings[0]:
            raise ValueError(
                f"comparison {place + 1} has other agents, seeds or settings than the first"
            )
    pooled = []
    for place, document in enumerate(documents):
        by_agent: dict[str, list[dict[str, Any]]] = {}
        for run in document["runs"]:
            by_agent.setdefault(run["agent"], []).append(run)
        for runs in by_agent.values():
            # Whose seeds have not all finished is left out: others' mean is over all.
            if len(runs) == len(document["config"]["seeds"]):
                mrr = sum(run["test"]["mrr"] for run in runs) / len(runs)
                pooled.append({**runs[0], "seed": place, "test": {**runs[0]["test"], "mrr": mrr}})
    if not pooled:
        raise ValueError("no agent has finished all seeds of a graph")
    return pooled


def _difference(difference: Mapping[str, Any] | None) -> str:
    """`+1.2 [+0.1, +2.3]`; a dash for an agent beside itself."""
    if difference is None:
        return "–"
    mean = f"{100 * difference['mean']:+.1f}"
    if difference["interval"] is None:
        return f"{mean} (one seed)"
    low, high = difference["interval"]
    shown = f"{mean} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"**{shown}**" if low > 0 else shown
