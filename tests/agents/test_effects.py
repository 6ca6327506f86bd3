"""What teachers are worth to relations: simulated students whose truth is known."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.effects import (
    AGENT,
    Experiment,
    effects,
    gain_of_choosing,
    least_squares,
    render_effects,
    significant,
)
from agents.trial import run_trial
from agents.trial_config import TrialConfig
from tests.agents.test_results import assert_refused, results_of, run_of
from tests.programs import program

WORTH = np.array([[0.10, -0.04], [0.02, 0.03], [-0.05, -0.01]])
QUERIES = np.array([50.0, 30.0, 20.0])
# Without teachers that harm: .04 on half of the queries, .05 + .01 on a fifth.
BEST = 0.5 * 0.04 + 0.2 * (0.05 + 0.01)


def simulated(
    rng: np.random.Generator, students: int = 60, noise: float = 0.0, worth: Any = WORTH
) -> Experiment:
    masks = rng.integers(0, 2, (students, *worth.shape)).astype(np.float64)
    mrr = 0.3 + (masks * worth).sum(axis=2) + rng.normal(0, noise, (students, len(worth)))
    return Experiment(("likes", "knows", "owns"), ("text", "image"), masks, mrr, QUERIES)


def test_without_noise_everything_is_exact() -> None:
    experiment = simulated(np.random.default_rng(0))
    found, errors = effects(experiment)
    np.testing.assert_allclose(found, WORTH, atol=1e-9)
    np.testing.assert_allclose(errors, 0.0, atol=1e-9)
    gain = gain_of_choosing(experiment)
    assert gain.mean == pytest.approx(BEST)
    assert gain.interval == pytest.approx((BEST, BEST))
    assert gain.dropped == pytest.approx(0.5 * 0.5 + 0.2)


def test_least_squares_is_that_of_numpy_and_its_errors_are_the_textbooks() -> None:
    experiment = simulated(np.random.default_rng(1), noise=0.05)
    masks, mrr = experiment.masks[:, 0], experiment.mrr[:, 0]
    coefficients, errors = least_squares(masks, mrr)
    design = np.column_stack([np.ones(60), masks])
    expected, squares, _, _ = np.linalg.lstsq(design, mrr, rcond=None)
    np.testing.assert_allclose(coefficients, expected)
    variance = squares[0] / (60 - 3)
    np.testing.assert_allclose(
        errors, np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    )


def test_a_teacher_that_no_coin_ever_left_out_has_no_effect() -> None:
    experiment = simulated(np.random.default_rng(2), noise=0.01)
    experiment.masks[:, 0, 1] = 1.0
    found, errors = effects(experiment)
    assert found[0, 1] == 0.0
    assert errors[0, 1] == np.inf
    assert not significant(found, errors)[0, 1]
    # And the other one's is that of a fit without it.
    alone, _ = least_squares(experiment.masks[:, 0, :1], experiment.mrr[:, 0])
    assert found[0, 0] == pytest.approx(alone[1])


def test_noise_does_not_applaud_itself() -> None:
    """Where no teacher matters, choosing wins nothing on average, and its interval says so."""
    rng = np.random.default_rng(3)
    nothing = np.zeros_like(WORTH)
    found, naive, covered = [], [], 0
    for _ in range(300):
        experiment = simulated(rng, students=40, noise=0.05, worth=nothing)
        gain = gain_of_choosing(experiment)
        found.append(gain.mean)
        covered += gain.interval[0] <= 0.0 <= gain.interval[1]
        naive.append(-experiment.shares @ np.minimum(effects(experiment)[0], 0.0).sum(axis=1))
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 3 * error
    assert np.mean(naive) > 15 * error
    assert covered / 300 > 0.89


def test_what_is_won_is_found_under_noise() -> None:
    rng = np.random.default_rng(4)
    gains = [gain_of_choosing(simulated(rng, 80, 0.02)) for _ in range(100)]
    # Noise hides a harm of .01 now and then, so a little less than the best.
    assert 0.9 * BEST < np.mean([gain.mean for gain in gains]) < 1.02 * BEST
    assert np.mean([gain.interval[0] > 0 for gain in gains]) > 0.95


def test_stars_are_for_the_whole_table() -> None:
    found = np.array([[2.5, -3.5], [0.0, 10.0]])
    # 5 % over four cells is 1.25 % each: |z| > 2.498.
    assert significant(found, np.ones((2, 2))).tolist() == [[True, True], [False, True]]
    assert not significant(found[:1, :1], np.full((1, 1), 1.3)).any()


def chance_run(seed: int, masks: np.ndarray, mrr: np.ndarray) -> dict[str, Any]:
    shares = {
        label: dict(zip(("text", "image"), row, strict=True))
        for label, row in zip(("likes", "knows", "owns"), masks.tolist(), strict=True)
    }
    valid = {
        label: {"mrr": value, "count": count}
        for label, value, count in zip(shares, mrr.tolist(), QUERIES.tolist(), strict=True)
    }
    return run_of(AGENT, seed, 0.3, mask_by_relation=shares, valid_by_relation=valid)


def chance_results(students: int = 60) -> dict[str, Any]:
    experiment = simulated(np.random.default_rng(5), 60, 0.001)
    runs = [
        chance_run(seed, experiment.masks[seed], experiment.mrr[seed]) for seed in range(students)
    ]
    results = results_of([run_of("all", 0, 0.3), *runs])
    teacher = results["teachers"]["structure"]
    return results | {"teachers": {"text": teacher, "image": teacher}}


def test_students_are_read_from_results_and_the_page_says_what_was_planted() -> None:
    experiment = Experiment.of(chance_results())
    reference = simulated(np.random.default_rng(5), 60, 0.001)
    np.testing.assert_array_equal(experiment.masks, reference.masks)
    np.testing.assert_array_equal(experiment.mrr, reference.mrr)
    page = render_effects(experiment, 2)
    lines = page.splitlines()
    assert lines[2] == "| relation | valid queries | MRR | text | image |"
    cells = [cell.strip() for cell in lines[4].strip("|").split("|")]
    assert cells[:2] == ["likes", "50"]
    assert cells[3].startswith("+10.0 ±")
    assert cells[4].startswith("-4.0 ±")
    assert cells[4].endswith("*")
    assert "1 relations with fewer valid queries are not shown." in page
    assert "Effects that chance does not explain: 6 of 6, 3 of them harmful." in page
    gain = gain_of_choosing(experiment)
    assert gain.mean == pytest.approx(BEST, abs=5e-4)
    assert f"changes MRR by +{100 * gain.mean:.2f} points" in page


def test_too_few_and_foreign_students_are_refused(tmp_path: Path) -> None:
    def effects_of(results: Any) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "results.json"
        path.write_text(json.dumps(results))
        return program("effects.py", path)

    assert_refused(effects_of(chance_results(8)), "at least 12 seeds of random:relation, got 8")
    older = chance_results()
    del older["runs"][-1]["valid_by_relation"]
    assert_refused(effects_of(older), "lack valid_by_relation: run them again")
    assert_refused(effects_of({"runs": []}), "results.json")
    unfair = chance_results()
    unfair["config"]["environment"]["allow_empty"] = False
    assert_refused(effects_of(unfair), "no coin is fair")
    done = effects_of(chance_results())
    assert done.returncode == 0
    assert done.stdout == render_effects(Experiment.of(chance_results()))


def test_a_trial_of_chance_draws_once_per_relation(small_trial: dict[str, Any]) -> None:
    runs = [run_trial(TrialConfig(AGENT, seed, **small_trial)) for seed in (0, 1)]
    drawn = [list(run["mask_by_relation"].values()) for run in runs]
    shares = {share for masks in drawn for mask in masks for share in mask.values()}
    # Both directions of a relation and all its queries, or none of them.
    assert shares == {0.0, 1.0}
    assert drawn[0] != drawn[1]
    for run in runs:
        cells = run["valid_by_relation"].values()
        whole = sum(cell["mrr"] * cell["count"] for cell in cells)
        assert whole / run["valid"]["count"] == pytest.approx(run["valid"]["mrr"])
