"""Calls for workers, and what becomes of them: the loop behind comparisons and studies."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any, TypeVar

from agents.backends import Backend
from agents.local_workers import WorkerLostError

Item = TypeVar("Item")
Result = TypeVar("Result")


_ticks: Path | None = None


def tell_progress() -> None:
    """Move the bar of `run_all` by one; called in a worker."""
    assert _ticks is not None  # noqa: S101 - `run_all` has called whoever calls this
    with _ticks.open("ab") as file:
        file.write(b".")


def _count_into(ticks: Path, function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    global _ticks
    _ticks = ticks
    # Whoever began before and died has done nothing.
    ticks.write_bytes(b"")
    return function(*arguments)


def run_all(
    function: Callable[..., Result],
    calls: Sequence[tuple[Item, tuple[Any, ...]]],
    backend: Backend,
    bar: Any,
) -> Iterator[tuple[Item, Result | str]]:
    """Items and what `function` makes of them, as they finish.

    Where the worker of a call keeps dying, that is said in words instead.

    Args:
        function: of a module, called in the workers.
        calls: per item the arguments.
        backend: where.
        bar: of progress; `tell_progress` moves it.
    """
    if not calls:
        return
    waiting = deque(enumerate(calls))
    pending: dict[Future[Result | str], Item] = {}
    shown = 0
    with backend.scratch() as scratch, backend.workers(len(calls)) as workers:
        while waiting or pending:
            while waiting and (workers.at_once is None or len(pending) < workers.at_once):
                number, (item, arguments) = waiting.popleft()
                call = (scratch / str(number), function, arguments)
                pending[workers.submit(_count_into, *call)] = item
            done, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            told = sum(path.stat().st_size for path in scratch.iterdir())
            bar.update(told - shown)
            shown = told
            for future in done:
                yield pending.pop(future), _outcome(future)


def _outcome(future: Future[Result | str]) -> Result | str:
    try:
        return future.result()
    except WorkerLostError as error:  # the other calls go on
        return f"{type(error).__name__}: {error}"


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
