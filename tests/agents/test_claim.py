"""AMID's claim: what is switched off where, the table, and runs that are kept."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.claim import VARIANTS, ClaimConfig, try_claim
from agents.claim_table import CLAIMS, difference, render_claim, verdict
from agents.cotraining_records import failures, in_words, scalars, write_records
from graphs import load_graph
from students.evaluation import evaluate_ranking
from teachers.amid import CotrainingConfig
from teachers.pretraining import PretrainingConfig, pretrain
from tests.agents.conftest import SMALL

STRENGTHS = CotrainingConfig(student=2.0, auxiliary=3.0, entropy=4.0, student_rank=2, width=4)


def test_variants_switch_terms_off() -> None:
    config = ClaimConfig(strengths=STRENGTHS)
    found = {
        variant: (c.student, c.auxiliary, c.entropy)
        for variant in VARIANTS
        for c in [config.cotraining_of(variant)]
    }
    assert found == {
        "none": (0.0, 0.0, 0.0),
        "I(T;S)": (2.0, 0.0, 0.0),
        "I(T;S)+I(T;A)": (2.0, 3.0, 0.0),
        "I(T;S)+H(T|S)": (2.0, 0.0, 4.0),
        "all": (2.0, 3.0, 4.0),
    }
    for claim in CLAIMS:
        assert {claim.variant, claim.reference} <= set(VARIANTS)


def record(epoch: int, state: str = "works", accuracy: float = 0.7) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "teacher": {"valid_mrr": 0.3, "loss": 2.0},
        "student": {"valid_mrr": 0.2, "loss": 3.0},
        "auxiliary_loss": {"image": 1.0},
        "information": {"student": 1.5, "image": 2.5},
        "information_limit": 5.0,
        "unexplained": 0.4,
        "adversary": {"loss": 0.6, "accuracy": accuracy, "state": state},
    }


def run(variant: str, seed: int, teacher: float, student: float) -> dict[str, Any]:
    def judged(value: float) -> dict[str, float]:
        return {"last_valid": value, "best_valid": value, "best_epoch": 2, "test": value - 0.01}

    history = [record(1, "blind", 0.5), record(2)]
    return {
        **{"variant": variant, "seed": seed, "seconds": 1.0, "history": history},
        **{"teacher": judged(teacher), "student": judged(student)},
    }


def results() -> dict[str, Any]:
    """Differences by seed of -.02, -.03, -.04 between I(T;S) and none, and the same for others."""
    runs = []
    for seed, noise in enumerate((0.0, 0.01, 0.02)):
        runs += [
            run("none", seed, 0.40 + noise, 0.30),
            run("I(T;S)", seed, 0.38, 0.30),
            run("I(T;S)+I(T;A)", seed, 0.40 + noise, 0.30),
            run("I(T;S)+H(T|S)", seed, 0.38 + noise, 0.30),
            run("all", seed, 0.41 - noise, 0.30 + 2 * noise),
        ]
    return {"graph": {"name": "small"}, "runs": runs}


def test_differences_have_students_interval() -> None:
    """-.02, -.03, -.04: mean -.03, and 4.303 standard errors of .01/√3."""
    mean, interval = difference(results()["runs"], "I(T;S)", "none", "teacher, valid at the end")
    half = 4.303 * 0.01 / np.sqrt(3)
    assert mean == pytest.approx(-0.03)
    assert interval == pytest.approx((-0.03 - half, -0.03 + half))
    gap, _ = difference(results()["runs"], "I(T;S)", "none", "gap, test")
    assert gap == pytest.approx(-0.03)


def test_verdicts() -> None:
    assert verdict(-1, (-0.2, -0.1)) == "as claimed"
    assert verdict(1, (-0.2, -0.1)) == "the contrary"
    assert verdict(1, (0.1, 0.2)) == "as claimed"
    assert verdict(-1, (0.1, 0.2)) == "the contrary"
    assert verdict(1, (-0.1, 0.2)) == "not distinguishable"
    assert verdict(1, None) == "one seed says nothing"


def test_the_table_says_what_the_runs_say() -> None:
    text = render_claim(results())
    lines = text.splitlines()
    assert "small, 2 epochs, seeds 0, 1, 2" in lines[0]
    none = next(line for line in lines if line.startswith("none"))
    assert none.split()[1:6] == ["0.4100", "0.3000", "0.4000", "0.2900", "0.1100"]
    assert none.endswith("0.70 blind 3/6")
    part = lines[lines.index("I(T;S) alone makes the teacher worse (I(T;S) beside none)") + 1]
    assert part.split()[-2:] == ["as", "claimed"]
    assert "-0.0300 [-0.0548, -0.0052]" in part
    part = lines[lines.index("and does so beside I(T;A) (all beside I(T;S)+I(T;A))") + 1]
    assert "not distinguishable" in part
    single = {**results(), "runs": [r for r in results()["runs"] if r["seed"] == 0]}
    assert "one seed says nothing" in render_claim(single)
    with pytest.raises(ValueError, match="no runs"):
        render_claim({**results(), "runs": []})


def test_failures_are_counted_and_said() -> None:
    history = [record(1, "blind"), record(2, "overpowering"), record(3, "blind"), record(4)]
    assert failures(history) == {"blind": 2, "overpowering": 1}
    assert "blind in 2 and overpowering in 1 of 4" in in_words(history)
    assert in_words(history[3:]) == "the adversary worked in all 1 epochs"


def test_records_become_curves(tmp_path: Path) -> None:
    history = [record(1, "blind"), record(2)]
    write_records(tmp_path, history)
    write_records(tmp_path, history)
    assert json.loads((tmp_path / "history.json").read_text("utf-8")) == history
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {name for name, _ in scalars(history[0])}
    failed = events.Scalars("cotraining/adversary/failed")
    assert [(event.step, event.value) for event in failed] == [(1, 1.0), (2, 0.0)]
    mrr = events.Scalars("cotraining/teacher/valid_mrr")
    assert [event.value for event in mrr] == pytest.approx([0.3, 0.3])
    with pytest.raises(ValueError, match="no epochs"):
        write_records(tmp_path, [])


def test_runs_are_kept_and_none_is_training_alone(tmp_path: Path) -> None:
    pretraining = PretrainingConfig(rank=4, max_epochs=2)
    config = ClaimConfig(SMALL, (5,), pretraining, STRENGTHS)
    said: list[str] = []
    first = try_claim(config, tmp_path, report=said.append)
    assert [run["variant"] for run in first["runs"]] == list(VARIANTS)
    assert len(said) == 2 * len(VARIANTS)
    said.clear()
    again = try_claim(config, tmp_path, report=said.append)
    assert not said
    assert again["runs"] == first["runs"]
    assert json.loads((tmp_path / "results.json").read_text("utf-8"))["runs"] == first["runs"]
    for run in first["runs"]:
        curve = [record["teacher"]["valid_mrr"] for record in run["history"]]
        assert run["teacher"]["last_valid"] == curve[-1]
        assert curve[run["teacher"]["best_epoch"] - 1] == run["teacher"]["best_valid"] == max(curve)
    # Only half precision, in which teachers are kept, is between the two.
    graph = load_graph(SMALL)
    settings = PretrainingConfig(rank=4, max_epochs=2, seed=5, evaluate_every=1)
    alone = evaluate_ranking(pretrain(graph, "fused", settings), graph, "test")["mrr"]
    assert first["runs"][0]["teacher"]["test"] == pytest.approx(alone, rel=0.02)
    other = ClaimConfig(SMALL, (5,), PretrainingConfig(rank=5, max_epochs=2), STRENGTHS)
    with pytest.raises(ValueError, match="another configuration"):
        try_claim(other, tmp_path)


def test_bad_configurations(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seeds"):
        ClaimConfig(seeds=(1, 1))
    with pytest.raises(ValueError, match="auxiliary must be above 0"):
        ClaimConfig(strengths=CotrainingConfig(auxiliary=0))
    folder = tmp_path / "runs" / "none" / "0"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{}")
    with pytest.raises(ValueError, match="no finished run"):
        try_claim(ClaimConfig(SMALL), tmp_path)
