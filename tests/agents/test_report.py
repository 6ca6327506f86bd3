"""The report page from handmade results: what is shown, and what it says."""

import base64
import hashlib
import json
import re
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from agents.calibration import compare_columns
from agents.headroom import head_room
from agents.report import render_report
from agents.report.charts import curve_chart, interval_chart
from agents.report.chosen import (
    band,
    chosen_section,
    planted_section,
    pooled_benefit,
    pooled_shares,
)
from agents.report.explorer import parse_explorer
from agents.report.profiles import profiles_section
from agents.selection import Selection
from agents.statistics import performance_profile, summarise
from agents.verdicts import overall_verdict
from graphs import Queries, load_graph
from tests.agents.conftest import SMALL

TEACHERS = ("structure", "image", "text")
CHANCE = {"all": 1.0, "random": 0.5, "oracle": 0.8, "ppo": 0.3}
MRR = {"all": 0.30, "random": 0.29, "oracle": 0.40, "ppo": 0.36}


def run_of(agent: str, seed: int) -> dict[str, Any]:
    """Masks drawn with the agent's chance; preferences are ppo's chance and a bit, or masks."""
    rng = np.random.default_rng(seed)
    graph = load_graph(SMALL)
    selection = Selection(graph, TEACHERS)
    for _ in range(3):
        rows = rng.integers(0, len(graph.triples["train"]), 200)
        entities, relations, answers = graph.triples["train"][rows].T
        masks = rng.random((200, len(TEACHERS))) < CHANCE[agent]
        selection.add(Queries(entities, relations, answers), masks.astype(np.float32))
        selection.close_epoch()
    preference = CHANCE[agent] + 0.1 * rng.random(50)
    if agent != "ppo":
        preference = (rng.random(50) < CHANCE[agent]).astype(np.float64)
    metrics = {"mrr": MRR[agent] + 0.001 * (seed % 2), "hits@1": 0.1, "hits@3": 0.2, "hits@10": 0.3}
    return {
        "agent": agent,
        "oracle": agent == "oracle",
        "seed": seed,
        "valid": metrics,
        "test": metrics,
        "seconds": 1.0,
        "search_epochs": 0.0,
        "best_epoch": 3,
        "mean_mask": selection.mean_mask(),
        "mask_by_relation": selection.mask_by_relation(),
        "selection": selection.report(),
        "calibration": {
            "preference": "probability" if agent == "ppo" else "mask",
            "held_out": "training queries",
            "queries": 50,
            "held_out_queries": 60,
            "teachers": {name: compare_columns(preference, rng.random(50)) for name in TEACHERS},
        },
        "curves": {"epoch": [1, 2, 3], "valid_mrr": [0.1, 0.2, 0.3]},
        **({"hyperparameters": {}} if agent == "ppo" else {}),
    }


def handmade() -> dict[str, Any]:
    """A comparison of four agents on three seeds that nobody trained."""
    runs = [run_of(agent, seed) for agent in CHANCE for seed in range(3)]
    teacher = {"mrr": 0.4}
    found: dict[str, Any] = {
        "complete": True,
        "config": {"seeds": [0, 1, 2], "epochs": 3, "batch": 64},
        "graph": {
            "name": "planted",
            "entities": 160,
            "relations": 4,
            "triples": {"train": 1, "valid": 1, "test": 1},
        },
        "teachers": {name: {"valid": teacher, "test": teacher} for name in TEACHERS},
        "provenance": {"command": "x", "machine": "y", "cores": 2, "versions": {}},
        "runs": runs,
        "summary": summarise(runs),
        "failures": [],
    }
    found["verdict"] = overall_verdict(found)
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return handmade()


@pytest.fixture
def results(made: dict[str, Any]) -> dict[str, Any]:
    return deepcopy(made)


def rows_of(table: str) -> list[list[str]]:
    """Cells of a table's body, without tags."""
    body = re.search(r"<tbody>(.*?)</tbody>", table, re.S)
    assert body
    rows = re.findall(r"<tr>(.*?)</tr>", body[1], re.S)
    return [[re.sub("<.*?>", "", c) for c in re.findall(r"<t[hd].*?</t[hd]>", r)] for r in rows]


def table_of(page: str, caption: str) -> str:
    found = re.search(rf"<table[^>]*><caption>{caption}.*?</table>", page, re.S)
    assert found, caption
    return found[0]


