"""Workers on a Ray cluster: one task for each call, one core for each task."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from agents.local_workers import ATTEMPTS, WorkerLostError
from agents.machine import cores
from agents.place import Place, call_in

# Bytes; results of trials are small, and what is smaller than this Ray refuses.
_OBJECT_STORE = 80 * 2**20


class RayWorkers:
    """Tasks of a cluster that this process is connected to.

    A task whose worker or machine dies is begun anew by Ray, on another one if need be.

    Attributes:
        at_once: calls that may be submitted and not finished; None for any number.
    """

    def __init__(self, place: Place, at_once: int | None) -> None:
        self.at_once = at_once
        self._place = ray.put(place)
        self._task = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(call_in)
        self._running: dict[Future[Any], Any] = {}

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Call a function of a module in a worker.

        The future's error is the function's, or `WorkerLostError`.
        """
        promise: Future[Any] = Future()
        reference = self._task.remote(self._place, function, arguments)
        self._running[promise] = reference
        reference.future().add_done_callback(lambda answer: self._keep(promise, answer))
        return promise

    def _keep(self, promise: Future[Any], answer: Future[Any]) -> None:
        self._running.pop(promise)
        failure = answer.exception()
        lost = (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError)
        if isinstance(failure, (*lost, ray.exceptions.OutOfMemoryError)):
            promise.set_exception(WorkerLostError())
        elif failure is not None:
            promise.set_exception(failure)
        else:
            value, error = answer.result()
            if error is None:
                promise.set_result(value)
            else:
                promise.set_exception(error)

    def kill(self) -> None:
        """End what runs, and forget what waits."""
        for reference in list(self._running.values()):
            ray.cancel(reference, force=True)


@contextmanager
def ray_workers(folder: Path, jobs: int | None, calls: int) -> Iterator[RayWorkers]:
    """Workers of the cluster at `$RAY_ADDRESS`, or of one of this machine, gone with the block.

    A connection that this process has already is used and kept.

    Args:
        folder: of results, which every machine of the cluster must see.
        jobs: calls at a time; None for as many as the cluster has cores.
        calls: how many there will be.

    Raises:
        ConnectionError: there is no cluster at `$RAY_ADDRESS`.
    """
    connected = ray.is_initialized()
    if not connected:
        connect(min(jobs or cores(), calls))
    try:
        workers = RayWorkers(Place.here(folder), jobs)
        try:
            yield workers
        except BaseException:
            workers.kill()
            raise
    finally:
        if not connected:
            ray.shutdown()


def connect(processors: int) -> None:
    """Connect to the cluster at `$RAY_ADDRESS`, or start one of this machine alone.

    Args:
        processors: how many tasks a cluster that is started here runs at a time.
    """
    # Nobody is told what runs here, unless the user says so.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS", "local")
    if address != "local":
        ray.init(address, logging_level="ERROR")
        return
    ray.init(
        "local",
        num_cpus=processors,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE,
        logging_level="ERROR",
        _node_ip_address="127.0.0.1",
    )
