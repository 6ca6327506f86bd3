"""A store computed once: opened from the cache folder, memory-mapped, or kept in memory."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphs import MultimodalGraph
from graphs.files import (
    atomic_folder,
    cache_folder,
    config_hash,
    read_manifest,
    refusing,
    write_manifest,
)
from students.devices import resolve_device, same_bits
from teachers.pretraining import PretrainingConfig, Report, load_teachers, teacher_key
from teachers.questioning import Progress, build_store
from teachers.store import TeacherStore

_log = logging.getLogger(__name__)

# 3: computed by one thread, whatever the process has.
FORMAT = 3
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
        if store.information_names:
            np.save(temporary / "information.npy", store.information, allow_pickle=False)
            about["information"] = list(store.information_names)
        write_manifest(temporary, key, about)


def read_store(folder: Path, key: str) -> TeacherStore:
    """Open a store that `write_store` wrote, memory-mapped.

    Raises:
        ValueError: a file is missing, changed, or from another configuration.
    """
    extra = read_manifest(folder, key)["extra"]
    with refusing(f"{folder} holds no store"):
        return _opened(folder, extra)


def _opened(folder: Path, extra: Mapping[str, Any]) -> TeacherStore:
    information = tuple(extra.get("information", ()))
    names = (*_ARRAYS, *(("information",) if information else ()))
    arrays = {
        name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names
    }
    return TeacherStore(
        tuple(extra["teachers"]),
        num_entities=int(extra["num_entities"]),
        information_names=information,
        **arrays,
    )


def store_key(
    graph: MultimodalGraph,
    teachers: Sequence[str],
    config: PretrainingConfig,
    folds: int,
    top_k: int | None,
) -> str:
    """Hash of everything that decides what is in a store."""
    keys = [
        teacher_key(graph, name, config, folds, fold) for name in teachers for fold in range(folds)
    ]
    return config_hash({"format": FORMAT, "teachers": keys, "folds": folds, "top_k": top_k})


def keep_open(
    store: TeacherStore,
    graph: MultimodalGraph,
    config: PretrainingConfig | None = None,
    folds: int = 1,
    top_k: int | None = 64,
) -> None:
    """Let `open_store`, and so the environments of this process, use a store made elsewhere.

    For opinions that do not come from this package's pre-training: `scripts/bench.py` measures
    with teachers that nobody trained. Nothing is written; a few stores are kept at a time.

    Args:
        store: of all training queries of `graph`, in their order.
        graph: whose training queries were asked.
        config: what `open_store` will be asked for, as are `folds` and `top_k`.
        folds: see there.
        top_k: see there.

    Raises:
        ValueError: the store has another number of queries or entities than the graph.
    """
    expected = (2 * len(graph.triples["train"]), graph.num_entities)
    if (len(store), store.num_entities) != expected:
        raise ValueError(
            f"a store of graph {graph.name!r} has {expected[0]} queries and {expected[1]} "
            f"entities, got {len(store)} and {store.num_entities}"
        )
    _keep(store, store_key(graph, store.teachers, config or PretrainingConfig(), folds, top_k))


def _keep(store: TeacherStore, key: str) -> None:
    _OPEN[key] = store
    _OPEN.move_to_end(key)
    while len(_OPEN) > _KEPT_OPEN:
        _OPEN.popitem(last=False)


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

    def build() -> TeacherStore:
        models = load_teachers(graph, teachers, config, folds, report)
        with same_bits(resolve_device(config.device)):
            return build_store(graph, models, top_k, progress=progress)

    return cached(store_key(graph, teachers, config, folds, top_k), build)


def cached(key: str, build: Callable[[], TeacherStore], on_disk: bool = True) -> TeacherStore:
    """The store under `key`: already open, or in the cache folder, or built now and kept there.

    Args:
        key: hash of everything that decides what is in it.
        build: makes it.
        on_disk: whether the cache folder takes part.

    Raises:
        ValueError: the cache holds a damaged store; the sentence says what to remove.
    """
    if key in _OPEN:
        _OPEN.move_to_end(key)
        return _OPEN[key]
    cache = cache_folder() if on_disk else None
    folder = cache / "stores" / key if cache else None
    if folder and folder.is_dir():
        try:
            store = read_store(folder, key)
        except ValueError as error:
            raise ValueError(f"{error}; remove {folder} and it is computed again") from None
    else:
        store = build()
        if folder:
            try:
                folder.parent.mkdir(exist_ok=True)
                write_store(store, folder, key)
                store = read_store(folder, key)
            except OSError as error:
                _log.warning("the teacher store is kept in memory only: %s", error)
    _keep(store, key)
    return store
