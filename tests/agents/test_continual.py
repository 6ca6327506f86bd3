"""Methods against forgetting: the metrics by brute force, and the study that compares them."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.continual.config import ContinualTrial, split_method
from agents.continual.metrics import curves, forgetting, forward_transfer, newest, seen, summary
from agents.continual.report import render_page
from agents.continual.study import Study, run_study, trial_folder
from agents.continual.table import claim, differences, render_markdown
from agents.continual.trial import finished_continual, run_continual
from agents.statistics import paired_difference
from agents.trial_config import TrialConfig
from dsom_env.course import ranks_by_task
from graphs import load_graph
from graphs.tasks import cut_tasks
from students.registry import make_student
from tests.agents.conftest import SMALL

TRIAL = ContinualTrial(
    method="replay",
    tasks=3,
    trial=TrialConfig(
        "all",
        dataset=SMALL,
        epochs=1,
        batch=32,
        environment={"rank": 4, "teacher_rank": 4, "teacher_epochs": 2},
    ),
)


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(2, 5))
    value = st.floats(0, 1)
    row = st.lists(value, min_size=count, max_size=count)
    return {
        "counts": draw(st.lists(st.integers(1, 50), min_size=count, max_size=count)),
        "student": [draw(row)[: task + 1] for task in range(count)],
        "zero_shot": draw(row),
        "untrained": draw(row),
        "teachers": {},
    }


@given(run=records())
@settings(max_examples=50, deadline=None)
def test_metrics_by_brute_force(run: dict[str, Any]) -> None:
    matrix, counts = run["student"], run["counts"]
    for task in range(len(matrix)):
        # Every query of every task so far, one by one.
        queries = [matrix[task][old] for old in range(task + 1) for _ in range(counts[old])]
        assert seen(matrix, counts, task) == pytest.approx(np.mean(queries))
        assert newest(matrix, task) == matrix[task][-1]
        drops = []
        for old in range(task):
            best = -1.0
            for later in range(len(matrix)):
                if old <= later < task and matrix[later][old] > best:
                    best = matrix[later][old]
            drops.append(best - matrix[task][old])
        if task:
            assert forgetting(matrix, task) == pytest.approx(sum(drops) / len(drops))
        else:
            assert forgetting(matrix, task) is None
        gain = run["zero_shot"][task] - run["untrained"][task]
        assert forward_transfer(run["zero_shot"], run["untrained"], task) == gain
    found, numbers = curves(run, "student"), summary(run, "student")
    assert numbers["newest"] == pytest.approx(np.mean([row[-1] for row in matrix]))
    assert numbers["seen"] == found["seen"][-1]
    assert numbers["forward"] == pytest.approx(np.mean(found["forward"][1:]))


def test_forgetting_by_hand() -> None:
    matrix = [[0.5], [0.3, 0.6], [0.4, 0.7, 0.2]]
    assert forgetting(matrix, 1) == pytest.approx(0.2)
    assert forgetting(matrix, 2) == pytest.approx((0.1 - 0.1) / 2), "the second task got better"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("continual")
    return folder, run_continual(TRIAL, folder)


def test_what_is_reported_is_what_the_students_files_say(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    """Each file, loaded into a student of the sizes of its task, ranks as the run says."""
    folder, run = finished
    stream = cut_tasks(load_graph(SMALL), 3, "relation", 0)
    for task in range(3):
        sizes = stream.entities[task], stream.relations[task]
        student = make_student("complex", *sizes, 4, torch.Generator())
        path = folder / f"student-task{task + 1}.safetensors"
        student.load_state_dict(safetensors.torch.load_file(path))
        student.requires_grad_(False)
        ranks = ranks_by_task(student, stream, stream.seen(task), task, "test")
        assert run["student"][task] == pytest.approx([float((1 / r).mean()) for r in ranks])
        assert run["counts"][task] == len(ranks[-1])
    assert [len(row) for row in run["teachers"]["attentive"]] == [1, 2, 3]
    assert run["shares"] == [dict.fromkeys(("structure", "image", "text", "attentive"), 1.0)] * 3
    assert run["zero_shot"][0] == run["untrained"][0], "a new student has learned nothing"
    assert run["zero_shot"][1] != run["untrained"][1]


def test_tensorboard_has_every_metric(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, run = finished
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    for who in ("student", "attentive"):
        for name, values in curves(run, who).items():
            logged = {e.step: e.value for e in events.Scalars(f"tasks/{who}/{name}")}
            wanted = {task + 1: v for task, v in enumerate(values) if v is not None}
            assert logged == pytest.approx(wanted, rel=1e-5)
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")
    for tag in events.Tags()["scalars"]:
        known = re.sub(r"student|attentive(?=/)", "<who>", re.sub(r"\d+", "<j>", tag))
        assert f"`{re.sub(r'share/.*', 'share/<teacher>', known)}`" in page, tag


def test_same_configuration_same_run_and_another_is_refused(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    folder, run = finished
    again = run_continual(TRIAL)
    del again["seconds"]
    assert again == {key: value for key, value in run.items() if key != "seconds"}
    assert finished_continual(folder, TRIAL) == json.loads(json.dumps(run))
    with pytest.raises(ValueError, match="another configuration"):
        finished_continual(folder, replace(TRIAL, order=1))
    assert finished_continual(folder / "nowhere", TRIAL) is None


@pytest.mark.parametrize(("method", "batch"), [("replay", 32), ("finetuning", 96)])
def test_an_agent_that_learns_goes_through_all_tasks(method: str, batch: int) -> None:
    """Also where the last batch of every task is mostly beyond its epochs."""
    trial = replace(TRIAL, method=method, trial=replace(TRIAL.trial, agent="a2c", batch=batch))
    run = run_continual(trial)
    assert [len(row) for row in run["student"]] == [1, 2, 3]
    for shares in run["shares"]:
        assert set(shares) == {"structure", "image", "text", "attentive"}
        assert all(0 < share < 1 for share in shares.values())


def test_the_same_queries_whatever_the_agent() -> None:
    """Tasks are as long, and candidates as many."""
    runs = [
        run_continual(replace(TRIAL, trial=replace(TRIAL.trial, agent=agent)))
        for agent in ("none", "random")
    ]
    assert runs[0]["counts"] == runs[1]["counts"]
    assert runs[0]["untrained"] == runs[1]["untrained"]
    assert runs[0]["zero_shot"][0] == runs[1]["zero_shot"][0]
    assert runs[0]["student"] != runs[1]["student"]


def test_a_study_resumes_and_compares(tmp_path: Path) -> None:
    short = replace(TRIAL, tasks=2)
    study = Study(("finetuning", "asymmetric"), (0, 1), (0, 1), short)
    results = run_study(study, tmp_path, jobs=1, quiet=True)
    assert results["complete"]
    assert not results["failures"]
    assert len(results["runs"]) == 8
    # Only what is missing runs again, and ends with the same numbers.
    gone = study.trials()[5]
    (trial_folder(tmp_path, gone) / "result.json").unlink()
    kept = trial_folder(tmp_path, study.trials()[0]) / "result.json"
    before = kept.stat().st_mtime_ns
    again = run_study(study, tmp_path, jobs=1, quiet=True)
    assert kept.stat().st_mtime_ns == before
    for one, other in zip(results["runs"], again["runs"], strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    with pytest.raises(ValueError, match="another configuration"):
        run_study(replace(study, trial=TRIAL), tmp_path, quiet=True)

    def by_key(method: str, order: int | None) -> dict[int, float]:
        return {
            10 * run["order"] + run["seed"]: summary(run, "student")["seen"]
            for run in results["runs"]
            if run["method"] == method and order in (None, run["order"])
        }

    for order in (None, 0, 1):
        found = differences(results, "asymmetric", "finetuning", "student", "seen", order)
        values = [by_key(method, order) for method in ("asymmetric", "finetuning")]
        assert found == paired_difference(*values)
    markdown = (tmp_path / "table.md").read_text("utf-8")
    assert markdown == render_markdown(json.loads((tmp_path / "results.json").read_text("utf-8")))
    mean, interval = paired_difference(by_key("asymmetric", None), by_key("finetuning", None))
    assert interval is not None
    assert f"{100 * mean:+.2f} [{100 * interval[0]:+.2f}, {100 * interval[1]:+.2f}]" in markdown
    assert claim(results).count("Against finetuning") == 1
    page = render_page(results)
    assert page.count("<polyline") == 2 * 4 + 2 * 3
    assert str(tmp_path.parent) not in markdown


def test_the_claim_says_no_more_than_the_intervals() -> None:
    def run(method: str, order: int, seed: int, mrr: float) -> dict[str, Any]:
        matrix = [[mrr], [mrr, mrr]]
        known = {"student": matrix, "counts": [1, 1], "teachers": {}}
        values = {"zero_shot": [0, 0], "untrained": [0, 0], **known}
        return {"method": method, "order": order, "seed": seed, **values}

    runs = [
        run("finetuning", order, seed, 0.2 + 0.01 * seed)
        for order in (0, 1, 2)
        for seed in (0, 1, 2)
    ]
    for order, gain in ((0, 0.1), (1, 0.0), (2, -0.1)):
        for seed, noise in enumerate((0.001, -0.001, 0.0)):
            runs.append(run("asymmetric", order, seed, 0.2 + 0.01 * seed + gain + noise))
    config = {"methods": ["finetuning", "asymmetric"], "orders": [0, 1, 2]}
    words = claim({"config": config, "runs": runs})
    assert "beats it on order 0 (+10.00" in words
    assert "is not told from it on order 1" in words
    assert "loses to it on order 2" in words


def test_method_names() -> None:
    assert split_method("replay:12") == ("replay", 12)
    assert split_method("joint") == ("joint", 6)
    for text in ("replay:x", "replay:", "finetuning:3", "joint:3"):
        with pytest.raises(ValueError, match="expected a number of triples"):
            split_method(text)
    with pytest.raises(ValueError, match="did you mean 'replay'"):
        split_method("reply")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"agent": "fixed"}, "cannot follow a stream"),
        ({"agent": "ppoo"}, "ppo"),
        ({"environment": {"gama": 2}}, "gamma"),
        ({"environment": {"folds": 3}}, "folds must be 1"),
    ],
)
def test_bad_trials_are_named_before_any_work(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(TRIAL, trial=replace(TRIAL.trial, **changes)).resolve()


def test_bad_studies_are_named(tmp_path: Path) -> None:
    for arguments in (((), (0,), (0,)), (("replay", "replay"), (0,), (0,))):
        with pytest.raises(ValueError, match="methods must be distinct"):
            Study(*arguments, TRIAL)
    with pytest.raises(ValueError, match="training triples of 4 relations"):
        run_study(Study(("replay",), (0,), (0,), replace(TRIAL, tasks=9)), tmp_path / "x")
    assert not (tmp_path / "x").exists()
