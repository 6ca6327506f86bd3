"""A store computed once: opened from the cache folder, memory-mapped, or kept in memory."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from graphs import MultimodalGraph
from graphs.files import atomic_folder, cache_folder, config_hash, read_manifest, write_manifest
from teachers.pretraining import PretrainingConfig, Report, load_teachers, teacher_key
from teachers.questioning import Progress, build_store
from teachers.store import TeacherStore

_log = logging.getLogger(__name__)

FORMAT = 2
_ARRAYS = ("starts", "counts", "entities", "log_probs", "log_tail", "tail_mass", "features")
# Stores already open in this process; a few, since one may hold hundreds of megabytes.
_OPEN: OrderedDict[str, TeacherStore] = OrderedDict()
_KEPT_OPEN = 4


def write_store(store: TeacherStore, folder: Path, key: str) -> None:
    """Write a store as plain `.npy` arrays with a manifest, atomically."""
    with atomic_folder(folder) as temporary:
        for name in _ARRAYS:
            np.save(temporary / f"{name}.npy", getattr(store, name), allow_pickle=False)
        about = {"teachers": list(store.teachers), "num_entities": store.num_entities}
        write_manifest(temporary, key, about)


def read_store(folder: Path, key: str) -> TeacherStore:
    """Open a store that `write_store` wrote, memory-mapped.

    Raises:
        ValueError: a file is missing, changed, or from another configuration.
    """
    manifest = read_manifest(folder, key)
    arrays = {
        name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS
    }
    extra = manifest["extra"]
    return TeacherStore(tuple(extra["teachers"]), num_entities=int(extra["num_entities"]), **arrays)


def open_store(
    graph: MultimodalGraph,
    teachers: Sequence[str],
    config: PretrainingConfig | None = None,
    folds: int = 1,
    top_k: int | None = 64,
    report: Report | None = None,
    progress: Progress | None = None,
) -> TeacherStore:
    """The store of `teachers` on `graph`, computed at most once.

    Args:
        graph: whose training queries are asked.
        teachers: names, in the order of the store's teacher axis.
        config: pre-training; the defaults are those of the shipped teachers.
        folds: 1 for in-sample answers, K for cross-fitted ones.
        top_k: entities listed per teacher; None for exact logits.
        report: called with lines while teachers are being trained.
        progress: called with (done, all) queries while the store is being filled.

    Raises:
        ValueError: the cache holds a damaged store; the sentence says what to remove.
    """
    config = config or PretrainingConfig()
    keys = [
        teacher_key(graph, name, config, folds, fold) for name in teachers for fold in range(folds)
    ]
    key = config_hash({"format": FORMAT, "teachers": keys, "folds": folds, "top_k": top_k})
    if key in _OPEN:
        _OPEN.move_to_end(key)
        return _OPEN[key]
    cache = cache_folder()
    folder = cache / "stores" / key if cache else None
    if folder and folder.is_dir():
        try:
            store = read_store(folder, key)
        except ValueError as error:
            raise ValueError(f"{error}; remove {folder} and it is computed again") from None
    else:
        models = load_teachers(graph, teachers, config, folds, report)
        store = build_store(graph, models, top_k, progress=progress)
        if folder:
            try:
                folder.parent.mkdir(exist_ok=True)
                write_store(store, folder, key)
                store = read_store(folder, key)
            except OSError as error:
                _log.warning("the teacher store is kept in memory only: %s", error)
    _OPEN[key] = store
    while len(_OPEN) > _KEPT_OPEN:
        _OPEN.popitem(last=False)
    return store
