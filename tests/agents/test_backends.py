"""Trials run elsewhere give the same bits, also where their workers are killed."""

import json
import os
import select
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

import agents.comparison
from agents.backends import BACKENDS, LOCAL, Backend
from agents.comparison import ComparisonConfig, compare
from agents.place import Place
from agents.trial_config import TrialConfig
from agents.tuning.config import TuningConfig
from agents.tuning.space import parse_space
from agents.tuning.study import tune
from agents.workers import run_all, tell_progress
from tests.agents.conftest import SMALL

ELSEWHERE = [name for name in BACKENDS if name != LOCAL]
VICTIM = ("ppo", 101)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray cluster of this machine with two workers, for all tests: it takes seconds to start."""
    ray = pytest.importorskip("ray")
    from agents.ray_workers import connect

    connect(2)
    yield
    ray.shutdown()


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> str:
    """Parametrised; the cluster runs if it is Ray's."""
    name: str = request.param
    if name == "ray":
        request.getfixturevalue("cluster")
    elif name != LOCAL:
        pytest.importorskip(name)
    return name


everywhere = pytest.mark.parametrize("backend", list(BACKENDS), indirect=True)


def configuration(agents: tuple[str, ...], seeds: tuple[int, ...]) -> ComparisonConfig:
    environment = {"rank": 8, "teacher_rank": 8}
    trial = TrialConfig("all", dataset=SMALL, epochs=2, batch=64, environment=environment)
    return ComparisonConfig(agents, seeds, trial)


Weights = dict[str, bytes]


def written(out: Path) -> tuple[dict[str, Any], Weights]:
    """`results.json` up to timing, and all weights."""

    def without_time(value: Any) -> Any:
        if isinstance(value, dict):
            kept = {key: part for key, part in value.items() if "seconds" not in key}
            return {key: without_time(part) for key, part in kept.items()}
        return [without_time(part) for part in value] if isinstance(value, list) else value

    results = json.loads((out / "results.json").read_text("utf-8"))
    del results["provenance"]["command"]
    # Not the files themselves: safetensors shuffles what describes them.
    weights = {
        f"{path.relative_to(out)} {name}": tensor.numpy().tobytes()
        for path in out.rglob("*.safetensors")
        for name, tensor in safetensors.torch.load_file(path).items()
    }
    return without_time(results), weights


def killed_once(trial: TrialConfig, folder: Path) -> dict[str, Any] | str:
    """A trial, in a worker; the victim's process is killed after its first epoch, once."""
    marker = folder.parents[2] / "killed"

    def kill() -> None:
        if (trial.agent, trial.seed) == VICTIM and not marker.exists():
            marker.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        tell = agents.comparison.tell_progress
        patch.setattr(agents.comparison, "tell_progress", lambda: (tell(), kill()))
        return agents.comparison._run_in_worker(trial, folder)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison in processes of this machine."""
    out = tmp_path_factory.mktemp("undisturbed")
    compare(configuration(("none", "ppo"), (100, 101)), out, jobs=2, quiet=True)
    return out


@pytest.mark.parametrize("backend", [LOCAL, "ray"], indirect=True)
def test_the_same_bits_though_a_worker_is_killed(
    backend: str, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents.comparison, "_run_in_worker", killed_once)
    config = configuration(("none", "ppo"), (100, 101))
    # Where the cluster's size is what limits them, nobody says how many.
    jobs = 2 if backend == LOCAL else None
    compare(config, tmp_path, jobs, quiet=True, backend=backend)
    killed = int((tmp_path / "killed").read_text())
    assert killed != os.getpid()
    here, there = written(undisturbed), written(tmp_path)
    assert here == there
    assert len(here[0]["runs"]) == 4
    assert len({name.split()[0] for name in here[1]}) == 6, "four students, two policies"
    assert {path.name for path in undisturbed.iterdir()} | {"killed"} == {
        path.name for path in tmp_path.iterdir()
    }


def test_jobs_too(tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As SLURM's would, in processes of this machine."""
    pytest.importorskip("submitit")
    monkeypatch.setattr(agents.comparison, "_run_in_worker", killed_once)
    agent, seed = VICTIM
    compare(configuration((agent,), (seed,)), tmp_path, 2, quiet=True, backend="submitit")
    assert (tmp_path / "killed").exists()
    (there,), weights = written(tmp_path)[0]["runs"], written(tmp_path)[1]
    assert there in written(undisturbed)[0]["runs"]
    assert weights.items() <= written(undisturbed)[1].items()
    assert not (tmp_path / "submitit").exists()


def alone(lock: Path) -> int:
    """Fails where another one is at work."""
    lock.open("x").close()
    total = sum(range(10**6))
    lock.unlink()
    return total


@everywhere
def test_no_more_jobs_at_a_time_than_asked_for(backend: str, tmp_path: Path) -> None:
    calls = [(number, (tmp_path / "lock",)) for number in range(2 if backend == "submitit" else 8)]
    chosen = Backend(backend, 1, tmp_path)
    assert dict(run_all(alone, calls, chosen, Counter())) == {
        number: sum(range(10**6)) for number, _ in calls
    }


class Counter:
    """A bar of progress."""

    total = 0

    def update(self, more: int) -> None:
        self.total += more


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(what: str) -> None:
    raise ValueError(f"{what} is refused")


def mixed(number: int) -> int:
    """The first dies, the second is refused, the others do."""
    tell_progress()
    if number == 0:
        die()
    return number


@everywhere
def test_a_call_that_kills_all_its_workers_is_given_up(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the others are not."""
    module = "local" if backend == LOCAL else backend
    monkeypatch.setattr(f"agents.{module}_workers.ATTEMPTS", 1)
    counts = range(1 if backend == "submitit" else 3)
    bar = Counter()
    outcomes = dict(run_all(mixed, [(n, (n,)) for n in counts], Backend(backend, 2, tmp_path), bar))
    assert outcomes.pop(0).startswith("WorkerLostError: its worker died")
    assert outcomes == {n: n for n in counts if n}
    assert bar.total == len(counts)


@everywhere
def test_errors_are_those_of_the_function(backend: str, tmp_path: Path) -> None:
    calls = [(0, ("this",))]
    with pytest.raises(ValueError, match=r"^this is refused$"):
        list(run_all(refuse, calls, Backend(backend, 1, tmp_path), Counter()))


def wait_for_ever(pipe: Path) -> None:
    with pipe.open("w") as file:
        file.write(str(os.getpid()))
    signal.pause()


@everywhere
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches processes as Linux does")
def test_ctrl_c_ends_what_runs(backend: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    watched = []

    def interrupted() -> None:
        with Backend(backend, 1, tmp_path).workers(1) as workers:
            workers.submit(wait_for_ever, pipe)
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
    says = rf"pip install 'dsom-env\[{backend}\]'" if backend in BACKENDS else "'ray'|'submitit'"
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=says):
        compare(configuration(("all",), (0,)), out, quiet=True, backend=backend)
    assert not out.exists()


def test_a_study_is_the_same_on_a_cluster(cluster: None, tmp_path: Path) -> None:
    space = parse_space("environment: {gamma: {low: 0.0, high: 10.0}}", "here")
    trial = replace(configuration(("all",), (0,)).trial, epochs=1)
    config = TuningConfig(trial, (0,), space, "here")
    here = tune(config, tmp_path / "here", trials=2, quiet=True)
    there = tune(config, tmp_path / "there", trials=2, quiet=True, backend="ray")
    for one, other in zip(here["trials"], there["trials"], strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
