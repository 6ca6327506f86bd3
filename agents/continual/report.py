"""The report page of a study: curves over the tasks, and the claim."""

from __future__ import annotations

from html import escape
from typing import Any

from agents.continual.metrics import curves
from agents.continual.table import NOTE, claim, runs_of
from agents.report.charts import curve_chart
from agents.report.chosen import band
from agents.report.page import html_page, provenance_section

_TITLES = {
    "seen": "MRR on all tasks so far",
    "newest": "MRR on the newest task",
    "forgetting": "Forgetting",
    "forward": "Forward transfer",
}


def render_page(results: dict[str, Any]) -> str:
    """The page as one string; every text in it is escaped, and nothing is loaded from anywhere.

    Args:
        results: content of a study's `results.json` (docs/mspt.md).
    """
    config = results["config"]
    name = results["graph"]["name"]
    title = f"DSoM-Continual-v0 on {name}, {config['tasks']} tasks by {config['arrival']}"
    sections = [f"<h1>{escape(title)}</h1>"]
    if not results["complete"]:
        sections.append("<p><strong>Partial results:</strong> not every trial has finished.</p>")
    if results["runs"]:
        sections.append(f'<p class="verdict">{escape(claim(results))}</p>')
        for who in ("student", *results["runs"][0]["teachers"]):
            heading = "The student" if who == "student" else f"The teacher {who}"
            sections.append(f'<h2>{escape(heading)}</h2><div class="pair">')
            sections += [_chart(results, who, metric) for metric in _TITLES]
            sections.append("</div>")
        sections.append(
            '<p class="soft">Means over orders and seeds; the band reaches from the lowest to the '
            f"highest. The tables are in table.md. {escape(NOTE.replace('*', ''))}</p>"
        )
    return html_page(title, [*sections, provenance_section(results)])


def _chart(results: dict[str, Any], who: str, metric: str) -> str:
    methods = results["config"]["methods"]
    lines = {}
    for method in methods:
        found = [curves(run, who).get(metric, []) for run in runs_of(results, method)]
        if not found or not found[0]:
            continue
        # Nothing is forgotten, and nothing transferred, by the first task.
        first = next(i for i, value in enumerate(found[0]) if value is not None)
        known = [[value or 0.0 for value in values[first:]] for values in found]
        tasks = range(first + 1, len(found[0]) + 1)
        lines[method] = band(list(tasks), known)
    if not lines:
        return ""
    chart = curve_chart(lines, _TITLES[metric], order=methods, axis="task")
    return f"<div><h3>{_TITLES[metric]}</h3>{chart}</div>"
