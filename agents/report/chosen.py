"""Who was chosen, on the report page: by epoch, degree, presence and relation, and how well."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from agents.report.charts import curve_chart, heat_table
from agents.verdicts import learners_of

Run = Mapping[str, Any]
Band = tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]
# The most frequent masks; all of a few teachers would fill the page.
SHOWN_MASKS = 8


def band(epochs: Sequence[float], series: Sequence[Sequence[float]]) -> Band:
    """(epochs, mean, lowest, highest) over seeds, as far as the shortest series goes."""
    columns = list(zip(*series, strict=False))
    return (
        epochs[: len(columns)],
        [sum(column) / len(column) for column in columns],
        [min(column) for column in columns],
        [max(column) for column in columns],
    )


def pooled_shares(groups: Iterable[Mapping[str, Any]]) -> tuple[int, dict[str, float]]:
    """Queries and shares of a group over several runs, all their queries alike."""
    groups = list(groups)
    total = sum(group["queries"] for group in groups)
    names = groups[0]["shares"]
    return total, {
        name: sum(group["queries"] * group["shares"][name] for group in groups) / total
        for name in names
    }


def pooled_benefit(bins: Iterable[Mapping[str, Any]]) -> tuple[int, float, float | None]:
    """Count, mean and standard error of a benefit over several runs, all their queries alike."""
    bins = list(bins)
    total = sum(one["count"] for one in bins)
    mean = sum(one["count"] * one["benefit"] for one in bins) / total
    if total < 2:
        return total, mean, None
    squares = sum(
        one["count"] * (one["count"] - 1) * (one["error"] or 0.0) ** 2
        + one["count"] * (one["benefit"] - mean) ** 2
        for one in bins
    )
    return total, mean, math.sqrt(squares / (total - 1) / total)


def chosen_section(results: Mapping[str, Any]) -> str:
    """A fold per agent that chose; the first learner's is open."""
    learners = learners_of(dict(results))
    agents = [row["agent"] for row in results["summary"]]
    runs = {name: [run for run in results["runs"] if run["agent"] == name] for name in agents}
    shown = [name for name in agents if name in learners]
    shown += [name for name in agents if name not in learners and _varies(runs[name])]
    if not shown:
        return ""
    folds = [
        f"<details{'' if number else ' open'}><summary>{escape(name)}</summary>"
        f"{_fold(runs[name], list(runs[name][0]['mean_mask']))}</details>"
        for number, name in enumerate(shown)
    ]
    return (
        '<h2>Who was chosen</h2><p class="soft">Share of the taught queries that each teacher '
        "taught (of weights, their mean), over the whole run and all seeds, exploration included, "
        "control rows left out. Agents with one mask for all queries are not shown.</p>"
        f"{''.join(folds)}"
    )


def _varies(runs: Sequence[Run]) -> bool:
    """Whether a teacher taught some queries and not others, or with part of its weight."""
    return any(0 < share < 1 for run in runs for share in run["mean_mask"].values())


def _fold(runs: Sequence[Run], teachers: Sequence[str]) -> str:
    by_relation = _by_relation(runs, teachers)
    # Files from before the selection was recorded know the relations only.
    runs = [run for run in runs if "selection" in run]
    if not runs:
        return by_relation
    selections = [run["selection"] for run in runs]
    return (
        f'<div class="pair">{_by_epoch(runs, teachers)}{_masks(selections)}'
        f"{_by_degree(selections, teachers)}{_by_presence(selections, teachers)}</div>"
        f"{_calibration(runs, teachers)}{by_relation}"
    )


def _by_epoch(runs: Sequence[Run], teachers: Sequence[str]) -> str:
    axis, epochs = runs[0]["curves"]["epoch"], [run["selection"]["epochs"] for run in runs]
    curves = {name: band(axis, [epoch["shares"][name] for epoch in epochs]) for name in teachers}
    curves["nobody"] = band(axis, [epoch["empty"] for epoch in epochs])
    chosen, entropy = (
        band(axis, [epoch[name] for epoch in epochs])[1] for name in ("chosen", "entropy")
    )
    tempering = ""
    if all("tempering" in epoch for epoch in epochs):
        mean = band(axis, [epoch["tempering"] for epoch in epochs])[1]
        tempering = f", tempering {mean[0]:.2f} → {mean[-1]:.2f}"
    chart = curve_chart(curves, "share of the epoch's queries", (0.0, 1.0))
    return (
        f'<div><p class="soft">Share by epoch. Teachers per query {chosen[0]:.2f} → '
        f"{chosen[-1]:.2f}, entropy of the masks {entropy[0]:.2f} → {entropy[-1]:.2f} of at most "
        f"{len(teachers) * math.log(2):.2f} nats{tempering}, first to last epoch.</p>{chart}</div>"
    )


def _masks(selections: Sequence[Mapping[str, Any]]) -> str:
    shares: dict[str, float] = {}
    for selection in selections:
        for mask in selection["masks"]:
            name = " + ".join(mask["teachers"]) or "nobody"
            shares[name] = shares.get(name, 0.0) + mask["share"] / len(selections)
    first = sorted(shares.items(), key=lambda item: -item[1])[:SHOWN_MASKS]
    rows = {name: {"share": share} for name, share in first}
    rest = 1.0 - sum(share for _, share in first)
    if rest > 5e-3:
        rows["all others"] = {"share": rest}
    return heat_table(rows, ["share"], "Whole masks, the most frequent", "mask")


def _by_degree(selections: Sequence[Mapping[str, Any]], teachers: Sequence[str]) -> str:
    groups: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for selection in selections:
        for one in selection["by_degree"]:
            groups.setdefault((one["low"], one["high"]), []).append(one)
    named = {
        f"{low}" if low == high else f"{low:,} – {high:,}": groups[low, high]
        for low, high in sorted(groups)
    }
    return _heats(named, teachers, "By the training degree of the query's entity", "degree")


