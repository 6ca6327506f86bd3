"""The epochs of a co-training, as TensorBoard curves and JSON (docs/amid.md defines every name)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agents.recording import open_writer
from graphs.files import atomic_write
from teachers.adversary import FAILURES

Record = Mapping[str, Any]


def scalars(record: Record) -> Iterator[tuple[str, float]]:
    """Curves of an epoch: the record's keys joined by `/`, under `cotraining/`.

    The adversary's state becomes `adversary/failed`, 0 or 1.
    """
    for key, value in record.items():
        if isinstance(value, Mapping):
            for name, part in value.items():
                if name == "state":
                    yield f"cotraining/{key}/failed", float(part in FAILURES)
                else:
                    yield f"cotraining/{key}/{name}", float(part)
        elif key != "epoch":
            yield f"cotraining/{key}", float(value)


@contextmanager
def open_epochs(folder: Path) -> Iterator[Callable[[Record], None]]:
    """A function that writes an epoch's curves to TensorBoard, while the block lasts.

    Args:
        folder: gets them under `tensorboard`; what an interrupted run left there is removed.
    """
    writer = open_writer(folder)
    assert writer is not None  # noqa: S101 - a folder was given

    def note(record: Record) -> None:
        for name, value in scalars(record):
            writer.add_scalar(name, value, record["epoch"])
        writer.flush()

    try:
        yield note
    finally:
        writer.close()


def write_records(folder: Path, history: Sequence[Record]) -> None:
    """Write `history.json` and TensorBoard curves; what an earlier run left there is replaced.

    Raises:
        ValueError: there is nothing to write: without a cache folder epochs are not kept.
    """
    if not history:
        raise ValueError(f"{folder}: no epochs were kept, the cache folder cannot be used")
    folder.mkdir(parents=True, exist_ok=True)
    with open_epochs(folder) as note:
        for record in history:
            note(record)
    atomic_write(folder / "history.json", json.dumps(list(history), indent=1).encode())


def failures(history: Sequence[Record]) -> dict[str, int]:
    """In how many epochs the adversary failed, by how it did."""
    counts = dict.fromkeys(FAILURES, 0)
    for record in history:
        if record["adversary"]["state"] in counts:
            counts[record["adversary"]["state"]] += 1
    return {state: count for state, count in counts.items() if count}


def in_words(history: Sequence[Record]) -> str:
    """Whether the adversary can be believed, in a sentence."""
    found = failures(history)
    if not found:
        return f"the adversary worked in all {len(history)} epochs"
    parts = " and ".join(f"{state} in {count}" for state, count in found.items())
    return f"the adversary was {parts} of {len(history)} epochs (docs/amid.md)"
