"""The map of regimes from handmade results: every figure here was worked out by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from agents.headroom import head_room
from agents.report.regimes import NOTE, parse_regime, render_regimes
from graphs.loading import planted_spec
from tests.agents.test_results import assert_refused, results_of, run_of
from tests.programs import program


def comparison(dataset: str = "planted-medium", **config: Any) -> dict[str, Any]:
    """Head-room of .04 above `fixed`, of which ppo has a half; every agent varies alike by seed."""
    scores = {"none": 0.20, "all": 0.30, "random": 0.31, "fixed": 0.32, "oracle:planted": 0.36}
    scores |= {"single:best": 0.315, "oracle": 0.34, "ppo": 0.34, "a2c": 0.33, "tabular": 0.35}
    runs = [
        run_of(agent, seed, mrr + 0.001 * seed)
        for agent, mrr in scores.items()
        for seed in range(3)
    ]
    results = results_of(runs, dataset=dataset, **config)
    results["graph"]["name"] = dataset.partition(":")[0]
    return results


def table_of(*results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows; runs are called r0, r1, ..."""
    page = render_regimes([parse_regime(one, f"r{i}") for i, one in enumerate(results)])
    table, note = page.split("\n\n", 1)
    assert note == NOTE + "\n"
    lines = [[part.strip() for part in line.strip("|").split("|")] for line in table.splitlines()]
    return lines[0], lines[2:]


def test_a_row_by_hand() -> None:
    header, (row,) = table_of(comparison())
    assert dict(zip(header, row, strict=True)) == {
        "run": "r0",
        "none": "0.2010",
        "all": "0.3010",
        "random": "0.3110",
        "best fixed": "0.3210 `fixed`",
        "best oracle": "0.3610 `oracle:planted`",
        "best learner": "0.3410 `ppo`",
        "head-room": "+0.0400 [+0.0400, +0.0400]",
        "over": "`fixed`",
        "realised": "50 % [50 %, 50 %]",
    }


def test_the_best_are_chosen_by_valid() -> None:
    results = comparison()
    for run in results["runs"]:
        if run["agent"] in ("a2c", "single:best", "oracle", "random"):
            run["valid"] = run["valid"] | {"mrr": 0.5}
    header, (row,) = table_of(results)
    shown = dict(zip(header, row, strict=True))
    assert shown["best learner"] == "0.3310 `a2c`"
    assert shown["best fixed"] == "0.3160 `single:best`"
    assert shown["best oracle"] == "0.3410 `oracle`"
    # Of agents with the same valid MRR the first that was run: random, as head-room has it.
    assert shown["over"] == "`random`"
    room = head_room(results["runs"])
    assert room is not None
    assert (room.oracle, room.control) == ("oracle", "random")
    assert shown["realised"] == room.share_with_interval("a2c")


def test_only_what_differs_has_a_column() -> None:
    """3.0 is the default that 3 is; seeds and budget are settings too."""
    low, high = comparison(environment={"gamma": 1}), comparison(environment={"gamma": 3.0})
    header, rows = table_of(low, high)
    assert header[:3] == ["run", "gamma", "none"]
    assert [row[:2] for row in rows] == [["r0", "1"], ["r1", "3"]]
    assert table_of(high, comparison(environment={}))[0][:2] == ["run", "none"]
    header, rows = table_of(comparison(), comparison(epochs=7, seeds=[4, 5], reward="gate"))
    assert header[1:4] == ["reward", "epochs", "seeds"]
    assert [row[1:4] for row in rows] == [["null", "20", "0, 1, 2"], ["gate", "7", "4, 5"]]


