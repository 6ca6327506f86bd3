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
    ratio_interval,
    spearman,
    stratified_bootstrap,
    summarise,
)
from agents.verdicts import against_controls, compared, overall_verdict, terminal_table

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


@pytest.mark.parametrize("count", [3, 5])
def test_with_few_seeds_students_t_covers_and_the_bootstrap_does_not(count: int) -> None:
    """Why verdicts rest on the one and not on the other: coverage of a true difference of 0."""
    rng = np.random.default_rng(0)
    covered = {"t": 0, "bootstrap": 0}
    for _ in range(600):
        gaps = rng.normal(size=count)
        _, interval = paired_difference(dict(enumerate(gaps)), dict.fromkeys(range(count), 0.0))
        assert interval is not None
        low, high = stratified_bootstrap(gaps[:, None], lambda s: s.mean(axis=(1, 2)), rng, 200)
        covered["t"] += interval[0] <= 0 <= interval[1]
        covered["bootstrap"] += low <= 0 <= high
    assert 0.93 <= covered["t"] / 600 <= 0.97
    assert covered["bootstrap"] / 600 < (0.80 if count == 3 else 0.90)


@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_ratio_interval_inverts_students_t(count: int) -> None:
    """A ratio is inside exactly when the t-test does not reject `numerator − ratio·denominator`."""
    rng = np.random.default_rng(count)
    room = 1.0 + 0.02 * rng.normal(size=count)
    gains = 0.4 + 0.02 * rng.normal(size=count) + 0.3 * (room - 1.0)
    found = ratio_interval(gains, room)
    assert found is not None
    ratio, (low, high) = found
    assert ratio == pytest.approx(gains.mean() / room.mean())
    assert low < ratio < high
    for edge in (low, high):
        assert stats.ttest_1samp(gains - edge * room, 0).pvalue == pytest.approx(0.05, abs=2e-4)


def test_no_ratio_to_what_may_be_zero() -> None:
    gains = np.array([0.1, 0.2, 0.3])
    assert ratio_interval(gains, np.array([0.01, -0.01, 0.02])) is None
    assert ratio_interval(gains, np.array([-1.0, -1.01, -0.99])) is None
    assert ratio_interval(gains[:1], np.array([1.0])) is None
    assert ratio_interval(gains, np.array([1.0, 1.01, 0.99])) is not None


@given(
    pairs=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=30).filter(
        lambda pairs: all(len(set(column)) > 1 for column in zip(*pairs, strict=True))
    )
)
def test_spearman_is_scipys(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs, dtype=np.float64).T
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)


def test_no_correlation_with_a_constant() -> None:
    assert spearman(np.ones(4), np.arange(4.0)) is None
    assert spearman(np.array([1.0]), np.array([2.0])) is None


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
        low, high = stratified_bootstrap(sample, lambda s: s.mean(axis=(1, 2)), rng, 200)
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_bootstrap_resamples_within_tasks() -> None:
    tasks = np.array([[0.0, 10.0], [1.0, 11.0]])
    low, high = stratified_bootstrap(
        tasks, lambda s: s[:, :, 1].min(axis=1), np.random.default_rng(0)
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
        (
            {"all": BASE, "random": BASE, "single:best": shifted(0.02), "ppo": shifted(0.02)},
            "did not help here: ppo does not beat single:best",
        ),
        (
            {"all": BASE, "random": BASE, "smooth": BASE, "fixed": BASE, "single:best": BASE}
            | {"ppo": shifted(0.02)},
            r"ppo beats every control \(all, random, smooth, fixed, single:best\)",
        ),
    ],
)
def test_overall_verdict(gains: dict[str, list[float]], says: str) -> None:
    import re

    assert re.search(says, str(results(gains)["verdict"]))


def test_against_every_control_in_one_sentence() -> None:
    """Differences .02 ± .001 (t beats 0), 0 ± .01 (it does not), −.02 ± .001; two of one kind."""
    found = results(
        {"all": BASE, "random": shifted(-0.02), "smooth": shifted(0.02), "ppo": shifted(0, 0)}
        | {"fixed": shifted(0, 0.01)}
    )
    (row,) = [row for row in found["summary"] if row["agent"] == "ppo"]
    words = against_controls(row, ["random", "all", "smooth", "fixed", "absent"])
    assert words.startswith("ppo beats random (+0.0197 [")
    assert (
        "; is not distinguishable from all (+0.0000 [+0.0000, +0.0000]), fixed (-0.0033 [" in words
    )
    assert "; loses to smooth (-0.0203 [" in words
    assert "absent" not in words
    alone = results({"all": BASE[:1], "ppo": BASE[:1]})["summary"]
    assert "cannot be told on one seed from all (+0.0000)" in against_controls(alone[1], ["all"])


def test_an_oracle_is_no_learner() -> None:
    found = results({"all": BASE, "random": BASE, "mine": shifted(0.02)})
    for entry in found["runs"]:
        entry |= {"hyperparameters": {}, "oracle": True} if entry["agent"] == "mine" else {}
    assert "No learning agent" in overall_verdict(found)


def test_learners_that_are_plugged_in_count_too() -> None:
    found = results({"all": BASE, "random": BASE, "mine": shifted(0.02)})
    assert "No learning agent" in found["verdict"]
    for entry in found["runs"]:
        if entry["agent"] == "mine":
            entry["hyperparameters"] = {}
    assert "mine beats every control" in overall_verdict(found)


def test_table_fits_and_is_best_first() -> None:
    gains = {"all": BASE, "random": BASE, "smooth": shifted(-0.1), "fixed": shifted(0.001)}
    gains |= {"single:structure": shifted(0.02), "ppo": shifted(0.03)}
    text = terminal_table(results(gains))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[1].startswith("ppo")
    assert lines[2].startswith("single:structure")
    assert "of room" not in text
    assert "mean rank of ties" in text.replace("\n", " ")
    text = terminal_table(results(gains | {"oracle:relation": shifted(0.06)}))
    assert max(map(len, text.splitlines())) <= 100
    # The control is single:structure, .02 above `all`: ppo has a quarter of the .04 beyond it.
    assert text.splitlines()[0].endswith("of room")
    assert text.splitlines()[2].endswith(" 25 %")
    assert "ppo realises 25 % of it [" in text.replace("\n", " ")
