"""Whom the sections measure: graphs, teachers that nobody trained, their store."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from graphs import Modality, MultimodalGraph, load_graph
from students.complex import ComplEx
from students.scorer import Scorer
from teachers.questioning import build_store
from teachers.store import TeacherStore

from .measuring import Settings, say

MODALITIES = ("audio", "image", "text")
TEACHERS = ("structure", *MODALITIES)
# Spreads logits as training does. The top entities of untrained teachers hardly overlap, so the
# lists of the store are as long as they can be: the slowest case.
SPREAD = 0.35


def load(path: Path) -> MultimodalGraph:
    """The graph in a folder, with random features in place of its own.

    The folders that the figures are about come without features, and the speed does not depend
    on what they say.

    Raises:
        ValueError: there is no such folder.
    """
    if not path.is_dir():
        raise ValueError(f"{path} is no folder: expected a graph such as MKG-W (docs/graphs.md)")
    return with_modalities(load_graph(str(path)))


def with_modalities(graph: MultimodalGraph) -> MultimodalGraph:
    """The graph with a few random feature columns for each of `MODALITIES`."""
    rng = np.random.default_rng(0)
    entities = np.arange(graph.num_entities)
    modalities = {
        name: Modality(entities, rng.standard_normal((len(entities), 4), dtype=np.float32))
        for name in MODALITIES
    }
    return dataclasses.replace(graph, modalities=modalities)


def teachers(graph: MultimodalGraph, rank: int, count: int = 4) -> dict[str, list[Scorer]]:
    """Untrained ComplEx teachers under the names of real ones."""
    generator = torch.Generator().manual_seed(0)
    sizes = graph.num_entities, graph.num_relations, rank
    models = [ComplEx(*sizes, generator=generator, init_scale=SPREAD) for _ in range(count)]
    return {
        name: [model.requires_grad_(False)]
        for name, model in zip(TEACHERS[:count], models, strict=True)
    }


def teacher_store(graph: MultimodalGraph, settings: Settings) -> TeacherStore:
    """What four untrained teachers say of every training query."""
    say(f"asking four teachers about {2 * len(graph.triples['train'])} queries")
    models = teachers(graph, settings.teacher_rank)
    return build_store(graph, models, settings.top_k)


def sample(graph: MultimodalGraph, queries: int | None, seed: int) -> MultimodalGraph:
    """The graph with the training triples of some relations, all of each, in random order.

    Whole relations, because a sample of triples would hardly ask a question twice.

    Args:
        graph: whole.
        queries: how many training queries there should be at least; None for all.
        seed: of the order of relations.
    """
    train = graph.triples["train"]
    if queries is None or queries >= 2 * len(train):
        return graph
    order = np.random.default_rng(seed).permutation(graph.num_relations)
    counts = np.bincount(train[:, 1], minlength=graph.num_relations)[order]
    taken = order[: int(np.searchsorted(np.cumsum(counts), queries / 2)) + 1]
    kept = train[np.isin(train[:, 1], taken)]
    return dataclasses.replace(graph, triples={**graph.triples, "train": kept})
