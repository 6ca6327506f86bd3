"""Trials run elsewhere give the same bits, also where their workers are killed."""

import json
import os
import select
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

import agents.comparison
from agents.backends import BACKENDS, LOCAL, Backend
from agents.comparison import ComparisonConfig, compare
from agents.local_workers import WorkerLostError
from agents.place import Place
from agents.trial import run_trial
from agents.trial_config import TrialConfig
from agents.tuning.config import TuningConfig
from agents.tuning.space import parse_space
from agents.tuning.study import tune
from agents.workers import run_all
from tests.agents import calls
from tests.agents.conftest import SMALL
from tests.agents.killed import VICTIM, killed_once

ELSEWHERE = [name for name in BACKENDS if name != LOCAL]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray cluster of this machine with two workers, for all tests: it takes seconds to start."""
    ray = pytest.importorskip("ray")
    from agents.ray_workers import connect

    connect(2)
    yield
    ray.shutdown()


@pytest.fixture
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Parametrised; the cluster runs if it is Ray's."""
    name: str = request.param
    if name == "ray":
        request.getfixturevalue("cluster")
    elif name == "submitit":
        submitit = pytest.importorskip("submitit")
        # Seconds that it waits for a slow file system to show what a dead job has left.
        monkeypatch.setattr(submitit.Job, "_results_timeout_s", 0)
    return name


everywhere = pytest.mark.parametrize("backend", list(BACKENDS), indirect=True)


def configuration(*agents: str) -> ComparisonConfig:
    environment = {"rank": 8, "teacher_rank": 8}
    trial = TrialConfig("all", dataset=SMALL, epochs=2, batch=64, environment=environment)
    return ComparisonConfig(agents, (101,), trial)


class Counter:
    """A bar of progress."""

    total = 0

    def update(self, more: int) -> None:
        self.total += more


def without_time(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: part for key, part in value.items() if "seconds" not in key}
        return {key: without_time(part) for key, part in kept.items()}
    return [without_time(part) for part in value] if isinstance(value, list) else value


Weights = dict[str, bytes]


def written(out: Path) -> tuple[dict[str, Any], Weights]:
    """`results.json` up to timing, and all weights."""
    results = json.loads((out / "results.json").read_text("utf-8"))
    # Not the files themselves: safetensors shuffles what describes them.
    weights = {
        f"{path.relative_to(out)} {name}": tensor.numpy().tobytes()
        for path in out.rglob("*.safetensors")
        for name, tensor in safetensors.torch.load_file(path).items()
    }
    return without_time(results), weights


def compare_and_kill(out: Path, jobs: int | None, backend: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agents.comparison, "_run_in_worker", killed_once)
        compare(configuration("none", "random", "ppo"), out, jobs, quiet=True, backend=backend)
    assert int((out / "killed").read_text()) != os.getpid()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison in a process of this machine, which was killed in the middle."""
    out = tmp_path_factory.mktemp("local")
    compare_and_kill(out, 1, LOCAL)
    return out


def test_a_killed_worker_is_replaced(local: Path) -> None:
    results, weights = written(local)
    assert results["complete"]
    for trial in configuration(*VICTIM[:1]).trials():
        alone = json.loads(json.dumps(run_trial(trial)))
        assert without_time(alone) in results["runs"]
    assert len({name.split()[0] for name in weights}) == 4, "three students, a policy"


def test_a_cluster_gives_the_same_bits_though_a_worker_is_killed(
    cluster: None, local: Path, tmp_path: Path
) -> None:
    compare_and_kill(tmp_path, None, "ray")
    assert written(tmp_path) == written(local)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in local.iterdir()}


def test_a_study_is_the_same_on_a_cluster(cluster: None, tmp_path: Path) -> None:
    space = parse_space("environment: {gamma: {low: 0.0, high: 10.0}}", "here")
    trial = replace(configuration("all").trial, epochs=1)
    config = TuningConfig(trial, (0,), space, "here")
    here = tune(config, tmp_path / "here", trials=2, quiet=True)
    there = tune(config, tmp_path / "there", trials=2, quiet=True, backend="ray")
    assert without_time(here["trials"]) == without_time(there["trials"])


@everywhere
def test_who_dies_is_begun_anew_and_errors_are_their_own(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSOM_CACHE", str(tmp_path / "cache"))
    with Backend(backend, 2, tmp_path).workers(3) as workers:
        done = workers.submit(calls.die_once, tmp_path / "killed", [1, "a"])
        refused = workers.submit(calls.refuse, "this")
        there = workers.submit(calls.setting, "DSOM_CACHE")
        assert done.result() == [1, "a"]
        with pytest.raises(ValueError, match=r"^this is refused$"):
            refused.result()
        assert there.result() == (str(tmp_path / "cache"), str(Path.cwd()))
    assert int((tmp_path / "killed").read_text()) != os.getpid()
    assert not (tmp_path / "submitit").exists()


@everywhere
def test_a_call_that_kills_all_its_workers_is_given_up(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the others are not."""
    monkeypatch.setattr(f"agents.{backend}_workers.ATTEMPTS", 1)
    with Backend(backend, 1, tmp_path).workers(2) as workers:
        lost, other = workers.submit(calls.die), workers.submit(calls.answer, 1)
        assert isinstance(lost.exception(), WorkerLostError)
        assert other.result() == 1


def test_no_more_jobs_at_a_time_than_asked_for(cluster: None, tmp_path: Path) -> None:
    numbers = range(8)
    lock, bar = tmp_path / "lock", Counter()
    asked = [(number, (lock,)) for number in numbers]
    done = dict(run_all(calls.alone, asked, Backend("ray", 1, tmp_path), bar))
    assert done == dict.fromkeys(numbers, sum(range(10**6)))
    assert bar.total == 0
    assert not list(tmp_path.iterdir())


@everywhere
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches processes as Linux does")
def test_ctrl_c_ends_what_runs(backend: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    watched = []

    def interrupted() -> None:
        with Backend(backend, 1, tmp_path).workers(1) as workers:
            workers.submit(calls.wait_for_ever, pipe)
            watched.append(os.pidfd_open(int(pipe.read_text())))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (worker,) = watched
    try:
        assert select.select([worker], [], [], 60)[0], "it has ended"
    finally:
        os.close(worker)


def test_a_worker_elsewhere_has_the_same_folders_and_versions(tmp_path: Path) -> None:
    here = Place.here(tmp_path)
    before = Path.cwd()
    for changes, says in (
        ({"folder": str(tmp_path / "no")}, f"does not see {tmp_path / 'no'}"),
        ({"directory": str(tmp_path / "no")}, "file system in common"),
        ({"versions": {"numpy": "1.0"}}, "numpy .*, but the command was given with 1.0"),
    ):
        with pytest.raises(ValueError, match=says):
            replace(here, **changes).enter()
    assert Path.cwd() == before


@pytest.mark.parametrize("backend", [*ELSEWHERE, "slurm"])
def test_a_backend_that_is_not_there_is_one_sentence(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.backends.importlib.util.find_spec", lambda name: None)
    says = rf"pip install 'dsom-env\[{backend}\]'" if backend in BACKENDS else "unknown 'slurm'"
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=says):
        compare(configuration("all"), out, quiet=True, backend=backend)
    assert not out.exists()
