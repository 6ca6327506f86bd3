"""The page: verdict, tables, charts, who was chosen, the explorer, provenance."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from agents.headroom import chooses, head_room
from agents.names import base_agent, is_variant
from agents.report.charts import curve_chart, interval_chart
from agents.report.chosen import band, chosen_section, planted_section
from agents.report.explorer import explorer_section
from agents.report.profiles import profiles_section
from agents.verdicts import FOOTNOTE, controls_of

_VARIED = " The last column is that of a variant against the agent before its @."


def render_report(results: dict[str, Any], explorer: Mapping[str, Any] | None = None) -> str:
    """The page as one string; every text in it is escaped, and nothing is loaded from anywhere.

    Args:
        results: content of `results.json` (docs/results-format.md).
        explorer: content of `explorer.json` (docs/report.md); None leaves the explorer out.
    """
    config, graph = results["config"], results["graph"]
    triples = graph["triples"]
    title = f"DSoM-v0 on {graph['name']}"
    sections = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="verdict">{escape(results["verdict"])}</p>',
        f'<p class="soft">{graph["entities"]:,} entities, {graph["relations"]} relations, '
        f"{triples['train']:,} / {triples['valid']:,} / {triples['test']:,} triples; "
        f"{len(config['seeds'])} seeds, {config['epochs']} epochs per student, batch "
        f"{config['batch']}.</p>",
    ]
    if not results["complete"]:
        sections.append("<p><strong>Partial results:</strong> not every trial has finished.</p>")
    if results["failures"]:
        sections.append(_failures(results["failures"]))
    if results["runs"]:
        sections += [
            _table(results),
            _differences(results),
            f'<div class="pair"><div>{_intervals(results)}</div>',
            f"<div>{_curves(results)}</div></div>",
            profiles_section(results),
            _head_room(results),
            planted_section(results),
            chosen_section(results),
        ]
    sections += [explorer_section(explorer), _teachers(results), provenance_section(results)]
    return html_page(title, sections)


def html_page(title: str, sections: Sequence[str]) -> str:
    """A page that needs no network, from sections that are HTML already.

    Its policy forbids the browser to load anything, and to run any script but the page's own: what
    an escape forgot could neither act nor call home.
    """
    folder = Path(__file__).parent
    style, script = (folder.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>"
        f"{''.join(sections)}</main><script>{script}</script></body></html>\n"
    )


def _failures(failures: Sequence[dict[str, Any]]) -> str:
    items = "".join(
        f"<li>{escape(failure['agent'])} seed {failure['seed']}: {escape(failure['error'])}</li>"
        for failure in failures
    )
    return f"<h2>Failed trials</h2><ul>{items}</ul>"


def _mean(runs: Sequence[dict[str, Any]], *path: str) -> float:
    total = 0.0
    for run in runs:
        value: Any = run
        for key in path:
            value = value[key]
        total += float(value)
    return total / len(runs)


def _runs_of(results: dict[str, Any], agent: str) -> list[dict[str, Any]]:
    return [run for run in results["runs"] if run["agent"] == agent]


def _table(results: dict[str, Any]) -> str:
    names = [
        *("agent", "test MRR", "95 % interval", "Hits@1", "Hits@3", "Hits@10"),
        *("P(> all)", "valid MRR", "seconds", "search"),
    ]
    # The rows come in this order.
    sorted_by = {"test MRR": ' aria-sort="descending"'}
    head = "".join(
        f'<th scope="col"{sorted_by.get(name, "")}><button>{escape(name)}</button></th>'
        for name in names
    )
    body = []
    for row in results["summary"]:
        runs = _runs_of(results, row["agent"])
        chance = row["probability_of_improvement"]
        low, high = row["interval"]
        search = _mean(runs, "search_epochs")
        cells: list[tuple[object, str]] = [
            (row["iqm"], f"{row['iqm']:.4f}"),
            (low, f"{low:.4f} – {high:.4f}"),
            *((v := _mean(runs, "test", f"hits@{k}"), f"{v:.4f}") for k in (1, 3, 10)),
            (-1 if chance is None else chance, "–" if chance is None else f"{chance:.2f}"),
            (v := _mean(runs, "valid", "mrr"), f"{v:.4f}"),
            (v := _mean(runs, "seconds"), f"{v:.1f}"),
            (search, f"+{search:.0f} epochs" if search else "–"),
        ]
        columns = "".join(f'<td data-value="{value}">{text}</td>' for value, text in cells)
        agent = escape(row["agent"])
        body.append(f'<tr><th scope="row" data-value="{agent}">{agent}</th>{columns}</tr>')
    return (
        '<h2>The table</h2><div class="wide"><table class="sortable" id="results">'
        f"<thead><tr>{head}</tr></thead>"
        f'<tbody>{"".join(body)}</tbody></table></div><p class="soft">{escape(FOOTNOTE)}</p>'
    )


def _differences(results: dict[str, Any]) -> str:
    controls = controls_of(results)
    varied = [row["agent"] for row in results["summary"] if is_variant(row["agent"])]
    if not controls and not varied:
        return ""
    columns = ["agent", *controls, *(["what it varies"] if varied else [])]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = []
    for row in results["summary"]:
        # An agent is not among its own differences, so that only variants have the last one.
        others = [*controls, *([base_agent(row["agent"])] if varied else [])]
        cells = "".join(_difference(row["differences"].get(other)) for other in others)
        body.append(f'<tr><th scope="row">{escape(row["agent"])}</th>{cells}</tr>')
    return (
        '<h2>Against every control</h2><div class="wide"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        '<p class="soft">Difference of test MRR, paired by seed, with its 95 % Student\'s t '
        f"interval; bold where that leaves out 0.{_VARIED if varied else ''}</p>"
    )


def _difference(difference: dict[str, Any] | None) -> str:
    if difference is None:
        return "<td>–</td>"
    mean, interval = difference["mean"], difference["interval"]
    if interval is None:
        return f"<td>{mean:+.4f}</td>"
    low, high = interval
    shown = f"{mean:+.4f}" if low <= 0 <= high else f"<strong>{mean:+.4f}</strong>"
    return f'<td>{shown}<br><span class="soft">[{low:+.4f}, {high:+.4f}]</span></td>'


def _intervals(results: dict[str, Any]) -> str:
    rows = [(row["agent"], row["iqm"], *row["interval"]) for row in results["summary"]]
    chart = interval_chart(rows, "test MRR, interquartile mean and 95 % interval")
    return f'<h2>Test MRR</h2>{chart}<p class="soft">Interquartile mean and its 95 % interval.</p>'


def _curves(results: dict[str, Any]) -> str:
    curves = {}
    for row in results["summary"]:
        found = [run["curves"] for run in _runs_of(results, row["agent"])]
        curves[row["agent"]] = band(found[0]["epoch"], [one["valid_mrr"] for one in found])
    chart = curve_chart(curves, "valid MRR")
    return (
        f'<h2>Learning curves: valid MRR</h2>{chart}<p class="soft">Mean over seeds; the band '
        "reaches from the lowest to the highest seed.</p>"
    )


def _head_room(results: dict[str, Any]) -> str:
    title, room = "<h2>Head-room</h2>", head_room(results["runs"])
    if room is None:
        return f"{title}<p>Needs an oracle and an agent that does not choose.</p>"
    rows, notes = [], []
    for row in results["summary"]:
        agent, difference = row["agent"], row["differences"].get(room.control)
        if difference is None or (not chooses(agent) and base_agent(agent) != "random"):
            continue
        mean, interval = difference["mean"], difference["interval"]
        rows.append((agent, mean, *(interval or (mean, mean))))
        share = f" · {room.share_with_interval(agent)}" if agent in room.shares else ""
        notes.append(f"{mean:+.4f}{share}")
    label = f"test MRR above {room.control}"
    span = (0.0, room.mean) if room.mean > 0 else None
    return (
        f"{title}<p>{escape(room.sentence())}</p>{interval_chart(rows, label, notes, span)}"
        f'<p class="soft">Test MRR above {escape(room.control)}, paired by seed, with 95 % '
        "Student's t intervals, of the agents that choose, and of random masks. The oracle and the "
        "agent that does not choose are those with the best valid MRR; shaded is what lies between "
        "them. Shares of it, with Fieller's intervals, are shown where the oracle's interval lies "
        "above 0.</p>"
    )


def _teachers(results: dict[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{values["valid"]["mrr"]:.4f}</td>'
        f"<td>{values['test']['mrr']:.4f}</td></tr>"
        for name, values in results["teachers"].items()
    )
    return (
        '<h2>The teachers themselves</h2><div class="wide"><table class="heats"><thead><tr>'
        '<th scope="col">teacher</th><th scope="col">valid MRR</th><th scope="col">test MRR</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def provenance_section(results: dict[str, Any]) -> str:
    """Command, machine, versions and configuration."""
    provenance = results["provenance"]
    versions = ", ".join(f"{name} {value}" for name, value in provenance["versions"].items())
    settings = json.dumps(results["config"], indent=1, ensure_ascii=False)
    return (
        f"<h2>Where this comes from</h2><pre>{escape(provenance['command'])}</pre>"
        f'<p class="soft">{escape(provenance["machine"])}, {provenance["cores"]} cores; '
        f"{escape(versions)}.</p><details><summary>configuration</summary>"
        f"<pre>{escape(settings)}</pre></details>"
    )
