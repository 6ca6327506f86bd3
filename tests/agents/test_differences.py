"""The table of differences from handmade results: every figure here was worked out by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from agents.report.differences import render_differences
from tests.agents.test_results import results_of, run_of
from tests.programs import program

# By seed ppo is above `all` by 1, 2 and 3 points: mean 2, standard error 1/√3, and the quantile of
# Student's t with two degrees of freedom is 4.303, so that the interval is 2 ± 2.484.
SCORES = {"all": [0.30, 0.31, 0.32], "ppo": [0.31, 0.33, 0.35], "none": [0.20, 0.21, 0.22]}


def comparison(seeds: int = 3) -> dict[str, object]:
    return results_of(
        [
            run_of(agent, seed, mrr)
            for agent, scores in SCORES.items()
            for seed, mrr in enumerate(scores[:seeds])
        ]
    )


def rows_of(page: str) -> list[list[str]]:
    lines = page.split("\n\n")[0].splitlines()
    return [[part.strip() for part in line.strip("|").split("|")] for line in lines]


def test_rows_by_hand() -> None:
    header, _, *rows = rows_of(render_differences([comparison()]))
    assert header == ["agent", "test MRR", "− `all`"]
    assert rows == [
        ["`ppo`", "33.0", "+2.0 [-0.5, +4.5]"],
        ["`all`", "31.0", "–"],
        ["`none`", "21.0", "-10.0 [-10.0, -10.0]"],
    ]


def test_bold_is_what_lies_above_zero() -> None:
    _, _, *rows = rows_of(render_differences([comparison()], controls=["none"]))
    assert [row[2] for row in rows] == ["**+12.0 [+9.5, +14.5]**", "**+10.0 [+10.0, +10.0]**", "–"]


def test_one_seed_has_no_interval() -> None:
    page = render_differences([comparison(seeds=1)])
    assert rows_of(page)[2] == ["`ppo`", "31.0", "+1.0 (one seed)"]
    assert "Seeds: 1." in page


def test_who_was_not_run_cannot_be_subtracted() -> None:
    with pytest.raises(ValueError, match=r"fixed was not run; the agents are ppo, all, none"):
        render_differences([comparison()], controls=["fixed"])


def of_graphs() -> list[dict[str, Any]]:
    """Three graphs, on which ppo is above `all` by 1, 2 and 3 points, the means of two seeds."""
    documents = []
    for place, gain in enumerate((0.01, 0.02, 0.03)):
        base = 0.3 + 0.05 * place
        scores = {"all": [base, base + 0.02], "ppo": [base + gain - 0.01, base + gain + 0.03]}
        runs = [run_of(name, seed, mrr) for name in scores for seed, mrr in enumerate(scores[name])]
        document: dict[str, Any] = results_of(runs, seeds=[0, 1])
        document["graph"] = {**document["graph"], "fingerprint": str(place)}
        documents.append(document)
    return documents


def test_graphs_are_what_several_comparisons_are_paired_by() -> None:
    page = render_differences(of_graphs())
    assert rows_of(page)[2:] == [
        ["`ppo`", "38.0", "+2.0 [-0.5, +4.5]"],
        ["`all`", "36.0", "–"],
    ]
    assert "paired by graph" in page
    assert "Graphs: 3, seeds of each: 2." in page


def test_graphs_that_cannot_be_pooled_are_refused() -> None:
    first, second, _ = of_graphs()
    with pytest.raises(ValueError, match="of the same graph"):
        render_differences([first, {**second, "graph": first["graph"]}])
    with pytest.raises(ValueError, match="comparison 2 has other agents, seeds or settings"):
        render_differences([first, {**second, "config": {**second["config"], "epochs": 999}}])


def test_agents_of_another_comparison_stand_beside() -> None:
    """Taught by better teachers, `all` is 1 above itself in every seed."""
    better = {"all": [0.31, 0.32, 0.33]}
    other = results_of(
        [run_of("all", seed, mrr) for seed, mrr in enumerate(better["all"])], agents=["all"]
    )
    page = render_differences([comparison()], ["all", "all of amid"], {"amid": other})
    header, _, *rows = rows_of(page)
    assert header[2:] == ["− `all`", "− `all of amid`"]
    assert ["`all of amid`", "32.0", "**+1.0 [+1.0, +1.0]**", "–"] in rows
    assert ["`all`", "31.0", "–", "-1.0 [-1.0, -1.0]"] in rows
    fewer = {**comparison(), "config": {**other["config"], "seeds": [0, 1]}}
    with pytest.raises(ValueError, match="amid cannot stand beside a comparison with other seeds"):
        render_differences([fewer], None, {"amid": other})
    elsewhere = {**comparison(), "graph": {**other["graph"], "fingerprint": "else"}}
    with pytest.raises(ValueError, match="amid cannot stand beside a comparison on another graph"):
        render_differences([elsewhere], None, {"amid": other})
    with pytest.raises(ValueError, match="amid can stand beside one comparison, got 3"):
        render_differences(of_graphs(), None, {"amid": other})


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(comparison()))
    assert program("differences.py", tmp_path).stdout == render_differences([comparison()])
    other = tmp_path / "other"
    other.mkdir()
    (other / "results.json").write_text(json.dumps(comparison()))
    both = program("differences.py", tmp_path, "--beside", other)
    expected = render_differences([comparison()], None, {"other": comparison()})
    assert both.stdout == expected
    controls = ["all of other", "none"]
    asked = program("differences.py", tmp_path, "--beside", other, "--controls", ",".join(controls))
    expected = render_differences([comparison()], controls, {"other": comparison()})
    assert asked.stdout == expected
    bad = program("differences.py", tmp_path, "--controls", "x")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert "x was not run" in bad.stderr
