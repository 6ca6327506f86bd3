"""The card of a graph: what a user should know of it before using its figures."""

from __future__ import annotations

import numpy as np

from graphs.graph import SPLITS, MultimodalGraph


def describe(graph: MultimodalGraph) -> str:
    """The card of a graph: sizes, splits and their overlaps, unseen entities, coverage."""
    lines = [
        f"{graph.name}: {graph.num_entities} entities, {graph.num_relations} relations, "
        f"{sum(map(len, graph.triples.values()))} triples"
    ]
    train = graph.triples["train"]
    seen = np.zeros(graph.num_entities, dtype=np.bool_)
    seen[train[:, [0, 2]]] = True
    seen_relations = np.zeros(graph.num_relations, dtype=np.bool_)
    seen_relations[train[:, 1]] = True
    for split in SPLITS:
        triples = graph.triples[split]
        line = f"  {split}: {len(triples)} triples"
        repeated = len(triples) - len(np.unique(triples, axis=0)) if len(triples) else 0
        if repeated:
            line += f", {repeated} repeated"
        if split != "train":
            entities = np.unique(triples[:, [0, 2]])
            relations = np.unique(triples[:, 1])
            line += (
                f", {int((~seen[entities]).sum())} of {len(entities)} entities and "
                f"{int((~seen_relations[relations]).sum())} of {len(relations)} relations "
                f"are not in train"
            )
        lines.append(line)
    overlaps = graph.split_overlaps()
    lines.append("  shared: " + ", ".join(f"{pair} {count}" for pair, count in overlaps.items()))
    for name, modality in sorted(graph.modalities.items()):
        share = len(modality.entities) / graph.num_entities
        lines.append(
            f"  {name}: {len(modality.entities)} entities ({share:.1%}), {modality.width} columns"
        )
    if graph.thumbnails is not None:
        height, width = graph.thumbnails.shape[1:3]
        lines.append(f"  thumbnails: {len(graph.thumbnails)} of {height}×{width} pixels")
    if graph.planted_mask is not None:
        names = sorted(graph.modalities)
        for relation in range(graph.num_relations):
            competent = [names[m] for m in np.flatnonzero(graph.planted_mask[relation])]
            lines.append(f"  {graph.relation_label(relation)}: taught by {', '.join(competent)}")
    return "\n".join(lines)
