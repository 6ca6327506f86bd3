"""The page: verdict, table, charts, teachers by relation, head-room, provenance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

from agents.report.charts import curve_chart, heat_table, interval_chart
from agents.verdicts import FOOTNOTE, compared, learners_of

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--paper:#fff;--line:#d8dee4;
--card:#f6f8fa;--mark:#0072b2;--heat:0,114,178}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa5b1;--paper:#0f1318;
--line:#30363d;--card:#171c23;--mark:#56b4e9;--heat:86,180,233}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,sans-serif}main{max-width:66rem;margin:auto;padding:1rem}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem}
.verdict{background:var(--card);border-left:4px solid var(--mark);padding:.8rem 1rem;
font-size:1.1rem}.soft,caption{color:var(--soft);font-size:.9rem}caption{text-align:left}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .5rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child{text-align:left}thead th{color:var(--soft);font-weight:600}
th button{all:unset;cursor:pointer}th button:focus-visible{outline:2px solid var(--mark)}
svg{width:100%;height:auto;max-width:46rem}svg text{fill:var(--ink);font-size:13px}
svg .tick{fill:var(--soft);font-size:11px}.grid{stroke:var(--line)}
.bar{stroke:var(--mark);stroke-width:3;opacity:.5}.dot{fill:var(--mark)}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:.2rem 0}
.key{display:inline-flex;align-items:center;gap:.4rem;font-size:.9rem}.key svg{width:28px}
.heat{background:rgba(var(--heat),calc(var(--share)*.55));text-align:center}
.heats{max-width:46rem;margin-bottom:1rem}li{margin:.2rem 0}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--card);padding:.8rem;font-size:.85rem}
"""
_SORT = """
document.querySelectorAll('table.sortable th button').forEach((b,i)=>b.onclick=()=>{
const t=b.closest('table').tBodies[0],d=b.dataset.down=b.dataset.down==='1'?'0':'1';
const v=r=>{const s=r.cells[i].dataset.value;return isNaN(s)?s:+s};
[...t.rows].sort((p,q)=>(v(p)>v(q)?1:v(p)<v(q)?-1:0)*(d==='1'?-1:1)).forEach(r=>t.append(r))})
"""