def test_options_of_planted_graphs_are_settings() -> None:
    """Also where one is written down and the other's is the default."""
    three = "planted-medium:modalities=a+b+c,tails_per_head=4"
    header, rows = table_of(comparison(), comparison(three))
    assert header[1:4] == ["modalities", "tails_per_head", "none"]
    assert [row[1:3] for row in rows] == [["text, image", "2"], ["a, b, c", "4"]]
    header, rows = table_of(comparison("planted-easy"), comparison("planted-hard"))
    assert header[1:5] == ["dataset", "noise", "missing", "label_noise"]
    assert rows[1][1:5] == ["planted-hard", "1", "0.3", "0.15"]
    folder = comparison("/some/home/MKG-W:coverage=0.1")
    folder["graph"]["name"] = "MKG-W"
    header, rows = table_of(comparison(three), folder)
    assert header[1:3] == ["dataset", "none"]
    assert [row[1] for row in rows] == [three, "data/MKG-W:coverage=0.1"]


def test_what_was_not_run_is_a_dash() -> None:
    results = comparison()
    results["runs"] = [run for run in results["runs"] if run["agent"] in ("all", "tabular")]
    results["complete"] = False
    header, (row,) = table_of(results)
    shown = dict(zip(header, row, strict=True))
    assert shown.pop("run") == "r0 (partial)"
    assert shown.pop("all") == "0.3010"
    assert set(shown.values()) == {"–"}
    one_seed = comparison()
    one_seed["runs"] = [run for run in one_seed["runs"] if run["seed"] == 0]
    assert table_of(one_seed)[1][0][-3:] == ["+0.0400 (one seed)", "`fixed`", "–"]


def test_variants_with_another_soft_label_are_in_another_regime() -> None:
    changes = {"environment": {"combination": "probs"}}
    results = comparison(variants={"ppo@probs": changes, "ppo@gate": {}})
    other = {"environment": {"reward": "gate"}}
    for name, mrr, differs in (("ppo@probs", 0.39, changes), ("ppo@gate", 0.35, other)):
        results["runs"] += [
            run_of(name, s, mrr, changes=differs, hyperparameters={}) for s in (0, 1)
        ]
    assert table_of(results)[1][0][6] == "0.3500 `ppo@gate`"


def test_planted_specs_by_name() -> None:
    spec = planted_spec("planted-medium:tails_per_head=4,seed=3")
    assert spec is not None
    assert (spec.tails_per_head, spec.seed, spec.noise, spec.entities) == (4, 3, 0.5, 2400)
    assert planted_spec("emoji") is None
    assert planted_spec("data/planted-medium:valid=published") is None
    with pytest.raises(ValueError, match="did you mean 'noise'"):
        planted_spec("planted:nois=1")


def write(folder: Path, results: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def test_the_program_prints_and_writes(tmp_path: Path) -> None:
    low = write(tmp_path / "low", comparison(environment={"gamma": 1}))
    high = write(tmp_path / "high", comparison(environment={"gamma": 9}))
    done = program("regimes.py", high, low / "results.json", "--out", tmp_path / "map.md")
    assert done.returncode == 0, done.stderr
    gammas = {"high": 9, "low": 1}
    found = [parse_regime(comparison(environment={"gamma": gammas[n]}), n) for n in gammas]
    assert done.stdout == render_regimes(found)
    assert (tmp_path / "map.md").read_text("utf-8") == done.stdout


def test_bad_input_is_one_sentence(tmp_path: Path) -> None:
    good, out = write(tmp_path / "good", comparison()), tmp_path / "map.md"
    other = write(tmp_path / "other", {"runs": []})
    assert_refused(
        program("regimes.py", good, other, "--out", out), "other/results.json: not the result of a"
    )
    assert_refused(program("regimes.py", good, good / "results.json", "--out", out), "twice")
    assert_refused(program("regimes.py", tmp_path / "nowhere", "--out", out), "nowhere")
    assert not out.exists()


def test_other_files_are_refused() -> None:
    with pytest.raises(ValueError, match="no trial has finished"):
        parse_regime(comparison() | {"runs": []}, "r")
    with pytest.raises(ValueError, match="did you mean 'noise'"):
        parse_regime(comparison("planted:nois=1"), "r")