def test_pooled_benefit_is_that_of_all_queries_together() -> None:
    rng = np.random.default_rng(0)
    values = [rng.normal(size=n) + n for n in (1, 2, 7)]
    bins = [compare_columns(np.zeros(len(part)), part)["bins"][0] for part in values]
    count, mean, error = pooled_benefit(bins)
    together = np.concatenate(values)
    assert count == 10
    assert mean == pytest.approx(together.mean())
    assert error == pytest.approx(together.std(ddof=1) / np.sqrt(10))
    assert pooled_benefit(bins[:1]) == (1, pytest.approx(values[0][0]), None)


def test_pooled_shares_count_queries() -> None:
    groups = [{"queries": 1, "shares": {"a": 1.0}}, {"queries": 3, "shares": {"a": 0.2}}]
    assert pooled_shares(groups) == (4, {"a": pytest.approx(0.4)})


def test_a_band_ends_with_the_shortest_series() -> None:
    assert band([1, 2, 3], [[1.0, 2.0, 5.0], [3.0, 6.0]]) == (
        [1, 2],
        [2.0, 4.0],
        [1.0, 2.0],
        [3.0, 6.0],
    )


def test_agents_that_chose_have_a_fold_and_the_learner_is_open(results: dict[str, Any]) -> None:
    page = chosen_section(results)
    folds = re.findall(r"<details( open)?><summary>(.*?)</summary>", page)
    assert folds == [(" open", "ppo"), ("", "oracle"), ("", "random")]
    assert len(page) < 60_000


def test_weights_are_shown_though_they_make_one_mask(results: dict[str, Any]) -> None:
    """`all` with weights of three quarters is one mask, and not the same teaching."""
    for run in results["runs"]:
        if run["agent"] == "all":
            run["mean_mask"] = dict.fromkeys(TEACHERS, 0.75)
            assert len(run["selection"]["masks"]) == 1
    page = chosen_section(results)
    assert "<summary>all</summary>" in page


def test_a_fold_shows_the_shares_of_its_runs(results: dict[str, Any]) -> None:
    page = chosen_section(results).split("</details>")[0]
    runs = [run for run in results["runs"] if run["agent"] == "ppo"]
    shown = rows_of(table_of(page, "By the training degree"))
    groups = [run["selection"]["by_degree"] for run in runs]
    for row, parts in zip(shown, zip(*groups, strict=True), strict=True):
        queries, shares = pooled_shares(parts)
        assert row[1:] == [*(f"{shares[name]:.2f}" for name in TEACHERS), f"{queries:,}"]
    assert sum(int(row[-1].replace(",", "")) for row in shown) == 3 * 600
    mean = np.mean([run["selection"]["masks"][0]["share"] for run in runs])
    assert rows_of(table_of(page, "Whole masks"))[0] == ["nobody", f"{mean:.2f}"]
    chosen = [np.mean([run["selection"]["epochs"]["chosen"][e] for run in runs]) for e in (0, -1)]
    assert f"Teachers per query {chosen[0]:.2f} → {chosen[1]:.2f}" in page
    # Nobody lacks a modality on this graph.
    assert "By who has which modality" not in page


def test_how_sharp_soft_labels_were_is_told_where_it_was_chosen(results: dict[str, Any]) -> None:
    assert "tempering" not in render_report(results)
    for run in results["runs"]:
        if run["agent"] == "ppo":
            low = 0.5 + 0.125 * (run["seed"] - 1)
            run["selection"]["epochs"]["tempering"] = [1.0, 0.75, low]
    assert render_report(results).count("tempering 1.00 → 0.50, first to last epoch") == 1


def test_who_lacks_a_modality_has_rows_of_its_own(results: dict[str, Any]) -> None:
    for run in results["runs"]:
        groups = run["selection"]["by_presence"]["answer"]["text"]
        groups["lacks"] = {"queries": 7, "shares": dict.fromkeys(TEACHERS, 0.25)}
    page = chosen_section(results).split("</details>")[0]
    rows = rows_of(table_of(page, "By who has which modality"))
    assert [row[0] for row in rows] == ["answer has text", "answer no text"]
    assert rows[1][1:] == ["0.25", "0.25", "0.25", "21"]


def test_calibration_table(results: dict[str, Any]) -> None:
    page = chosen_section(results)
    first, *others = page.split("</details>")
    rows = rows_of(table_of(first, "Preference beside measured benefit"))
    # Preferences lie in [.3, .4); with 150 queries in one bin and in all.
    assert [row[0] for row in rows] == ["0.3 – 0.4", "all queries", "Spearman's ρ"]
    assert rows[0][1].endswith("(150)")
    assert rows[0][1:] == rows[1][1:]
    assert "a teacher may help by memory" in first
    kinds = [row[0] for row in rows_of(table_of(others[0], "Preference beside"))]
    assert kinds == ["not chosen", "chosen", "all queries", "Spearman's ρ"]