def render_report(results: dict[str, Any]) -> str:
    """The page as one string; every text in it is escaped, and nothing is loaded from anywhere.

    Args:
        results: content of `results.json` (docs/results-format.md).
    """
    config, graph = results["config"], results["graph"]
    triples = graph["triples"]
    title = f"DSoM-v0 on {graph['name']}"
    sections = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{graph["entities"]:,} entities, {graph["relations"]} relations, '
        f"{triples['train']:,} / {triples['valid']:,} / {triples['test']:,} triples; "
        f"{len(config['seeds'])} seeds, {config['epochs']} epochs per student, batch "
        f"{config['batch']}.</p>",
        f'<p class="verdict">{escape(results["verdict"])}</p>',
    ]
    if not results["complete"]:
        sections.append("<p><strong>Partial results:</strong> not every trial has finished.</p>")
    if results["failures"]:
        sections.append(_failures(results["failures"]))
    if results["runs"]:
        sections += [
            _table(results),
            _intervals(results),
            _curves(results),
            _shares(results),
            _head_room(results),
        ]
    sections += [_teachers(results), _provenance(results)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f"{''.join(sections)}</main><script>{_SORT}</script></body></html>\n"
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
    head = "".join(f'<th scope="col"><button>{escape(name)}</button></th>' for name in names)
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
    words = "".join(
        f"<li>{escape(compared(row, 'all'))}</li>"
        for row in results["summary"]
        if row["agent"] != "all"
    )
    return (
        '<h2>The table</h2><div class="wide"><table class="sortable">'
        f"<thead><tr>{head}</tr></thead>"
        f'<tbody>{"".join(body)}</tbody></table></div><p class="soft">{escape(FOOTNOTE)}</p>'
        f"<h2>Against all teachers, paired by seed</h2><ul>{words}</ul>"
    )


def _intervals(results: dict[str, Any]) -> str:
    rows = [(row["agent"], row["iqm"], *row["interval"]) for row in results["summary"]]
    chart = interval_chart(rows, "test MRR, interquartile mean and 95 % interval")
    return f"<h2>Test MRR</h2>{chart}"


def _curves(results: dict[str, Any]) -> str:
    curves = {}
    for row in results["summary"]:
        runs = _runs_of(results, row["agent"])
        length = min(len(run["curves"]["epoch"]) for run in runs)
        columns = list(zip(*(run["curves"]["valid_mrr"][:length] for run in runs), strict=True))
        curves[row["agent"]] = (
            runs[0]["curves"]["epoch"][:length],
            [sum(column) / len(column) for column in columns],
            [min(column) for column in columns],
            [max(column) for column in columns],
        )
    chart = curve_chart(curves, "valid MRR")
    return (
        f'<h2>Learning curves: valid MRR</h2>{chart}<p class="soft">Mean over seeds; the band '
        "reaches from the lowest to the highest seed.</p>"
    )


def _shares(results: dict[str, Any]) -> str:
    teachers = list(results["teachers"])
    tables = []
    learners = learners_of(results)
    for agent in [row["agent"] for row in results["summary"] if row["agent"] in learners]:
        runs = _runs_of(results, agent)
        relations = list(dict.fromkeys(name for run in runs for name in run["mask_by_relation"]))
        rows = {}
        for relation in relations:
            with_relation = [run for run in runs if relation in run["mask_by_relation"]]
            rows[relation] = {
                teacher: _mean(with_relation, "mask_by_relation", relation, teacher)
                for teacher in teachers
            }
        tables.append(heat_table(rows, teachers, f"{agent}: mean over {len(runs)} seeds"))
    if not tables:
        return ""
    return (
        "<h2>Which teacher taught which relation</h2>"
        '<p class="soft">Share of a relation\'s taught queries that each teacher taught, over the '
        f"whole run, exploration included.</p>{''.join(tables)}"
    )


def _head_room(results: dict[str, Any]) -> str:
    scores = {row["agent"]: row["iqm"] for row in results["summary"]}
    title = "<h2>Oracle head-room realised</h2>"
    if not {"oracle", "fixed"} <= scores.keys():
        return f"{title}<p>Needs both oracle and fixed among the agents.</p>"
    room = scores["oracle"] - scores["fixed"]
    if room <= 0:
        return (
            f"{title}<p>The oracle, which sees the answer and picks the teachers that give it the "
            f"most probability, taught a student of test MRR {scores['oracle']:.4f}; the best "
            f"fixed mask {scores['fixed']:.4f}. So it is no upper bound: what a student gains from "
            "soft labels lies in the other entities, and there is no head-room of this kind to "
            "realise.</p>"
        )
    learners = learners_of(results)
    items = "".join(
        f"<li>{escape(agent)}: {(score - scores['fixed']) / room:+.0%}</li>"
        for agent, score in scores.items()
        if agent in learners
    )
    return f"{title}<p>Of {room:.4f} MRR between fixed and oracle:</p><ul>{items}</ul>"


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


def _provenance(results: dict[str, Any]) -> str:
    provenance = results["provenance"]
    versions = ", ".join(f"{name} {value}" for name, value in provenance["versions"].items())
    settings = json.dumps(results["config"], indent=1, ensure_ascii=False)
    return (
        f"<h2>Where this comes from</h2><pre>{escape(provenance['command'])}</pre>"
        f'<p class="soft">{escape(provenance["machine"])}, {provenance["cores"]} cores; '
        f"{escape(versions)}.</p><details><summary>configuration</summary>"
        f"<pre>{escape(settings)}</pre></details>"
    )
