"""A trained student as a teacher of the next: the same scores, and whom it may not teach."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import safetensors.torch
import torch

from agents.trial import load_trained_student, run_trial
from agents.trial_config import TrialConfig
from graphs import MultimodalGraph
from students.evaluation import evaluate_ranking
from students.saved import load_student, read_about
from teachers.pretraining import PretrainingConfig, load_teacher, teacher_key
from tests.conftest import SMALL

CONFIG = PretrainingConfig(rank=4)
TRIAL: dict[str, Any] = {
    "dataset": SMALL,
    "epochs": 2,
    "batch": 64,
    "environment": {"student": "roth", "rank": 6, "teacher_rank": 6, "regularisation": 0.0},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("junior")
    return folder, run_trial(TrialConfig("all", teachers=("transh",), **TRIAL), folder)


def test_a_junior_says_what_the_student_said(
    trained: tuple[Path, dict[str, Any]], small_graph: MultimodalGraph
) -> None:
    folder, result = trained
    student, graph = load_trained_student(folder)
    teacher = load_teacher(small_graph, f"junior:{folder}", CONFIG)
    asked = torch.arange(8), torch.arange(8)
    assert torch.equal(teacher(*asked), student(*asked))
    assert not any(parameter.requires_grad for parameter in teacher.parameters())

    def score(*queries: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = teacher(*queries)
        return scores

    found = evaluate_ranking(score, graph, "test")
    assert found["mrr"] == pytest.approx(result["test"]["mrr"], abs=1e-6)
    about = read_about(folder / "student.safetensors")
    assert (about.student, about.rank, about.graph) == ("roth", 6, small_graph.fingerprint)


def test_it_teaches_in_another_run(trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = trained
    teachers = (f"junior:{folder}", "transh")
    result = run_trial(TrialConfig("senior", teachers=teachers, **TRIAL), tmp_path)
    assert set(result["mean_mask"]) == set(teachers)
    assert 0 < result["mean_mask"][teachers[0]] <= 1
    # And its own student is one of the third generation.
    assert load_student(tmp_path / "student.safetensors")[1].student == "roth"


def test_another_file_is_another_trial(
    trained: tuple[Path, dict[str, Any]], small_graph: MultimodalGraph, tmp_path: Path
) -> None:
    """Whatever the path: the store and finished trials go by what is in it, not by settings."""
    copy = tmp_path / "student.safetensors"
    source = (trained[0] / "student.safetensors").read_bytes()
    copy.write_bytes(source)
    name = f"junior:{tmp_path}"
    keys = [teacher_key(small_graph, name, CONFIG, 1, 0)]
    keys.append(teacher_key(small_graph, name, replace(CONFIG, rank=9), 1, 0))
    keys.append(teacher_key(small_graph, f"junior:{copy}", CONFIG, 1, 0))
    trial = TrialConfig("all", teachers=(name,), **TRIAL)
    before = trial.key
    weights = safetensors.torch.load(source)
    weights["relation_table"][0, 0] += 1
    about = read_about(copy)
    copy.write_bytes(safetensors.torch.save(weights, metadata=about.header()))
    keys.append(teacher_key(small_graph, name, CONFIG, 1, 0))
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert trial.key != before


def make(**arguments: Any) -> Any:
    arguments = {"judged_folds": None, **arguments}
    return gym.make_vec("DSoM-v0", num_envs=8, rank=4, teacher_rank=4, **arguments)


def test_who_may_not_teach(trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    name = f"junior:{trained[0]}"
    make(dataset=SMALL, teachers=[name])
    with pytest.raises(ValueError, match=r"teachers: .* is missing"):
        make(dataset=SMALL, teachers=["junior:nowhere"])
    with pytest.raises(ValueError, match=r"cannot be cross-fitted; expected folds=1 .* got 3"):
        make(dataset=SMALL, teachers=[name], judged_folds=3)
    with pytest.raises(ValueError, match="student of another graph"):
        make(dataset="planted:entities=170,relations=4,blocks=2", teachers=[name])
    # It has seen the triples that the reward split withholds.
    withheld = make(dataset=SMALL, teachers=[name], reward_fraction=0.1)
    with pytest.raises(ValueError, match="of other training triples"):
        withheld.reset(seed=0)
    for content, words in ((b"nothing", "does not hold a student"), (None, "does not say what")):
        path = tmp_path / "student.safetensors"
        bare = safetensors.torch.save({"a": torch.zeros(1)})
        path.write_bytes(bare if content is None else content)
        with pytest.raises(ValueError, match=words):
            make(dataset=SMALL, teachers=[f"junior:{tmp_path}"])


def test_headers_of_plugged_in_students(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "student.safetensors"
    about = replace(read_about(trained[0] / "student.safetensors"), student="mine")
    weights = {"a": torch.from_numpy(np.zeros(1))}
    path.write_bytes(safetensors.torch.save(weights, metadata=about.header()))
    with pytest.raises(ValueError, match="holds a 'mine' student, and none is registered"):
        load_student(path)
