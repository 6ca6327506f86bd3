"""`kill -9` at any moment, and the same again: what comes out is what nobody has interrupted."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import safetensors.numpy
import torch
from stable_baselines3.common.logger import Logger

import agents.comparison
import dsom_env as _registration  # noqa: F401
from agents.comparison import ComparisonConfig, compare
from agents.continual.config import ContinualTrial
from agents.continual.trial import finished_continual, run_continual
from agents.registry import AGENTS
from agents.resuming import FOLDER, learner_snapshot
from agents.trial import finished_trial, make_environment, make_learner, run_trial
from agents.trial_config import TrialConfig, checkpoint_key, environment_of, fill_caches, resolve
from agents.tuning.config import TuningConfig
from agents.tuning.space import parse_space
from agents.tuning.study import tune
from dsom_env.sb3 import SB3VecEnv
from graphs import load_graph
from students.checkpoints import Checkpoints, seconds_between
from students.snapshots import UnrecordableError, packed, unpacked
from teachers.amid import CotrainingConfig
from teachers.modulation import Modulation
from teachers.pretraining import PretrainingConfig, load_teachers
from tests.conftest import SMALL
from tests.killing import last_snapshots, run_forked, what_is_left
from tests.tiny_disk import enlarge, mount, mountable

ENVIRONMENT = {"rank": 8, "teacher_rank": 8}
TRIAL = TrialConfig("ppo", 1, SMALL, epochs=2, batch=256, environment=ENVIRONMENT)
SIMPLE = replace(TRIAL, agent="random", teachers=("image", "text"))


def one_trial(config: TrialConfig, root: Path) -> None:
    """As `scripts/train.py` does."""
    if finished_trial(root, config) is None:
        run_trial(config, root)


def train_ppo(root: Path) -> None:
    """A learner that rehearses first, and collects rollouts."""
    one_trial(TRIAL, root)


def train_simple(root: Path) -> None:
    one_trial(SIMPLE, root)


def train_sac(root: Path) -> None:
    """A learner with a memory, whose reward remembers, on a student that asks for candidates."""
    environment = ENVIRONMENT | {"candidates": 8, "random_candidates": 4}
    changes = {"algorithm": {"learning_starts": 256, "rehearsal": 0.5, "batch_size": 64}}
    trial = replace(TRIAL, agent="sac@x", environment=environment, changes=changes, epochs=1)
    one_trial(replace(trial, reward="gate+log_score"), root)


def compare_policies(root: Path) -> None:
    """Agents that do not learn: one tries masks out, one draws; workers in this process."""

    def here(function: Callable[..., Any], calls: Any, jobs: int, bar: Any) -> Any:
        for item, arguments in calls:
            yield item, function(*arguments)

    agents.comparison.run_all = here  # type: ignore[assignment]
    agents.comparison.tell_progress = lambda: None
    trial = replace(SIMPLE, epochs=1)
    compare(ComparisonConfig(("random", "fixed"), (0,), trial), root, 1, quiet=True)


def pretrain(root: Path) -> None:
    """Teachers that are trained alone, held back, and together with others."""
    os.environ["DSOM_CACHE"] = str(root)
    alone = PretrainingConfig(rank=4, max_epochs=4, batch_size=256, modulation=Modulation("mspt"))
    load_teachers(load_graph(SMALL), ("structure", "fused"), alone)
    amid = replace(alone, modulation=None, cotraining=CotrainingConfig(student_rank=4, width=8))
    load_teachers(load_graph(SMALL), ("fused",), amid)


def tune_all(root: Path) -> None:
    space = parse_space("environment: {gamma: {low: 0.5, high: 4.0}}", "here")
    trial = replace(SIMPLE, agent="all")
    tune(TuningConfig(trial, (0, 1), space), root, trials=3, quiet=True)


def continual(root: Path) -> None:
    """Teachers and student go from task to task, and so does an agent that learns."""
    os.environ["DSOM_CACHE"] = str(root / "cache")
    for agent in ("a2c", "random"):
        environment = {"rank": 4, "teacher_rank": 4, "teacher_epochs": 2}
        trial = replace(TRIAL, agent=agent, epochs=1, environment=environment)
        trial = replace(trial, teachers=("text", "attentive"))
        (root / agent).mkdir(parents=True, exist_ok=True)
        config = ContinualTrial("asymmetric", tasks=2, trial=trial)
        if finished_continual(root / agent, config) is None:
            run_continual(config, root / agent)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize(
    ("job", "kills"),
    [
        (train_ppo, 4),
        (train_sac, 4),
        (compare_policies, 3),
        (pretrain, 3),
        (tune_all, 3),
        (continual, 3),
    ],
)
def test_killed_at_random_instants(job: Callable[[Path], None], kills: int, tmp_path: Path) -> None:
    """Twenty instants in all."""
    # What the processes would all have to load is there before they part.
    fill_caches([TRIAL, SIMPLE], quiet=True)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    events = run_forked(job, whole).events
    draws = np.random.default_rng(list(job.__name__.encode()))
    instants = np.sort(draws.integers(0, events, kills))
    for instant in np.diff(instants, prepend=0).tolist():
        assert run_forked(job, parts, instant).killed
    run_forked(job, parts)
    expected = what_is_left(whole)
    assert any(name.endswith(".safetensors") or name == "study.json" for name in expected)
    assert what_is_left(parts) == expected
    # Those of trials that had ended are gone when the next process finds the results.
    snapshots, others = last_snapshots(whole), last_snapshots(parts)
    common = snapshots.keys() & others.keys()
    assert common or job is tune_all
    assert {name: others[name] for name in common} == {name: snapshots[name] for name in common}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_full_disk_and_a_folder_that_is_read_only_lose_nothing(tmp_path: Path) -> None:
    """The command ends with an error; the same again, when there is room, goes on."""
    fill_caches([SIMPLE], quiet=True)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    events = run_forked(train_simple, whole).events
    assert run_forked(train_simple, parts, events // 2).killed
    before = every_file(parts)
    assert any(FOLDER in name for name in before)

    def without_room(root: Path) -> None:
        import resource  # not everywhere, as fork is not

        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        with pytest.raises(OSError, match="too large"):
            train_simple(root)

    def read_only(root: Path) -> None:
        forbid_writing(root)
        with pytest.raises(OSError, match="Read-only"):
            train_simple(root)

    run_forked(read_only, parts)
    assert every_file(parts) == before, "but for what was half written when it was killed"
    run_forked(without_room, parts)
    assert {name for name in before if FOLDER in name} <= every_file(parts).keys()
    run_forked(train_simple, parts)
    assert what_is_left(parts) == what_is_left(whole)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("spare", [0, 20_000])
def test_a_real_disk_that_is_full_loses_nothing(tmp_path: Path, spare: int) -> None:
    """A file system with room for what is there, and for some of what is written next."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    if not mountable(tmp_path / "probe"):
        pytest.skip("this machine lets nobody mount a file system of his own")
    fill_caches([SIMPLE], quiet=True)
    for folder in (whole, parts):
        folder.mkdir()
    events = run_forked(train_simple, whole).events
    assert run_forked(train_simple, parts, events // 2).killed
    kept = every_file(parts)
    expected = what_is_left(whole)

    def on_tiny_disk(root: Path) -> None:
        # A file takes whole pages, and its name and folder one each at the most.
        pages = sum(3 + len(content) // 4096 for content in kept.values())
        mount(root, 4096 * pages + spare)
        for name, content in kept.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        filling = root / "of-somebody-else"
        with pytest.raises(OSError, match="No space left"):
            filling.write_bytes(b"x" * 4096 * pages)
        os.truncate(filling, filling.stat().st_size - spare)
        with pytest.raises(OSError, match="No space left"):
            train_simple(root)
        left = every_file(root)
        assert {name for name in kept if FOLDER in name} <= left.keys()
        filling.unlink()
        enlarge(root, 2**26)
        train_simple(root)
        assert what_is_left(root) == expected

    run_forked(on_tiny_disk, parts)


def every_file(root: Path) -> dict[str, bytes]:
    paths = (path for path in root.rglob("*") if path.is_file() and ".tmp" not in str(path))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def forbid_writing(root: Path) -> None:
    """A file system that is mounted read-only, of which no user is an exception."""

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        wanted = event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")
        if event == "open" and isinstance(arguments[2], int):
            wanted = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if wanted and str(arguments[0]).startswith(str(root)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(arguments[0]))

    sys.addaudithook(refuse)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSOM_CHECKPOINT_SECONDS", "0")


@pytest.mark.usefixtures("always")
def test_two_checkpoints_are_kept_and_the_last_whole_one_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "checkpoints"
    written = Checkpoints(folder, "mine")
    assert written.latest() is None
    for number in range(4):
        assert written.due()
        written.write({"number": number, "weights": torch.full((3,), float(number))})
    assert sorted(path.name for path in folder.iterdir()) == ["000003", "000004"]
    (folder / ".000005.0123456789abcdef.tmp").mkdir()  # of a process that was killed meanwhile
    assert Checkpoints(folder, "mine").latest()["number"] == 3
    assert not caplog.records
    weights = folder / "000004" / "state.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[:-1], b"", pickle.dumps({"number": 9}), whole[:-1] + b"\xff"):
        weights.write_bytes(damaged)
        again = Checkpoints(folder, "mine")
        assert again.latest()["number"] == 2
        (said,) = caplog.messages
        assert str(weights) in said
        assert "has changed" in said
        assert said.endswith(f"going on from {folder / '000003'}")
        caplog.clear()
    again.write({"number": 5})
    assert sorted(path.name for path in folder.iterdir()) == ["000003", "000005"]
    for path in folder.iterdir():
        (path / "manifest.json").write_text("{}")
    assert Checkpoints(folder, "mine").latest() is None
    assert caplog.messages[0].endswith("beginning anew")


@pytest.mark.usefixtures("always")
def test_checkpoints_of_somebody_else_are_refused(tmp_path: Path) -> None:
    config = replace(TRIAL, agent="all", teachers=("text",), epochs=1)
    Checkpoints(tmp_path / FOLDER, "another").write({"phase": "teaching"})
    before = every_file(tmp_path)
    with pytest.raises(ValueError, match=r"000001 comes from another configuration .* remove"):
        run_trial(config, tmp_path)
    assert every_file(tmp_path) == before
    shutil.rmtree(tmp_path / FOLDER)
    # As an earlier version of this code may have left it.
    state = {"phase": "teaching", "probed": [], "recorded": {}, "events": {}, "seconds": 0.0}
    Checkpoints(tmp_path / FOLDER, checkpoint_key(config)).write(state)
    with pytest.raises(ValueError, match="do not fit this version: 'env'; remove them"):
        run_trial(config, tmp_path)


@pytest.mark.usefixtures("always")
def test_what_cannot_be_written_is_given_up_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", "mine")
    checkpoints.write({"number": 1})
    before = every_file(tmp_path)
    write_bytes = Path.write_bytes

    def half(self: Path, content: bytes) -> int:
        write_bytes(self, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", half)
        checkpoints.write({"number": 2})
    assert every_file(tmp_path) == before
    assert "000001 is kept: [Errno 28] No space left on device" in caplog.text
    checkpoints.write({"number": 3})
    assert Checkpoints(tmp_path / "checkpoints", "mine").latest() == {"number": 3}
    checkpoints.write({"what": object()})
    assert "no checkpoints: state.what: object cannot be recorded" in caplog.text
    assert not checkpoints.due()


def test_a_snapshot_comes_back_bit_for_bit() -> None:
    numbers = np.array([0.1, -0.0, np.nan, np.inf])
    snapshot = {
        "plain": [None, True, 2**200, 0.1, float("-inf"), "ü", b"\x00\xff"],
        3: (1, (2.5,)),
        b"key": deque([1, 2], maxlen=5),
        "arrays": [numbers, numbers[::2], np.zeros((0, 3), np.uint32), np.array(7, np.int8)],
        "numbers": [np.float32(0.1), np.bool_(True)],
        "tensors": [torch.tensor(0.1), torch.arange(6).reshape(2, 3).T, torch.ones(2).bool()],
    }
    arrays: dict[str, Any] = {}
    content = json.loads(json.dumps(packed(snapshot, arrays)))
    stored = safetensors.numpy.load(safetensors.numpy.save(arrays))
    again: dict[str, Any] = {}
    assert packed(unpacked(content, stored), again) == content
    assert {k: (v.dtype, v.tobytes()) for k, v in again.items()} == {
        k: (v.dtype, v.tobytes()) for k, v in arrays.items()
    }
    assert unpacked(content, stored)[b"key"].maxlen == 5
    with pytest.raises(UnrecordableError, match=r"state\.x\[1\]: set cannot be recorded"):
        packed({"x": [1, {2}]}, {})
    for foreign in ({"array": "none"}, {"tuple": 3}, {"what": 1}):
        with pytest.raises(ValueError, match="no snapshot"):
            unpacked(foreign, {})


def test_an_environment_goes_on_where_another_one_was() -> None:
    """Across a change of task, with candidates that are drawn and rewards that remember."""
    arguments = ENVIRONMENT | {"teacher_epochs": 1, "tasks": 2, "task_epochs": 1, "horizon": 3}
    arguments |= {"teachers": ("text", "attentive"), "candidates": 8, "random_candidates": 4}
    arguments |= {"reward": "validation+improvement", "reward_fraction": 0.1}

    def begin() -> Any:
        env: Any = gym.make_vec("DSoM-Continual-v0", num_envs=32, dataset=SMALL, **arguments)
        env.reset(seed=3)
        env.action_space.seed(0)
        return env

    env, trace, snapshots = begin(), [], {}
    masks = [env.action_space.sample() for _ in range(24)]
    for number, mask in enumerate(masks):
        if number in (1, 5, 17):
            arrays: dict[str, Any] = {}
            snapshots[number] = packed(env.unwrapped.snapshot(), arrays), arrays
        trace.append(env.step(mask))
    tasks = [info["task"][0] for *_, info in trace]
    assert tasks[1] == tasks[5] == 0
    assert tasks[17] == 1
    for number, (content, arrays) in snapshots.items():
        other = begin()
        other.unwrapped.restore(unpacked(content, arrays))
        for mask, expected in zip(masks[number:], trace[number:], strict=True):
            for one, value in zip(other.step(mask)[:4], expected[:4], strict=True):
                np.testing.assert_array_equal(one, value)


def test_state_that_nobody_understands_is_not_recorded() -> None:
    _, teachers = resolve(TRIAL)

    def learner(agent: str, **algorithm: Any) -> Any:
        trial = replace(TRIAL, agent=f"{agent}@x", changes={"algorithm": algorithm})
        env = make_environment(trial, teachers, environment_of(trial))
        model = make_learner(trial, AGENTS[agent], SB3VecEnv(env))
        model.set_logger(Logger(None, []))
        return model

    with pytest.raises(UnrecordableError, match="SAC explores by use_sde"):
        learner_snapshot(learner("sac", use_sde=True))
    model = learner("ppo")
    learner_snapshot(model)
    model.remembers = {1, 2}
    with pytest.raises(UnrecordableError, match=r"PPO\.remembers: set cannot be recorded"):
        learner_snapshot(model)


def test_the_time_between_checkpoints_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, expected in (("", 60.0), ("0", 0.0), ("1.5", 1.5)):
        monkeypatch.setenv("DSOM_CHECKPOINT_SECONDS", text)
        assert seconds_between() == expected
    for text in ("-1", "often", "nan"):
        monkeypatch.setenv("DSOM_CHECKPOINT_SECONDS", text)
        with pytest.raises(ValueError, match=f"DSOM_CHECKPOINT_SECONDS must be .* got '{text}'"):
            seconds_between()
