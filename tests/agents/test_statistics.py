"""Statistics against scipy, brute force and simulation."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from agents.statistics import (
    iqm,
    paired_difference,
    probability_of_improvement,
    stratified_bootstrap,
    summarise,
)
from agents.verdicts import compared, overall_verdict, terminal_table

scores = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30)


@given(values=scores)
def test_iqm_is_scipys_trimmed_mean(values: list[float]) -> None:
    assert iqm(np.array(values)) == pytest.approx(stats.trim_mean(values, 0.25))


@given(first=scores, second=scores)
def test_probability_of_improvement_by_brute_force(first: list[float], second: list[float]) -> None:
    wins = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a in first for b in second)
    ours = probability_of_improvement(np.array(first), np.array(second))
    assert ours == pytest.approx(wins / (len(first) * len(second)))
    assert ours + probability_of_improvement(np.array(second), np.array(first)) == pytest.approx(1)


@pytest.mark.parametrize("count", [2, 3, 5, 12, 31, 32, 60])
def test_paired_interval_is_students_t(count: int) -> None:
    rng = np.random.default_rng(count)
    first, second = rng.normal(size=count), rng.normal(size=count)
    mean, interval = paired_difference(dict(enumerate(first)), dict(enumerate(second)))
    test = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert mean == pytest.approx((first - second).mean())
    assert interval == pytest.approx((test.low, test.high), rel=2e-3)


def test_paired_difference_uses_common_seeds_only() -> None:
    mean, interval = paired_difference({0: 1.0, 1: 5.0}, {0: 0.5, 2: 9.0})
    assert (mean, interval) == (0.5, None)
    with pytest.raises(ValueError, match="common"):
        paired_difference({0: 1.0}, {1: 1.0})


def test_bootstrap_covers_the_mean_of_normals() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        sample = rng.normal(size=(30, 1))
        low, high = stratified_bootstrap(sample, lambda s: float(s.mean()), rng, 200)
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_bootstrap_resamples_within_tasks() -> None:
    tasks = np.array([[0.0, 10.0], [1.0, 11.0]])
    low, high = stratified_bootstrap(
        tasks, lambda s: float(s[:, 1].min()), np.random.default_rng(0)
    )
    assert low >= 10.0
    assert high <= 11.0


def run(agent: str, seed: int, mrr: float) -> dict[str, Any]:
    metrics = {"mrr": mrr, "hits@1": mrr, "hits@3": mrr, "hits@10": mrr}
    return {
        "agent": agent,
        "seed": seed,
        "valid": metrics,
        "test": metrics,
        "seconds": 1.0,
        "search_epochs": 0.0,
    }


def results(gains: dict[str, list[float]]) -> dict[str, Any]:
    runs = [run(agent, i, v) for agent, values in gains.items() for i, v in enumerate(values)]
    found = {"runs": runs, "summary": summarise(runs), "complete": True, "failures": []}
    found["verdict"] = overall_verdict(found)
    return found


BASE = [0.50, 0.52, 0.51]


def shifted(by: float, jitter: float = 0.001) -> list[float]:
    return [v + by + jitter * (-1) ** i for i, v in enumerate(BASE)]


def test_summary_is_sorted_and_pairs_by_seed() -> None:
    found = results({"all": BASE, "ppo": shifted(0.015), "none": shifted(-0.1)})
    assert [row["agent"] for row in found["summary"]] == ["ppo", "all", "none"]
    best = found["summary"][0]
    assert best["probability_of_improvement"] == pytest.approx(8 / 9)
    low, high = best["differences"]["all"]["interval"]
    assert 0 < low < 0.0153 < high < 0.02


def test_verdicts_say_what_the_intervals_allow() -> None:
    found = results(
        {"all": BASE, "up": shifted(0.02), "same": shifted(0, 0.01), "down": shifted(-0.02)}
    )
    words = {row["agent"]: compared(row, "all") for row in found["summary"]}
    assert words["up"].startswith("up beats all by +0.02")
    assert words["down"].startswith("down loses to all")
    assert words["same"].startswith("same is not distinguishable from all")


@pytest.mark.parametrize(
    ("gains", "says"),
    [
        ({"all": BASE, "random": BASE, "ppo": shifted(0.02)}, "choosing helped"),
        ({"all": BASE, "random": shifted(0.02), "ppo": shifted(0.02)}, "did not help.*random"),
        ({"all": BASE, "ppo": shifted(0.02)}, "cannot be said without random"),
        ({"all": [0.5], "random": [0.5], "ppo": [0.6]}, "One seed"),
        ({"all": BASE, "random": BASE, "ppo": [0.6]}, "One seed"),
        ({"all": BASE, "random": BASE[:1], "ppo": BASE}, "One seed"),
        ({"all": BASE, "random": BASE}, "No learning agent"),
    ],
)
def test_overall_verdict(gains: dict[str, list[float]], says: str) -> None:
    import re

    assert re.search(says, str(results(gains)["verdict"]))


def test_learners_that_are_plugged_in_count_too() -> None:
    found = results({"all": BASE, "random": BASE, "mine": shifted(0.02)})
    assert "No learning agent" in found["verdict"]
    for entry in found["runs"]:
        if entry["agent"] == "mine":
            entry["hyperparameters"] = {}
    assert "mine beats every control" in overall_verdict(found)


def test_table_fits_and_is_best_first() -> None:
    text = terminal_table(results({"all": BASE, "single:structure": shifted(0.02)}))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[1].startswith("single:structure")
    assert "mean rank of ties" in text.replace("\n", " ")
