"""Splits that share triples: said aloud, and a valid split that is hardly one is drawn anew."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from graphs.csr import IntArray
from graphs.graph import SPLITS, MultimodalGraph

VALID_CHOICES = ("resplit", "published")


def overlap_note(graph: MultimodalGraph) -> str | None:
    """One sentence about the triples that splits share, if they do."""
    shared = {pair: count for pair, count in graph.split_overlaps().items() if count}
    if not shared:
        return None
    counts = ", ".join(f"{pair} {count}" for pair, count in shared.items())
    sizes = ", ".join(f"{split} {len(graph.triples[split])}" for split in SPLITS)
    return (
        f"graph {graph.name!r}: splits share triples ({counts}; sizes {sizes}), so figures on "
        f"them measure memory"
    )


def valid_is_broken(graph: MultimodalGraph) -> bool:
    """Whether more than half of the distinct valid triples are training triples."""
    train, valid = (np.unique(graph.triple_keys(graph.triples[s])) for s in ("train", "valid"))
    return 2 * len(np.intersect1d(train, valid, assume_unique=True)) > len(valid)


def resplit_valid(graph: MultimodalGraph) -> tuple[MultimodalGraph, str]:
    """Replace a broken valid split by as many triples of train.

    The new valid split is taken from the distinct training triples that are not in test, as many
    as the published one has distinct ones, in the order of a hash of their names: so neither the
    ids nor the order of the lines matter. Every entity and relation of train stays in train, test
    stays as published, and no triple of the new valid split is left in train.

    Returns:
        The graph, and a sentence that says so with figures.
    """
    train, test = graph.triples["train"], graph.triples["test"]
    keys = {split: np.unique(graph.triple_keys(graph.triples[split])) for split in SPLITS}
    in_train = len(np.intersect1d(keys["train"], keys["valid"], assume_unique=True))
    in_test = len(np.intersect1d(keys["test"], keys["valid"], assume_unique=True))
    distinct = train[np.unique(graph.triple_keys(train), return_index=True)[1]]
    distinct = distinct[~np.isin(graph.triple_keys(distinct), keys["test"])]
    distinct = distinct[_hash_order(graph, distinct)]
    free = distinct[~_first_sightings(graph, distinct)]
    valid = free[: len(keys["valid"])]
    kept = train[~np.isin(graph.triple_keys(train), graph.triple_keys(valid))]
    note = (
        f"graph {graph.name!r}: the published valid split has {len(graph.triples['valid'])} "
        f"triples, {len(keys['valid'])} of them distinct, of which {in_train} are in train and "
        f"{in_test} in test; "
    )
    if not len(valid):
        return graph, note + "it is kept, because train has no triple to spare"
    triples = {"train": kept, "valid": np.ascontiguousarray(valid), "test": test}
    note += (
        f"it is replaced by {len(valid)} triples of train, which keeps {len(kept)} of "
        f"{len(train)} (the option valid=published keeps the published one)"
    )
    return replace(graph, triples=triples), note


def _hash_order(graph: MultimodalGraph, triples: IntArray) -> IntArray:
    entities = graph.metadata.get("entity_keys", graph.entity_labels)
    relations = graph.metadata.get("relation_keys", graph.relation_labels)
    hashes = [
        hashlib.sha256(f"{entities[h]}\t{relations[r]}\t{entities[t]}".encode()).digest()
        for h, r, t in triples.tolist()
    ]
    return np.array(sorted(range(len(hashes)), key=hashes.__getitem__), dtype=np.int64)


def _first_sightings(graph: MultimodalGraph, triples: IntArray) -> NDArray[np.bool_]:
    """Which triples show an entity or a relation that no triple before them shows."""
    first = np.zeros(len(triples), dtype=np.bool_)
    for ids in (triples[:, [0, 2]].ravel(), np.repeat(triples[:, 1], 2)):
        first[np.unique(ids, return_index=True)[1] // 2] = True
    return first
