"""Processes that work for a comparison or a study: one thread each, and gone when it is."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Hold Ctrl-C back; processes started meanwhile never see it, not even while they import."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def worker_pool(
    jobs: int, prepare: Callable[..., None] | None = None, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """Worker processes that are gone when the block ends, however it ends.

    Args:
        jobs: how many.
        prepare: what each calls first, with `arguments`.
        *arguments: of `prepare`.
    """
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        jobs, spawn, initializer=_start_worker, initargs=(prepare, *arguments)
    )
    try:
        yield pool
    except BaseException:
        workers = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()
        raise
    pool.shutdown()


def _start_worker(prepare: Callable[..., None] | None, *arguments: Any) -> None:
    """One thread per process; Ctrl-C is the parent's business, and its death is ours."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if prepare is not None:
        prepare(*arguments)


def _end_with_parent() -> None:
    """Without this a killed parent would leave its workers training for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