def test_older_results_show_what_they_know(results: dict[str, Any]) -> None:
    for run in results["runs"]:
        del run["selection"], run["calibration"], run["oracle"]
    page = render_report(results)
    assert "By relation: mean over 3 seeds" in page
    assert "Preference beside" not in page
    assert "Regret" not in page
    assert "Head-room: oracle beats all by +0.1000 MRR" in page


def test_names_are_escaped(results: dict[str, Any]) -> None:
    text = json.dumps(results).replace('"image"', '"<i>"').replace('"ppo"', '"<b>"')
    page = render_report(json.loads(text))
    assert "<i>" not in page
    assert "<b>" not in page
    assert "&lt;i&gt;" in page


def test_differences_are_bold_where_they_leave_out_zero(results: dict[str, Any]) -> None:
    page = render_report(results)
    table = page.split("<h2>Against every control</h2>")[1].split("</table>")[0]
    rows = {row[0]: row[1:] for row in rows_of(table)}
    assert list(rows) == [row["agent"] for row in results["summary"]]
    assert rows["ppo"] == ["+0.0600[+0.0600, +0.0600]", "+0.0700[+0.0700, +0.0700]"]
    assert rows["all"][0] == "–"
    assert table.count("<strong>") == 6
    for run in results["runs"]:
        if run["agent"] == "ppo":
            run["test"]["mrr"] += 0.2 * run["seed"] - 0.2
    results["summary"] = summarise(results["runs"])
    table = render_report(results).split("<h2>Against every control</h2>")[1].split("</table>")[0]
    assert table.count("<strong>") == 4, "those of ppo against all and random are gone"


def test_head_room_is_a_band_with_shares(results: dict[str, Any]) -> None:
    page = render_report(results)
    section = page.split("<h2>Head-room</h2>")[1].split("<h2>")[0]
    assert 'class="band"' in section
    # .06 of .10, by .29: random is .01 below `all`.
    assert "+0.0600 · 60 % [60 %, 60 %]" in section
    assert "-0.0100 · &lt; 0 [&lt; 0, &lt; 0]" in section
    assert "60 % of it" in results["verdict"]
    without = [run for run in results["runs"] if run["agent"] != "oracle"]
    assert head_room(without) is None
    results |= {"runs": without, "summary": summarise(without)}
    section = render_report(results).split("<h2>Head-room</h2>")[1].split("<h2>")[0]
    assert section == "<p>Needs an oracle and an agent that does not choose.</p>"


def test_regret_is_drawn_where_masks_were_planted(results: dict[str, Any]) -> None:
    page = planted_section(results)
    # Two charts with a line for each of four agents.
    assert page.count("<polyline") == 8
    assert "here image, text; others are not scored" in page
    for run in results["runs"]:
        del run["selection"]["scored"]
    assert planted_section(results) == ""


def test_charts_place_what_they_show() -> None:
    chart = interval_chart([("a", 0.0, -1.0, 1.0)], "x", ["note"], band=(0.0, 1.0))
    bar = re.search(r'x1="([\d.]+)" x2="([\d.]+)" y1="20"', chart)
    room = re.search(r'<rect x="([\d.]+)" width="([\d.]+)"', chart)
    assert bar
    assert room
    start, end = map(float, bar.groups())
    left, width = map(float, room.groups())
    assert left == pytest.approx((start + end) / 2, abs=0.2)
    assert left + width == pytest.approx(end, abs=0.2)
    assert ">note</text>" in chart
    curves = {"b": ([1, 2], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0])}
    first = curve_chart(curves, "y", (0.0, 1.0))
    second = curve_chart(curves, "y", (0.0, 1.0), order=["a", "b"])
    assert re.findall('stroke="(#.*?)"', first) == ["#0072b2"] * 2
    assert re.findall('stroke="(#.*?)"', second) == ["#d55e00"] * 2


def test_a_profile_by_hand() -> None:
    scores = np.array([[0.1, 0.4], [0.3, 0.4]])
    rng = np.random.default_rng(0)
    share, low, high = performance_profile(scores, np.array([0.0, 0.1, 0.3, 0.4]), rng)
    # Above, not at: of the four scores three lie above .1, two above .3, none above .4.
    assert share.tolist() == [1.0, 0.75, 0.5, 0.0]
    # The second relation has the same score in both seeds; only the first can vary.
    assert low.tolist() == [1.0, 0.5, 0.5, 0.0]
    assert high.tolist() == [1.0, 1.0, 0.5, 0.0]


