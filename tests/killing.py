"""Processes that kill themselves at a given event, and what they leave behind, in hashes."""

import hashlib
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.numpy
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from students.checkpoints import Checkpoints
from students.training import Trainer

# What the system is asked for: a process can be killed before each, and between two.
_CALLS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree")
# What is not the same twice, whoever was killed.
_OF_THE_CLOCK = ("seconds", "provenance", "events", "number")
_IN_THE_CACHE = ("teachers/", "stores/", "lineages/", "unfinished/", ".probe")
_SKIPPED = ("progress.json", "running.json", "report.html", "journal.log", "table.md")


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        killed: whether by itself.
        events: until then.
    """

    killed: bool
    events: int


def run_forked(job: Callable[[Path], object], root: Path, kill_at: int | None = None) -> Ended:
    """Run a job in a process of its own, which is gone, without a goodbye, at an event.

    Events are updates of a student or teacher, and requests to the file system below `root`.

    Args:
        job: called with `root`.
        root: where it works.
        kill_at: number of the event; None lets it end.

    Raises:
        AssertionError: the job raised something.
    """
    read, write = os.pipe()
    with warnings.catch_warnings():
        # From Python 3.12 on: this process may have threads. The child needs none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        os.close(read)
        _be_killed(job, root, kill_at, write)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        events = len(pipe.read())
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or os.waitstatus_to_exitcode(status) == 0, f"see above: status {status}"
    return Ended(killed, events)


def _be_killed(job: Callable[[Path], object], root: Path, kill_at: int | None, pipe: int) -> None:
    code, events = 1, 0

    def happen() -> None:
        nonlocal events
        if events == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        events += 1
        os.write(pipe, b".")

    def heed(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CALLS and str(arguments[0]).startswith(str(root)):
            happen()

    update = Trainer.update

    def counted(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        happen()
        return update(self, *args, **kwargs)

    try:
        torch.set_num_threads(1)
        os.environ["DSOM_CHECKPOINT_SECONDS"] = "0"
        # The disk is not taken away, and the last checkpoint stays to be looked at.
        os.fsync = lambda descriptor: None
        Checkpoints.remove = lambda self: None  # type: ignore[method-assign]
        Trainer.update = counted  # type: ignore[method-assign]
        sys.addaudithook(heed)
        job(root)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def what_is_left(root: Path) -> dict[str, str]:
    """SHA-256 of everything below a folder that must be the same for the same configuration.

    Of TensorBoard files it is that of tags, steps and values. Wall-clock times are left out, and
    checkpoints.
    """
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir() or path.name in _SKIPPED or "events." in path.name:
            continue
        # Others may be writing to a cache: nobody sweeps there.
        if any(part in name for part in _IN_THE_CACHE) and (".tmp" in name or ".probe" in name):
            continue
        if path.name.startswith("state.") or "checkpoints/" in name or "unfinished/" in name:
            continue
        content = path.read_bytes()
        found[name] = (
            _hash(_timeless(json.loads(content))) if path.suffix == ".json" else _sha(content)
        )
    for folder in {path.parent for path in root.rglob("events.*")}:
        found[folder.relative_to(root).as_posix()] = _hash(_curves(folder))
    return found


def last_snapshots(root: Path) -> dict[str, str]:
    """SHA-256 of the last snapshot of every run below a folder."""
    folders = {path.parent.parent for path in root.rglob("state.json")}
    return {
        folder.relative_to(root).as_posix(): _snapshot(max(folder.glob("[0-9]*")))
        for folder in folders
    }


def _snapshot(folder: Path) -> str:
    arrays = safetensors.numpy.load_file(folder / "state.safetensors")
    content = json.loads((folder / "state.json").read_text("utf-8"))
    pairs = [[k, v] for k, v in content["dict"] if k not in _OF_THE_CLOCK]
    return _hash([pairs, {name: _sha(array.tobytes()) for name, array in arrays.items()}])


def _curves(folder: Path) -> dict[str, Any]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag != "time/fps"]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def _timeless(content: Any) -> Any:
    if isinstance(content, list):
        return [_timeless(value) for value in content if not _given_up(value)]
    if isinstance(content, dict):
        return {k: _timeless(v) for k, v in content.items() if k not in _OF_THE_CLOCK}
    return content


def _given_up(value: Any) -> bool:
    """A choice of a study that was killed; another one, with another number, took its place."""
    return isinstance(value, dict) and value.get("state") == "failed"


def _hash(content: Any) -> str:
    return _sha(json.dumps(content, sort_keys=True).encode())


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
