"""Processes of this machine that work for a comparison or a study, and are gone when it is."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

# How often a call is begun whose worker keeps dying.
ATTEMPTS = 4


class WorkerLostError(ChildProcessError):
    """Every worker that began a call has died: killed, or out of memory."""

    def __init__(self) -> None:
        super().__init__(
            f"its worker died {ATTEMPTS} times before the end, killed from outside or out of memory"
        )


class LocalWorkers:
    """Processes with one thread each; one that dies is replaced, and its call begins anew.

    Attributes:
        at_once: calls that may wait here; None for any number.
    """

    at_once: int | None = None

    def __init__(self, jobs: int) -> None:
        # A thread for each process: where one process dies, the others go on.
        self._threads = ThreadPoolExecutor(jobs, initializer=_hold_interrupts)
        self._own = threading.local()
        self._pools: list[ProcessPoolExecutor] = []
        self._lock = threading.Lock()
        self._over = False

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Call a function of a module in a worker.

        The future's error is the function's, or `WorkerLostError`.
        """
        return self._threads.submit(self._run, function, arguments)

    def _run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        for _ in range(ATTEMPTS):
            try:
                return self._begin(function, arguments).result()
            except BrokenProcessPool:
                if self._over:
                    raise
                self._own.pool = None
        raise WorkerLostError

    def _begin(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Future[Any]:
        with self._lock:
            if self._over:
                raise BrokenProcessPool
            if getattr(self._own, "pool", None) is None:
                spawn = multiprocessing.get_context("spawn")
                self._own.pool = ProcessPoolExecutor(1, spawn, initializer=_start_worker)
                self._pools.append(self._own.pool)
            begun: Future[Any] = self._own.pool.submit(function, *arguments)
            return begun

    def finish(self) -> None:
        """Wait for all calls, and end the processes."""
        self._threads.shutdown()
        for pool in self._pools:
            pool.shutdown()

    def kill(self) -> None:
        """End the processes, whatever they do."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._over = True
        for pool in self._pools:
            workers = list((pool._processes or {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.terminate()


@contextmanager
def local_workers(jobs: int) -> Iterator[LocalWorkers]:
    """Worker processes that are gone when the block ends, however it ends."""
    workers = LocalWorkers(jobs)
    try:
        yield workers
    except BaseException:
        workers.kill()
        raise
    workers.finish()


def _hold_interrupts() -> None:
    """Processes that this thread starts never see Ctrl-C, not even while they import."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _start_worker() -> None:
    """One thread per process; Ctrl-C is the parent's business, and its death is ours."""
    use_one_thread()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def use_one_thread() -> None:
    """Of torch, imported or not yet: calls that need none do not wait for it."""
    for library in ("OMP", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _end_with_parent() -> None:
    """Without this a killed parent would leave its workers training for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
