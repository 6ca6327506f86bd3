"""A comparison as a table of paired differences: every agent beside every control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agents.report.markdown import cell, table
from agents.report.outcome import parse_results
from agents.statistics import summarise
from agents.verdicts import controls_of

NOTE = """\
Points of test MRR (of 100): interquartile mean over seeds, then differences paired by seed with
Student's t 95 % intervals, bold where the whole interval lies above 0. Seeds: {seeds}{partial}."""


def render_differences(results: Any, controls: Sequence[str] | None = None) -> str:
    """A row per agent, best test MRR first; a column per control.

    Args:
        results: the content of a `results.json`.
        controls: agents to be subtracted; None for all of `verdicts.CONTROLS` that were run.

    Raises:
        ValueError: see `parse_results`; or a control was not run.
    """
    outcome = parse_results(results)
    rows = summarise(results["runs"])
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
    note = NOTE.format(
        seeds=max(row["runs"] for row in rows),
        partial="" if outcome.complete else " (partial results)",
    )
    return f"{table(header, cells)}\n\n{note}\n"


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
