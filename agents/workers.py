"""Processes that work for a comparison or a study: one thread each, and gone when it is."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


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


_progress: Any = None


def _report_to(progress: Any) -> None:
    global _progress
    _progress = progress


def tell_progress() -> None:
    """Move the bar of `run_all` by one; called in a worker."""
    _progress.put(1)


def run_all(
    function: Callable[..., Result],
    calls: Sequence[tuple[Item, tuple[Any, ...]]],
    jobs: int,
    bar: Any,
) -> Iterator[tuple[Item, Result]]:
    """Items and what `function` makes of them, as they finish.

    Args:
        function: of a module, called in the workers.
        calls: per item the arguments.
        jobs: processes.
        bar: of progress; `tell_progress` moves it.
    """
    if not calls:
        return
    progress = multiprocessing.get_context("spawn").Queue()
    with worker_pool(jobs, _report_to, progress) as pool:
        with interrupts_wait():
            pending: dict[Future[Result], Item] = {
                pool.submit(function, *arguments): item for item, arguments in calls
            }
        while pending:
            done, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            _drain(progress, bar.update)
            for future in done:
                yield pending.pop(future), future.result()
    _drain(progress, bar.update)


def run_into(folder: Path, run: Callable[[], Result]) -> Result | str:
    """What `run` returns once its folder is made, or its error in words; called in a worker."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return run()
    except Exception as error:  # the other trials go on; the parent reports it
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"


def collect(
    outcomes: Iterator[tuple[Item, Result | str]],
    bar: Any,
    name: Callable[[Item], Mapping[str, Any]],
    finished: list[Result],
    failures: list[dict[str, Any]],
    write: Callable[[bool], Any],
) -> None:
    """Take what `run_all` yields of `run_into`, and write after each of them, and on Ctrl-C.

    Args:
        outcomes: items, and their results or errors in words.
        bar: of progress, says which item was done.
        name: what a failure says of its item, by key; the first value stands for itself.
        finished: gets the results.
        failures: gets the names of items that failed, with `error`.
        write: called with whether everything has finished, here always no.
    """
    try:
        for item, outcome in outcomes:
            which = dict(name(item))
            (_, first), *others = which.items()
            said = " ".join([str(first), *(f"{key} {value}" for key, value in others)])
            bar.set_postfix_str(f"{said} done")
            if isinstance(outcome, str):
                failures.append({**which, "error": outcome})
            else:
                finished.append(outcome)
            write(False)
    except KeyboardInterrupt:
        write(False)
        raise


def _drain(progress: Any, update: Callable[[int], Any]) -> None:
    while True:
        try:
            update(progress.get_nowait())
        except queue.Empty:
            return
