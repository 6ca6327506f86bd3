"""Performance profiles: which share of runs is better than any score one may ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agents.report.charts import curve_chart
from agents.statistics import Scores, performance_profile

POINTS = 61


def profiles_section(results: Mapping[str, Any]) -> str:
    """Test MRR over seeds and, where it was recorded, valid MRR over relations and seeds."""
    agents = [row["agent"] for row in results["summary"]]
    runs = {name: [run for run in results["runs"] if run["agent"] == name] for name in agents}
    whole = {name: np.array([[run["test"]["mrr"]] for run in runs[name]]) for name in agents}
    charts = [_chart(whole, "test MRR", "share of the seeds")]
    by_relation = {
        name: _by_relation(runs[name])
        for name in agents
        if all("valid_by_relation" in run for run in runs[name])
    }
    if len(by_relation) == len(agents):
        label = "valid MRR of a relation"
        charts.append(_chart(by_relation, label, "share of the relations and seeds"))
    return (
        f'<h2>Performance profiles</h2><div class="pair">{"".join(charts)}</div>'
        '<p class="soft">How often an agent is better than the score on the axis: a curve that '
        "lies above another one everywhere is better throughout; curves that cross are each better "
        "somewhere. Every relation counts once, however few queries it has. Bands are pointwise "
        "95 % bootstrap intervals, seeds resampled.</p>"
    )


def _by_relation(runs: Sequence[Mapping[str, Any]]) -> Scores:
    """Valid MRR, `[seeds, relations]`; all seeds have the same relations on valid."""
    relations = sorted(runs[0]["valid_by_relation"])
    return np.array([[run["valid_by_relation"][r]["mrr"] for r in relations] for run in runs])


def _chart(scores: Mapping[str, Scores], label: str, what: str) -> str:
    ends = np.concatenate([values.reshape(-1) for values in scores.values()])
    pad = max(0.03 * float(np.ptp(ends)), 1e-3)
    thresholds = np.linspace(ends.min() - pad, ends.max() + pad, POINTS)
    curves = {}
    for name, values in scores.items():
        # A generator of its own, so that an agent's band does not depend on its company.
        profile = performance_profile(values, thresholds, np.random.default_rng(0))
        curves[name] = (thresholds.tolist(), *(part.tolist() for part in profile))
    chart = curve_chart(curves, what, (0.0, 1.0), axis=label)
    return f'<div><p class="soft">Vertical: {what}; horizontal: {label}.</p>{chart}</div>'