def test_profiles_show_seeds_and_relations_where_these_are_known(results: dict[str, Any]) -> None:
    assert profiles_section(results).count("<polyline") == len(CHANCE)
    for run in results["runs"]:
        run["valid_by_relation"] = {
            name: {"mrr": MRR[run["agent"]] * factor, "count": 3}
            for name, factor in (("a", 0.5), ("b", 1.0))
        }
    page = profiles_section(results)
    assert page.count("<polyline") == 2 * len(CHANCE)
    drawn = re.findall(r'<polyline points="(.*?)".*?<title>(.*?)</title>', page)
    lines = {name: points for points, name in drawn}
    heights = [float(pair.split(",")[1]) for pair in lines["oracle"].split()]
    assert heights == sorted(heights), "shares fall"
    # Half of the relations lie above .2 and the other half does not.
    assert len(set(heights)) == 3
    del results["runs"][0]["valid_by_relation"]
    assert profiles_section(results).count("<polyline") == len(CHANCE)


EXPLORER: dict[str, Any] = {
    "format": 1,
    "valid": 10,
    "relations": ["eats", "</script><b>"],
    "queries": [[0, 0, 0, 1, 2], [1, 1, 1, 0, 0], [2, 0, 0, 0, 0]],
    "names": ["ant", "bee", "</script><script>alert(1)</script>"],
    "types": None,
    "about": [{"text": "small", "facts": [[0, 1, 2]], "triples": 7}]
    + [{"text": None, "facts": [], "triples": 0}] * 2,
    "pictures": {
        "size": 32,
        "columns": 1,
        "lines": 1,
        "of": [0],
        "png": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
        "AABJRU5ErkJggg==",
    },
    "teachers": [{"name": "text", "ranks": [2.0, 1.5, 1.0], "top": [[2, 600, 1, 396, 0, 4]] * 3}],
    "before": [{"seed": 0, "ranks": [3.0, 2.0, 1234.0], "top": [[0, 340]] * 3}],
    "agents": [
        {
            "name": "all",
            "seed": 0,
            "kind": "mask",
            "teachers": ["text", "image"],
            "chosen": [[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]],
            "before": 0,
            "ranks": [1.0, 1.0, 2.0],
            "top": [[1, 900]] * 3,
        },
        {
            "name": "ppo",
            "seed": 0,
            "kind": "probability",
            "teachers": ["text", "image"],
            "chosen": [[0.25, 0.8]] * 3,
            "before": 0,
            "ranks": [1.0, 1.0, 2.0],
            "top": [[1, 900]] * 3,
        },
        {
            "name": "cycle",
            "seed": 0,
            "kind": "mask",
            "teachers": ["text", "image"],
            "chosen": None,
            "before": 0,
            "ranks": [1.0, 1.0, 2.0],
            "top": [[1, 900]] * 3,
        },
    ],
}


def test_the_explorers_data_cannot_leave_their_element(results: dict[str, Any]) -> None:
    page = render_report(results, EXPLORER)
    assert page.count("</script>") == 2, "that of the data, and the page's own"
    data = re.search(r'<script type="application/json" id="explorer-data">(.*?)</script>', page)
    assert data
    assert json.loads(data[1]) == EXPLORER
    assert "3 of the 10 valid queries" in page
    assert "nothing follows from cycle" in page
    assert "explorer" not in render_report(results).split("<script>")[0].split("</style>")[1]


@pytest.mark.parametrize("document", [[], {}, EXPLORER | {"format": 2}, {"format": 1}])
def test_other_files_are_no_explorer(document: Any) -> None:
    assert parse_explorer(EXPLORER) == EXPLORER
    with pytest.raises(ValueError, match=r"not the explorer|format 2 is not 1"):
        parse_explorer(document)


def test_a_comparison_that_has_only_begun_has_a_page(results: dict[str, Any]) -> None:
    results |= {"runs": [], "summary": [], "complete": False, "verdict": "No trial has finished."}
    page = render_report(results, EXPLORER | {"before": [], "agents": []})
    assert "Partial results" in page
    assert "The teachers themselves" in page
    assert "No trial has finished yet: the teachers" in page


def test_the_policy_forbids_the_network_and_other_scripts(results: dict[str, Any]) -> None:
    page = render_report(results, EXPLORER)
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="(.*?)">', page)
    assert policy
    # Before anything that it is to forbid.
    assert page.index("Content-Security-Policy") < min(page.index("<style"), page.index("<title"))
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    script = page[page.rindex("<script>") + 8 : page.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert set(rules) <= {
        *("default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"),
    }
