"""What a worker on another machine must have in common with whoever sends it work."""

from __future__ import annotations

import multiprocessing.spawn
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.local_workers import use_one_thread
from agents.machine import provenance

_entered = False


@dataclass(frozen=True)
class Place:
    """Where a program was started.

    Attributes:
        directory: working directory.
        folder: of results.
        cache: `$DSOM_CACHE`, or None.
        main: what a spawned process is told of its parent: its script and its import path.
        versions: of Python and of the packages that results depend on.
    """

    directory: str
    folder: str
    cache: str | None
    main: dict[str, Any]
    versions: dict[str, str]

    @classmethod
    def here(cls, folder: Path) -> Place:
        """Of this process."""
        main = dict(multiprocessing.spawn.get_preparation_data("worker"))
        # A secret between a process and those that it has spawned itself.
        main.pop("authkey", None)
        cache = os.environ.get("DSOM_CACHE")
        return cls(
            str(Path.cwd()),
            str(folder.resolve()),
            str(Path(cache).resolve()) if cache else None,
            main,
            _versions(),
        )

    def enter(self) -> None:
        """Be like a process that was spawned there: same folder, cache, script, one thread.

        Raises:
            ValueError: this machine does not see the folders, or has other versions.
        """
        for path in (self.directory, self.folder):
            if not Path(path).is_dir():
                raise ValueError(
                    f"{platform.node()} does not see {path}: workers on other machines need a "
                    "file system in common with the one that the command was given on"
                )
        here = _versions()
        for name, version in self.versions.items():
            if here[name] != version:
                raise ValueError(
                    f"{platform.node()} has {name} {here[name]}, but the command was given with "
                    f"{version}: results would not be the same"
                )
        if self.cache:
            os.environ["DSOM_CACHE"] = self.cache
        use_one_thread()
        global _entered
        if not _entered:
            before = list(sys.path)
            multiprocessing.spawn.prepare({**self.main, "dir": self.directory})
            sys.path += [entry for entry in before if entry not in sys.path]
            _entered = True
        os.chdir(self.directory)


def call_in(
    place: Place, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> tuple[Any, Exception | None]:
    """What a function returns there, or what it raises.

    Errors are handed back and not raised: those who carry them would wrap them in their own.
    """
    try:
        place.enter()
        return function(*arguments), None
    except Exception as error:
        return None, error


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **provenance()["versions"]}
