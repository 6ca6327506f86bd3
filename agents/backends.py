"""Where trials run: in processes of this machine, on a Ray cluster, or as jobs of SLURM.

All of them run the same function on the same arguments, one thread each, begin a call anew when
its worker dies, and end what they have started when the block ends, however it ends.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agents.local_workers import local_workers
from agents.machine import cores
from graphs.naming import unknown

LOCAL = "local"


class Workers(Protocol):
    """Those who are called.

    Attributes:
        at_once: how many calls may be submitted and not finished; None for any number.
    """

    at_once: int | None

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Call a function of a module; the error is the function's, or `WorkerLostError`."""
        ...


@dataclass(frozen=True)
class Backend:
    """A place to run calls in.

    Attributes:
        name: one of `BACKENDS`.
        jobs: calls at a time; None for as many as there are cores.
        folder: of results, which the workers of other machines must see as well; may be None for
            `local`.
    """

    name: str = LOCAL
    jobs: int | None = None
    folder: Path | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown name, one whose extra is not installed, and no jobs at all."""
        if self.name not in BACKENDS:
            raise unknown("backend", self.name, BACKENDS)
        if self.jobs is not None and self.jobs < 1:
            raise ValueError(f"jobs must be at least 1, got {self.jobs}")
        if self.name != LOCAL and importlib.util.find_spec(self.name) is None:
            raise ValueError(
                f"the backend {self.name} needs a package that is not installed: "
                f"pip install 'dsom-env[{self.name}]'"
            )

    def workers(self, calls: int) -> AbstractContextManager[Workers]:
        """Workers for so many calls."""
        return BACKENDS[self.name](self, max(calls, 1))

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty folder that the workers see, gone when the block ends."""
        if self.name == LOCAL:
            with tempfile.TemporaryDirectory() as name:
                yield Path(name)
            return
        assert self.folder is not None  # noqa: S101 - see the attribute
        path = self.folder.resolve() / ".progress"
        # Of a process that was killed.
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def _local(backend: Backend, calls: int) -> AbstractContextManager[Workers]:
    return local_workers(min(backend.jobs or cores(), calls))


def _ray(backend: Backend, calls: int) -> AbstractContextManager[Workers]:
    from agents.ray_workers import ray_workers

    assert backend.folder is not None  # noqa: S101 - see the attribute
    return ray_workers(backend.folder, backend.jobs, calls)


def _submitit(backend: Backend, calls: int) -> AbstractContextManager[Workers]:
    from agents.submitit_workers import submitit_workers

    assert backend.folder is not None  # noqa: S101 - see the attribute
    return submitit_workers(backend.folder, backend.jobs, calls)


# Those but `local` need the package and the extra of the same name.
BACKENDS: dict[str, Callable[[Backend, int], AbstractContextManager[Workers]]] = {
    LOCAL: _local,
    "ray": _ray,
    "submitit": _submitit,
}
