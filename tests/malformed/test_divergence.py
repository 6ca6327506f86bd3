"""Numbers that are no longer finite: training stops, says why, and keeps what was good."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.command_line import run
from agents.trial import run_trial
from dsom_env.classroom import Classroom
from graphs import load_graph
from graphs.numbers import DivergedError
from students.evaluation import evaluate_ranking
from students.saved import load_student
from students.training import StepReport, Trainer
from tests.agents.conftest import SMALL
from tests.malformed.conftest import TRIAL

LONGER = replace(TRIAL, epochs=3)


def spoil(monkeypatch: pytest.MonkeyPatch, at: float, value: float = float("nan")) -> None:
    """The student's update number `at` (in epochs) leaves a number that is none."""
    taught = Classroom.teach

    def teach(self: Classroom, *arguments: Any, **keywords: Any) -> StepReport:
        report = taught(self, *arguments, **keywords)
        steps = round(LONGER.epochs * len(self.taught_rows) / LONGER.batch)
        if self.trainer.steps == math.ceil(at * steps / LONGER.epochs):
            with torch.no_grad():
                next(self.trainer.scorer.parameters())[3, 2] = value
        return report

    monkeypatch.setattr(Classroom, "teach", teach)


@pytest.mark.parametrize("agent", ["all", "reinforce"])
@pytest.mark.parametrize(("at", "value"), [(1.5, torch.nan), (2, torch.nan), (2, torch.inf)])
def test_the_last_good_student_is_kept(
    agent: str, at: float, value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it happens at the very end of an epoch, of which no rank may be taken."""
    spoil(monkeypatch, at, value)
    with pytest.raises(DivergedError) as error:
        run_trial(replace(LONGER, agent=agent), tmp_path)
    said, path = str(error.value), tmp_path / "student.safetensors"
    assert "entity_table is not finite at step" in said
    assert f"that of epoch 1, kept in {path}" in said
    student, about = load_student(path)
    graph = load_graph(SMALL)
    assert about.graph == graph.fingerprint
    mrr = evaluate_ranking(student, graph, "valid")["mrr"]
    assert f"valid MRR {mrr:.4f}" in said
    assert not (tmp_path / "result.json").exists(), "no finished trial"


def test_nothing_good_is_said_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial = replace(LONGER, environment=LONGER.environment | {"learning_rate": 1e30})
    with pytest.raises(SystemExit) as ended:
        run(lambda: run_trial(trial, tmp_path) and None)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "at step 1" in said
    assert "no epoch had ended before" in said
    assert not list(tmp_path.glob("*.safetensors"))


def test_the_cause_is_named() -> None:
    graph = load_graph(SMALL)
    from students.registry import make_student

    scorer = make_student("complex", graph.num_entities, graph.num_relations, 4, torch.Generator())
    trainer = Trainer(scorer, graph)
    report = StepReport(float("nan"), torch.tensor([1.0, torch.inf]), torch.zeros(2))
    assert trainer._cause(report) == "the cross-entropy of 1 queries is not finite"
    finite = StepReport(float("inf"), torch.zeros(2), torch.zeros(2))
    assert trainer._cause(finite) == "the regularisation is not finite"
