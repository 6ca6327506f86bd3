"""The programs, as a newcomer runs them: results, and one sentence for bad input."""

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.claim import ClaimConfig, try_claim
from agents.claim_table import render_claim
from agents.command_line import parse_setting
from agents.trial import run_trial
from agents.trial_config import TrialConfig
from teachers.amid import CotrainingConfig
from teachers.pretraining import PretrainingConfig
from tests.agents.conftest import SMALL
from tests.programs import program

ROOT = Path(__file__).parents[1]
SETTINGS = ["--set", "rank=8", "--set", "teacher_rank=8", "--batch", "64", "--epochs", "2"]
# The same as arguments of a trial.
TRIAL: dict[str, Any] = {
    "dataset": SMALL,
    "epochs": 2,
    "batch": 64,
    "environment": {"rank": 8, "teacher_rank": 8},
}


def own_process(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """As in a shell; beside it is `program`, which spares the seconds of a new interpreter."""
    command = [sys.executable, str(ROOT / "scripts" / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ, cwd=ROOT)


def test_train_evaluate_and_again(tmp_path: Path) -> None:
    out = tmp_path / "a2c"
    arguments = ("--agent", "a2c", "--dataset", SMALL, "--out", out, *SETTINGS)
    first = own_process("train.py", *arguments)
    assert first.returncode == 0, first.stderr
    result = json.loads((out / "result.json").read_text("utf-8"))["result"]
    assert f"{result['test']['mrr']:.4f}" in first.stdout
    again = program("train.py", *arguments)
    assert again.stdout == first.stdout
    assert "epoch/s" not in again.stderr
    evaluated = program("evaluate.py", out, "--split", "test", "--by-relation")
    metrics = json.loads(evaluated.stdout)
    assert metrics["mrr"] == pytest.approx(result["test"]["mrr"])
    assert sum(part["count"] for part in metrics["relations"].values()) == metrics["count"]


def test_compare_and_report(tmp_path: Path) -> None:
    out = tmp_path / "c"
    arguments = ("--dataset", SMALL, "--agents", "none,all,random", "--seeds", "100,101")
    done = own_process("compare.py", *arguments, "--out", out, *SETTINGS, "--quiet", "--jobs", 1)
    assert done.returncode == 0, done.stderr
    results = json.loads((out / "results.json").read_text("utf-8"))
    assert [run["seed"] for run in results["runs"]] == [100, 101] * 3
    assert results["summary"][0]["agent"] == done.stdout.splitlines()[1].split()[0]
    page = (out / "report.html").read_text("utf-8")
    again = program("report.py", out, "--out", tmp_path / "page.html")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "page.html").read_text("utf-8") == page
    assert page.count('id="explorer-data"') == 1
    (out / "explorer.json").write_text("[]")
    damaged = program("report.py", out, "--out", tmp_path / "other.html")
    assert damaged.returncode == 2
    assert "explorer.json: not the explorer of a comparison" in damaged.stderr
    (out / "explorer.json").unlink()
    assert program("report.py", out, "--out", tmp_path / "other.html").returncode == 0
    assert "explorer-data" not in (tmp_path / "other.html").read_text("utf-8").split("<script>")[0]


def test_pretrain_shows_every_teacher_and_the_epochs_of_one(tmp_path: Path) -> None:
    sizes = ("--rank", 8, "--top-k", 16, "--epochs", 12)
    objective = ("--objective", "amid", "--setting", "student_rank=2", "--out", tmp_path / "amid")
    done = program("pretrain.py", "--dataset", SMALL, *sizes, *objective)
    assert done.returncode == 0, done.stderr
    header, *rows = done.stdout.splitlines()[1:]
    assert header.split()[1:] == ["structure", "image", "text", "fused"]
    total = next(row for row in rows if row.startswith("all"))
    assert total.count("0.") == 4
    history = json.loads((tmp_path / "amid" / "fused-0" / "history.json").read_text("utf-8"))
    best = max(record["teacher"]["valid_mrr"] for record in history)
    # Kept in half precision.
    assert float(total.split()[-1]) == pytest.approx(best, rel=0.03)
    assert any(f"of {len(history)} epochs" in row or "worked" in row for row in rows)


def test_credit_prices_lessons_at_every_look(tmp_path: Path) -> None:
    out = tmp_path / "credit.json"
    arguments = ("--dataset", SMALL, "--queries", 4, "--set", "reward_fraction=0.2", *SETTINGS)
    done = program("credit.py", *arguments, "--out", out)
    assert done.returncode == 0, done.stderr
    document = json.loads(out.read_text("utf-8"))
    assert [look["epoch"] for look in document["looks"]] == [1, 2]
    last = document["looks"][-1]
    assert last["lessons"] == 16
    assert done.stdout.splitlines()[-1].split()[-1] == f"{last['adagrad']['slope']:.2f}"


def test_everybody_trains_the_same_teachers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Context, store and the policy that asks teachers itself, and pretrain.py before them."""
    monkeypatch.setenv("DSOM_CACHE", str(tmp_path / "cache"))
    values = {"rank": 6, "batch": 48, "epochs": 3, "regularisation": 0, "learning-rate": 0.2}
    flags = [part for flag, value in values.items() for part in (f"--{flag}", value)]
    first = program("pretrain.py", "--dataset", SMALL, "--top-k", 64, *flags)
    assert first.returncode == 0, first.stderr
    made = {folder.name for folder in (tmp_path / "cache").glob("*/*")}
    assert len(made) == 5, "four teachers and their store"
    settings = [f"teacher_{flag.replace('-', '_')}={value}" for flag, value in values.items()]
    done = program(
        "compare.py",
        *("--dataset", SMALL, "--agents", "relation", "--seeds", 1, "--out", tmp_path / "out"),
        *("--teachers", "structure,image,text,fused", "--epochs", 1, "--set", "rank=8"),
        *(part for setting in settings for part in ("--set", setting)),
    )
    assert done.returncode == 0, done.stderr
    assert {folder.name for folder in (tmp_path / "cache").glob("*/*")} == made


def test_amid_prints_the_table_of_what_it_trained(tmp_path: Path) -> None:
    out = tmp_path / "amid"
    done = program(
        *("amid.py", "--dataset", SMALL, "--seeds", "1", "--epochs", 1, "--rank", 2),
        *("--setting", "student_rank=2", "--setting", "width=4", "--out", out),
    )
    assert done.returncode == 0, done.stderr
    there = json.loads((out / "results.json").read_text("utf-8"))
    assert done.stdout == render_claim(there) + "\n"
    strengths = CotrainingConfig(student_rank=2, width=4)
    pretraining = PretrainingConfig(rank=2, max_epochs=1)
    here = try_claim(ClaimConfig(SMALL, (0,), pretraining, strengths), tmp_path / "here")
    for one, other in zip(here["runs"], there["runs"], strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("train.py", ["--agent", "ppoo", "--dataset", SMALL], "ppo"),
        ("train.py", ["--agent", "ppo", "--dataset", "emoij"], "emoji"),
        ("train.py", ["--agent", "ppo", "--epochs", "0"], "epochs"),
        ("train.py", ["--agent", "ppo", "--set", "gama=2"], "gamma"),
        ("train.py", ["--agent", "ppo", "--set", "gama"], "NAME=VALUE"),
        ("train.py", ["--agent", "ppo", "--set", "gamma=["], "YAML"),
        ("train.py", ["--agent", "ppo", "--set", "gamma=much"], "gamma"),
        ("train.py", ["--agent", "ppo", "--set", "num_envs=3"], "batch"),
        ("train.py", ["--agent", "ppo", "--set", "dataset=emoji"], "dataset"),
        ("train.py", ["--agent", "ppo", "--set", "vectorization_mode=sync"], "keyword"),
        ("train.py", ["--agent", "ppo", "--threads", "0"], "--threads"),
        ("train.py", ["--agent", "dqn", "--set", "action_mode=mask"], "only in 'discrete'"),
        ("compare.py", ["--agents", "all,dqn", "--set", "action_mode=mask"], "dqn"),
        ("compare.py", ["--agents", "all,all"], "agents"),
        ("compare.py", ["--agents", "all", "--seeds", "x"], "count"),
        ("compare.py", ["--agents", "all", "--seeds", "0"], "count"),
        ("compare.py", ["--agents", "all", "--jobs", "0"], "--jobs"),
        ("compare.py", ["--agents", "all", "--teachers", "structur"], "structure"),
        ("continual.py", ["--dataset", SMALL, "--tasks", "9"], "at least one for each of 9 tasks"),
        ("modulation.py", ["--dataset", SMALL, "--forms", "none,mpst"], "one of own, mspt"),
        ("credit.py", ["--dataset", SMALL, "--queries", "0"], "--queries"),
        ("credit.py", ["--dataset", SMALL, "--batch", "8", "--queries", "9"], "at most the batch"),
        ("credit.py", ["--dataset", SMALL, "--set", "num_envs=3"], "batch"),
        ("credit.py", ["--dataset", SMALL, "--set", "reward_fraction=0"], "reward split"),
        ("amid.py", ["--dataset", SMALL, "--setting", "entropy=0"], "entropy must be above 0"),
        ("multiview.py", ["--data", "planted", "--student-view", "vew0"], "view0"),
        ("tune.py", ["--agent", "ppoo", "--dataset", SMALL], "ppo"),
        ("tune.py", ["--agent", "ppo", "--dataset", SMALL, "--batch", "6"], "spaces/ppo.yml"),
        ("tune.py", ["--agent", "ppo", "--space", "nowhere.yml"], "nowhere.yml"),
        ("tune.py", ["--agent", "all", "--space", "Makefile"], "Makefile"),
        ("tune.py", ["--agent", "ppo", "--jobs", "0"], "jobs"),
        ("tune.py", ["--agent", "all", "--write"], "does not learn"),
        ("tune.py", ["--agent", "ppo", "--write", "emoji"], "--write"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    name: str, arguments: list[str], says: str, tmp_path: Path
) -> None:
    done = program(name, *arguments, "--out", tmp_path / "out")
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert "error:" in last
    assert says in last
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way_is_one_sentence(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("")
    done = program("train.py", "--agent", "none", "--dataset", SMALL, "--out", target, *SETTINGS)
    assert done.returncode == 2
    assert done.stderr.startswith("error:")
    assert "Traceback" not in done.stderr


def test_settings_are_yaml_with_exponents() -> None:
    assert parse_setting("learning_rate=1e-3") == ("learning_rate", 0.001)
    assert parse_setting("cotrain=false") == ("cotrain", False)
    assert parse_setting("neighbors=answer") == ("neighbors", "answer")


def test_evaluate_and_report_refuse_other_folders(tmp_path: Path) -> None:
    for name in ("evaluate.py", "report.py"):
        done = program(name, tmp_path)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
    (tmp_path / "results.json").write_text('{"runs": []}')
    assert program("report.py", tmp_path).returncode == 2
    assert not (tmp_path / "report.html").exists()


def _heed_ctrl_c() -> None:
    """Tests that run in the background of a shell, as with nohup, inherit its deaf ear."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("train.py", ["--agent", "none", "--out", "x"]),
        ("compare.py", ["--agents", "none", "--out", "x"]),
        ("amid.py", ["--out", "x"]),
        ("tune.py", ["--agent", "all", "--out", "x"]),
        ("evaluate.py", ["x"]),
    ],
)
def test_ctrl_c_during_imports_is_quiet(name: str, arguments: list[str], tmp_path: Path) -> None:
    """A torch that is interrupted while it is imported stands in for a quick finger."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        "import os, signal; os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(9)"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / name), *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        cwd=tmp_path,
        preexec_fn=_heed_ctrl_c,
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_ctrl_c_while_workers_start_is_quiet(tmp_path: Path) -> None:
    arguments = ["--dataset", SMALL, "--agents", "none", "--seeds", "2", "--out", str(tmp_path)]
    command = [sys.executable, str(ROOT / "scripts" / "compare.py"), *arguments, *SETTINGS]
    process = subprocess.Popen(
        [*command, "--quiet"],
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_ctrl_c,
    )

    def working() -> bool:
        threads = Path(f"/proc/{process.pid}/task").glob("*/children")
        children = [child for thread in threads for child in thread.read_text().split()]
        lines = [Path(f"/proc/{child}/cmdline").read_text() for child in children]
        return any("spawn_main" in line for line in lines)

    wait_for(working)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_killed_comparison_leaves_no_workers_and_resumes(tmp_path: Path) -> None:
    out = tmp_path / "c"
    arguments = ["--dataset", SMALL, "--agents", "none,all", "--seeds", "2", "--out", str(out)]
    kill_when("compare.py", [*arguments, *SETTINGS], lambda: any(out.rglob("result.json")))
    done = program("compare.py", *arguments, *SETTINGS, "--quiet", "--jobs", 1)
    assert done.returncode == 0, done.stderr
    results = json.loads((out / "results.json").read_text("utf-8"))
    assert results["complete"]
    assert [(run["agent"], run["seed"]) for run in results["runs"]] == [
        (agent, seed) for agent in ("none", "all") for seed in (0, 1)
    ]
    for run in results["runs"]:
        trial = TrialConfig(run["agent"], run["seed"], **TRIAL)
        assert {**run_trial(trial), "seconds": 0} == {**run, "seconds": 0}, "as if never killed"


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_killed_study_leaves_no_workers_and_resumes(tmp_path: Path) -> None:
    out = tmp_path / "t"
    arguments = ["--dataset", SMALL, "--agent", "all", "--trials", "4", "--jobs", "2"]
    command = [*arguments, "--out", str(out), *SETTINGS]
    kill_when("tune.py", command, (out / "study.json").exists)
    finished = json.loads((out / "study.json").read_text("utf-8"))["trials"]
    done = own_process("tune.py", *command, "--jobs", 1)
    assert done.returncode == 0, done.stderr
    assert "[I " not in done.stderr, "Optuna is silent"
    study = json.loads((out / "study.json").read_text("utf-8"))
    states = [trial["state"] for trial in study["trials"]]
    assert study["complete"]
    assert len(states) - states.count("failed") == 4
    assert study["trials"][0] == finished[0] or finished[0]["state"] == "running"
    assert done.stdout.splitlines()[1].split()[0] == str(study["best"]["number"])
    gamma = study["best"]["parameters"]["environment"]["gamma"]
    assert f"--set gamma={gamma}" in done.stdout
    other = program("tune.py", *command, "--no-prune")
    assert (other.returncode, "another configuration" in other.stderr) == (2, True)


def test_tuning_without_optuna_is_one_sentence(tmp_path: Path) -> None:
    """Optuna is an extra."""
    (tmp_path / "optuna.py").write_text("raise ModuleNotFoundError('none', name='optuna')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "tune.py"), "--agent", "all", "--out", "x"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr == "error: tuning needs Optuna: pip install 'dsom-env[tune]'\n"


def kill_when(name: str, arguments: list[str], condition: Callable[[], bool]) -> None:
    """Start a program, kill it once a condition holds, and wait for its workers to end."""
    marker = secrets.token_hex(8)
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / name), *arguments],
        env=os.environ | {"DSOM_TEST_RUN": marker, "DSOM_CHECKPOINT_SECONDS": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def alive() -> list[int]:
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and marker in (folder / "environ").read_text():
                    found.append(int(folder.name))
            except (OSError, UnicodeDecodeError):
                continue
        return found

    wait_for(condition)
    process.kill()
    process.wait()
    wait_for(lambda: not alive())


def wait_for(condition: Callable[[], bool], seconds: float = 90) -> None:
    """Poll until a condition about another process holds."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited too long"
        threading.Event().wait(0.1)
