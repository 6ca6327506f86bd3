"""Workers that are jobs of SLURM, or processes of this machine where there is no SLURM."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import submitit

from agents.local_workers import ATTEMPTS, WorkerLostError
from agents.machine import cores
from agents.place import Place, call_in

# Jobs that wait in a queue at a time, where nobody says otherwise.
_QUEUED = 100
# What is asked for where `$SBATCH_TIMELIMIT` asks for nothing else.
_MINUTES = 240


class SubmititWorkers:
    """One job for each call, with one core; a job that dies is submitted again.

    Attributes:
        at_once: calls that may wait here; None for any number.
    """

    at_once: int | None = None

    def __init__(self, place: Place, folder: Path, jobs: int | None) -> None:
        self._place = place
        self._executor = submitit.AutoExecutor(folder)
        self._executor.update_parameters(
            name="dsom", timeout_min=_MINUTES, tasks_per_node=1, cpus_per_task=1
        )
        usual = cores() if self._executor.cluster == "local" else _QUEUED
        self._threads = ThreadPoolExecutor(jobs or usual)
        self._lock = threading.Lock()
        self._running: set[Any] = set()
        self._over = False

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Call a function of a module in a job.

        The future's error is the function's, or `WorkerLostError`.
        """
        return self._threads.submit(self._run, function, arguments)

    def _run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        for _ in range(ATTEMPTS):
            job = self._begin(function, arguments)
            try:
                value, error = job.result()
            except submitit.core.utils.UncompletedJobError:
                continue
            finally:
                with self._lock:
                    self._running.discard(job)
            if error is not None:
                raise error
            return value
        raise WorkerLostError

    def _begin(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        with self._lock:
            if self._over:
                raise CancelledError
            job = self._executor.submit(call_in, self._place, function, arguments)
            self._running.add(job)
            return job

    def finish(self) -> None:
        """Wait for all calls."""
        self._threads.shutdown()

    def kill(self) -> None:
        """Cancel what runs and what waits."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._over = True
        for job in list(self._running):
            job.cancel(check=False)


@contextmanager
def submitit_workers(folder: Path, jobs: int | None, calls: int) -> Iterator[SubmititWorkers]:
    """Workers that are jobs, cancelled when the block ends early.

    Args:
        folder: of results, which every machine must see; `submitit` in it has what jobs have
            written, and is removed when all went well.
        jobs: jobs at a time; None for 100 of SLURM, or as many as this machine has cores.
        calls: how many there will be.
    """
    logs = folder.resolve() / "submitit"
    workers = SubmititWorkers(Place.here(folder), logs, min(jobs, calls) if jobs else None)
    try:
        with _interrupts_heard():
            yield workers
    except BaseException:
        workers.kill()
        raise
    workers.finish()
    shutil.rmtree(logs)


@contextmanager
def _interrupts_heard() -> Iterator[None]:
    """Let processes that begin meanwhile end by Ctrl-C, by which local jobs are cancelled.

    A shell lets what it puts into the background ignore it, and that is inherited.
    """
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if not ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