def _by_presence(selections: Sequence[Mapping[str, Any]], teachers: Sequence[str]) -> str:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for selection in selections:
        for end, modalities in selection["by_presence"].items():
            for modality, kinds in modalities.items():
                # Where all have a modality there is nothing to tell apart.
                if len(kinds) > 1:
                    for kind, word in (("has", "has"), ("lacks", "no")):
                        groups.setdefault(f"{end} {word} {modality}", []).append(kinds[kind])
    if not groups:
        return ""
    return _heats(groups, teachers, "By who has which modality", "query")


def _heats(
    groups: Mapping[str, Sequence[Mapping[str, Any]]],
    teachers: Sequence[str],
    what: str,
    corner: str,
) -> str:
    pooled = {name: pooled_shares(parts) for name, parts in groups.items()}
    rows = {name: shares for name, (_, shares) in pooled.items()}
    counts = {name: count for name, (count, _) in pooled.items()}
    return heat_table(rows, teachers, what, corner, counts)


def _by_relation(runs: Sequence[Run], teachers: Sequence[str]) -> str:
    found: dict[str, list[Mapping[str, float]]] = {}
    for run in runs:
        for relation, shares in run["mask_by_relation"].items():
            found.setdefault(relation, []).append(shares)
    rows = {
        relation: {name: sum(one[name] for one in parts) / len(parts) for name in teachers}
        for relation, parts in found.items()
    }
    return heat_table(rows, teachers, f"By relation: mean over {len(runs)} seeds")


def _calibration(runs: Sequence[Run], teachers: Sequence[str]) -> str:
    found = [run["calibration"] for run in runs if "calibration" in run]
    if not found:
        return ""
    chosen = found[0]["preference"] == "mask"
    bins: dict[float, dict[str, list[Mapping[str, Any]]]] = {}
    for one in found:
        for name, teacher in one["teachers"].items():
            for part in teacher["bins"]:
                bins.setdefault(part["low"], {}).setdefault(name, []).append(part)
    body = []
    for low in sorted(bins):
        label = f"{low:.1f} – {low + 0.1:.1f}"
        if chosen:
            label = "not chosen" if low < 0.5 else "chosen"
        cells = "".join(_benefit(bins[low].get(name, [])) for name in teachers)
        body.append(f'<tr><th scope="row">{label}</th>{cells}</tr>')
    whole = "".join(
        _benefit([p for b in bins.values() for p in b.get(name, [])]) for name in teachers
    )
    body.append(f'<tr><th scope="row">all queries</th>{whole}</tr>')
    ranks = "".join(_spearman([one["teachers"][name] for one in found]) for name in teachers)
    body.append(f'<tr><th scope="row">Spearman\'s ρ</th>{ranks}</tr>')
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in teachers)
    what = found[0]["preference"]
    seen = (
        ""
        if found[0]["held_out"] == "reward split"
        else (" Student and teachers have learned from these: a teacher may help by memory.")
    )
    return (
        '<div class="wide"><table class="heats"><caption>Preference beside measured benefit'
        f'</caption><thead><tr><th scope="col">{what}</th>{head}</tr></thead>'
        f'<tbody>{"".join(body)}</tbody></table></div><p class="soft">At the end of training: '
        "first-order fall of the loss of held-out queries through what each teacher alone adds to "
        "a query's update, in 10⁻³ nats per unit of step size, ± standard error over queries "
        f"(their number). Held out were {found[0]['held_out_queries']:,} "
        f"{escape(found[0]['held_out'])} of each seed.{seen}</p>"
    )


def _benefit(parts: Sequence[Mapping[str, Any]]) -> str:
    if not parts:
        return "<td>–</td>"
    count, mean, error = pooled_benefit(parts)
    spread = "" if error is None else f" ± {1000 * error:.1f}"
    return f'<td>{1000 * mean:+.1f}{spread} <span class="soft">({count:,})</span></td>'


def _spearman(teachers: Sequence[Mapping[str, Any]]) -> str:
    values = [one["spearman"] for one in teachers if one["spearman"] is not None]
    if not values:
        return "<td>constant</td>"
    spread = f" ({min(values):+.2f} … {max(values):+.2f})" if len(values) > 1 else ""
    return f"<td>{sum(values) / len(values):+.2f}{spread}</td>"


def planted_section(results: Mapping[str, Any]) -> str:
    """How far masks are from the planted ones, by epoch; nothing where none were planted."""
    agents = [row["agent"] for row in results["summary"]]
    wrong, distance = {}, {}
    scored: Sequence[str] = ()
    for agent in agents:
        runs = [
            run
            for run in results["runs"]
            if run["agent"] == agent and "scored" in run.get("selection", {})
        ]
        if runs:
            axis, scored = runs[0]["curves"]["epoch"], runs[0]["selection"]["scored"]
            epochs = [run["selection"]["epochs"] for run in runs]
            wrong[agent] = band(axis, [epoch["wrong_bits"] for epoch in epochs])
            distance[agent] = band(axis, [epoch["jaccard_distance"] for epoch in epochs])
    if not wrong:
        return ""
    charts = "".join(
        f'<div><p class="soft">{what}</p>'
        f"{curve_chart(curves, what, (0.0, 1.0), order=agents)}</div>"
        for what, curves in (("Share of wrong bits", wrong), ("Jaccard distance", distance))
    )
    return (
        f'<h2>Regret: distance to the planted masks</h2><div class="pair">{charts}</div>'
        '<p class="soft">Only teachers that see one modality are right or wrong on a relation, '
        f"here {escape(', '.join(scored))}; others are not scored.</p>"
    )
