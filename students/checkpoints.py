"""Checkpoints: where a long run goes on when it was killed. See docs/resume.md."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.numpy
import torch

from graphs.files import atomic_folder, read_manifest, refusing, sweep, write_manifest
from students.snapshots import Arrays, Snapshot, UnrecordableError, packed, unpacked

FORMAT = 1
# Seconds between two checkpoints; a run that is shorter writes none and begins anew.
SECONDS = 60.0
VARIABLE = "DSOM_CHECKPOINT_SECONDS"
# The last one may be damaged by what no program can help; then the one before it is used.
KEPT = 2
# At most one part in so many of the time goes into writing.
_WORK_PER_WRITING = 20
_NAMES = 6 * "[0-9]"
_STATE, _ARRAYS = "state.json", "state.safetensors"
_PACKAGES = ("torch", "numpy", "stable-baselines3")

_log = logging.getLogger(__name__)


def seconds_between() -> float:
    """`$DSOM_CHECKPOINT_SECONDS`, or 60; 0 writes at every opportunity.

    Raises:
        ValueError: it is no number ≥ 0.
    """
    text = os.environ.get(VARIABLE, "")
    try:
        seconds = float(text) if text.strip() else SECONDS
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise ValueError(f"{VARIABLE} must be a number of seconds ≥ 0, got {text!r}")
    return seconds


class Checkpoints:
    """The latest snapshots of one run, each in a folder with its checksums.

    A snapshot that cannot be written (a full disk, a folder that is read-only) is given up with a
    warning: those before it stay, and the run goes on.

    Args:
        folder: of its own; made when the first is written.
        key: hash of everything that decides the run.

    Raises:
        ValueError: see `seconds_between`.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key
        self._every = seconds_between()
        self._wait, self._last = self._every, time.monotonic()
        self._good: list[Path] = []
        self._next = 1
        self._off = False

    def latest(self) -> Snapshot | None:
        """The newest snapshot that is whole; which ones are not is said in a warning.

        Raises:
            ValueError: a checkpoint is of another run, or of another version of this code.
        """
        sweep(self.folder)
        folders = sorted(self.folder.glob(_NAMES))
        self._next = 1 + max((int(path.name) for path in folders), default=0)
        refused, found = [], None
        for path in reversed(folders):
            try:
                with refusing(f"{path} is damaged"):
                    manifest = read_manifest(path)
                    snapshot = _read(path) if found is None else None
            except ValueError as error:
                refused.append(str(error))
                continue
            self._check(path, manifest)
            found = snapshot if found is None else found
            self._good.insert(0, path)
        if refused:
            then = f"going on from {self._good[-1]}" if self._good else "beginning anew"
            _log.warning("%s; %s", "; ".join(refused), then)
        return found

    def _check(self, path: Path, manifest: dict[str, Any]) -> None:
        """Refuse what is of somebody else, and say where it was made if that was elsewhere."""
        if manifest["config_hash"] != self.key:
            raise ValueError(
                f"{path} comes from another configuration than the one asked for, or from other "
                f"code of what was plugged in; choose another folder, or remove {self.folder}"
            )
        about = manifest["extra"]
        if about.get("format") != FORMAT:
            raise ValueError(
                f"{path}: expected a checkpoint of format {FORMAT}, got {about.get('format')!r}; "
                f"remove {self.folder} to begin anew"
            )
        here = _made_with()
        other = {name: was for name, was in about["made_with"].items() if here.get(name) != was}
        if other and not self._good:
            was = ", ".join(
                f"{name} {value} (here {here.get(name)})" for name, value in other.items()
            )
            _log.warning("%s was made with %s: from here on bits may differ", path, was)

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """Say in one sentence that a snapshot does not fit what is to go on from it.

        Raises:
            ValueError: it does not.
        """
        try:
            yield
        except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(
                f"the checkpoints in {self.folder} do not fit this version: {reason}; remove them "
                "to begin anew"
            ) from error

    def due(self) -> bool:
        """Whether it is time to write."""
        return not self._off and time.monotonic() - self._last >= self._wait

    def write(self, snapshot: Snapshot) -> None:
        """Keep a snapshot, and drop all but the one before it.

        What cannot be written is given up with a warning.
        """
        started = time.monotonic()
        path = self.folder / f"{self._next:06d}"
        arrays: Arrays = {}
        try:
            content = json.dumps(packed(snapshot, arrays)).encode()
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_folder(path) as temporary:
                (temporary / _STATE).write_bytes(content)
                (temporary / _ARRAYS).write_bytes(safetensors.numpy.save(arrays))
                about = {"format": FORMAT, "made_with": _made_with()}
                write_manifest(temporary, self.key, about)
        except UnrecordableError as error:
            self.give_up(error)
            return
        except OSError as error:
            kept = f"{self._good[-1]} is kept" if self._good else "there is none before it"
            _log.warning("no checkpoint at %s, %s: %s", path, kept, error)
        else:
            self._good = [*self._good, path][-KEPT:]
            self._next += 1
            for old in self.folder.glob(_NAMES):
                if old not in self._good:
                    shutil.rmtree(old, ignore_errors=True)
        self._last = time.monotonic()
        if self._every:
            self._wait = max(self._every, _WORK_PER_WRITING * (self._last - started))

    def give_up(self, error: UnrecordableError) -> None:
        """Write no more: the run has a state that nobody can record."""
        _log.warning("no checkpoints: %s; when it is killed, the run begins anew", error)
        self._off = True

    def remove(self) -> None:
        """The run is over, and its result is on the disk."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _read(path: Path) -> Snapshot:
    arrays = safetensors.numpy.load_file(path / _ARRAYS)
    return unpacked(json.loads((path / _STATE).read_bytes()), arrays)


def _made_with() -> dict[str, Any]:
    """What bits depend on beside the configuration."""
    versions = {name: version(name) for name in _PACKAGES}
    processor = torch.backends.cpu.get_cpu_capability()
    return {**versions, "threads": torch.get_num_threads(), "instructions": processor}
