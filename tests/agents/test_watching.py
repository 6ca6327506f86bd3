"""Watching a comparison by its files: what is done, what runs, how long it takes, and its end."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from agents.comparison import ComparisonConfig, compare
from agents.names import folder_of
from agents.running import DEAD_AFTER, FILE, end_progress, shown_as_running, write_progress
from agents.trial_config import TrialConfig
from agents.watching import Done, Progress, Snapshot, duration, ending, look, progress_text, watch
from tests.agents.conftest import SMALL
from tests.programs import program

NOW = 1_000_000.0


def results(out: Path, *runs: tuple[str, int, float, float], **changes: Any) -> None:
    document = {
        "complete": False,
        "config": {"agents": ["all", "single:text"], "seeds": [0, 1], "epochs": 10},
        "runs": [
            {"agent": agent, "seed": seed, "valid": {"mrr": mrr}, "seconds": seconds}
            for agent, seed, mrr, seconds in runs
        ],
        "failures": [],
        "verdict": "Choosing helped.",
    }
    (out / "results.json").write_text(json.dumps(document | changes))


def alive(out: Path, age: float = 1.0, started: float = NOW - 100) -> None:
    plan = {"agents": ["all", "single:text"], "seeds": [0, 1], "epochs": 10, "jobs": 1}
    (out / FILE).write_text(json.dumps({**plan, "started": started}))
    os.utime(out / FILE, (NOW - age, NOW - age))


def in_progress(out: Path, agent: str, seed: int, epoch: int, started: float) -> None:
    folder = folder_of(out, agent, seed)
    folder.mkdir(parents=True, exist_ok=True)
    write_progress(folder, started, epoch, 0.25 if epoch else None)


def test_a_comparison_in_the_middle(tmp_path: Path) -> None:
    results(tmp_path, ("all", 0, 0.4, 20.0), ("single:text", 0, 0.3, 60.0))
    alive(tmp_path)
    in_progress(tmp_path, "all", 1, 5, NOW - 15)
    snapshot = look(tmp_path, NOW)
    assert snapshot.state == "running"
    assert snapshot.running == (Progress("all", 1, 5, 0.25, 15.0),)
    assert snapshot.waiting == ["single:text"]
    # Five seconds of the one that runs, and a minute of the one that waits.
    assert snapshot.seconds_left() == pytest.approx(65)
    assert progress_text(snapshot).splitlines() == [
        "2 of 4 trials done, 1 running, 1 waiting",
        "",
        "agent        valid MRR   done  now",
        "all             0.4000    1/2  seed 1: epoch 5/10, 0.2500",
        "single:text     0.3000    1/2",
    ]
    assert ending(snapshot) == "about 65 s left"


def snapshot_of(**changes: Any) -> Snapshot:
    plain: dict[str, Any] = {"state": "running", "agents": ("a", "b"), "seeds": (0, 1)}
    plain |= {"epochs": 10, "jobs": 2, "done": (), "running": (), "failures": (), "verdict": ""}
    return Snapshot(**(plain | changes))


def test_time_left_by_hand() -> None:
    assert snapshot_of().seconds_left() is None
    # Nothing is done: 30 s for 3 of 10 epochs make 100 s a trial, for b as well.
    early = snapshot_of(running=(Progress("a", 0, 3, 0.1, 30.0), Progress("b", 0, 0, None, 10.0)))
    assert early.seconds_left() == pytest.approx((70 + 90 + 100 + 100) / 2)
    # One process has nothing left to do.
    last = snapshot_of(
        done=(Done("a", 0, 0.1, 40.0), Done("a", 1, 0.1, 60.0), Done("b", 0, 0.1, 9.0)),
        running=(Progress("b", 1, 1, 0.1, 5.0),),
    )
    assert last.seconds_left() == pytest.approx(4.0)
    # It takes longer than the others did: nothing is left, and never less.
    late = snapshot_of(done=last.done, running=(Progress("b", 1, 9, 0.1, 50.0),))
    assert late.seconds_left() == 0.0
    assert [duration(s) for s in (40.2, 100, 5400, 7800)] == [
        "40 s",
        "2 min",
        "1 h 30 min",
        "2 h 10 min",
    ]


def test_what_was_killed_is_stopped_and_resuming_forgets_its_signs(tmp_path: Path) -> None:
    failure = {"agent": "all", "seed": 1, "error": "DivergedError: loss"}
    results(tmp_path, ("all", 0, 0.4, 20.0), failures=[failure])
    os.utime(tmp_path / "results.json", (NOW - 500, NOW - 500))
    in_progress(tmp_path, "single:text", 0, 5, NOW - 400)
    alive(tmp_path, age=DEAD_AFTER + 1)
    snapshot = look(tmp_path, NOW)
    assert (snapshot.state, snapshot.running) == ("stopped", ())
    assert "resumes" in ending(snapshot)
    assert "failed: all seed 1: DivergedError: loss" in progress_text(snapshot)
    alive(tmp_path)
    snapshot = look(tmp_path, NOW)
    assert (snapshot.state, snapshot.running, snapshot.failures) == ("running", (), ())


def test_the_ends(tmp_path: Path) -> None:
    every = [(agent, seed, 0.4, 20.0) for agent in ("all", "single:text") for seed in (0, 1)]
    results(tmp_path, *every, complete=True)
    assert look(tmp_path, NOW).state == "complete"
    assert ending(look(tmp_path, NOW)) == "Choosing helped."
    failure = {"agent": "single:text", "seed": 1, "error": "x"}
    results(tmp_path, *every[:3], failures=[failure])
    assert look(tmp_path, NOW).state == "failed"


def test_teachers_come_first(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"results\.json is missing"):
        look(tmp_path, NOW)
    alive(tmp_path)
    snapshot = look(tmp_path, NOW)
    assert snapshot.state == "running"
    assert "first the teachers" in progress_text(snapshot)
    assert ending(snapshot) == ""


def test_it_says_what_has_changed_until_the_end(tmp_path: Path) -> None:
    alive(tmp_path)
    said: list[str] = []

    def begin() -> None:
        in_progress(tmp_path, "all", 0, 1, NOW - 10)

    def nothing() -> None:
        pass

    def end() -> None:
        (tmp_path / FILE).unlink()
        results(tmp_path, ("all", 0, 0.4, 20.0), complete=True)

    steps = iter([begin, nothing, nothing, end])
    last = watch(tmp_path, said.append, lambda: next(steps)(), lambda: NOW)
    assert last.state == "complete"
    assert len(said) == 3
    assert "epoch 1/10, 0.2500" in said[1]
    assert said[-1].endswith("Choosing helped.")


def test_signs_of_life_end_with_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.running.EVERY", 0.01)
    beaten = threading.Event()
    monkeypatch.setattr("agents.running.os.utime", lambda path: beaten.set())
    with shown_as_running(tmp_path, {"agents": ["all"]}):
        assert json.loads((tmp_path / FILE).read_text())["agents"] == ["all"]
        assert beaten.wait(10)
    assert not list(tmp_path.iterdir())
    end_progress(tmp_path)


def test_a_real_comparison_is_watched_to_its_end(tmp_path: Path) -> None:
    """In a pipe: plain text, what the results say, and the end."""
    environment = {"rank": 8, "teacher_rank": 8}
    trial = TrialConfig("all", dataset=SMALL, epochs=2, batch=64, environment=environment)
    out = tmp_path / "c"
    found = compare(ComparisonConfig(("none", "all"), (0,), trial), out, 1, quiet=True)
    assert not list(out.rglob("progress.json"))
    assert not (out / FILE).exists()
    done = program("watch.py", out)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "2 of 2 trials done" in done.stdout
    for run in found["runs"]:
        assert f"{run['valid']['mrr']:.4f}    1/1" in done.stdout
    assert done.stdout.rstrip().endswith(found["verdict"].rstrip())
    (out / "results.json").write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        look(out, NOW)


@pytest.mark.parametrize(
    ("arguments", "says"), [(["nowhere"], "nowhere"), ([".", "--every", "0"], "--every")]
)
def test_bad_input_is_one_sentence(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = program("watch.py", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error:")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
