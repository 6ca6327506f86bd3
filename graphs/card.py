"""The card of a graph: what a user should know of it before using its figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphs.csr import IntArray
from graphs.graph import SPLITS, MultimodalGraph

MOST_HUBS = 5


def graph_card(graph: MultimodalGraph) -> dict[str, Any]:
    """The card as JSON types.

    Returns:
        * `name`, `entities`, `relations`, `triples` (all splits), `described` (entities with a
          description);
        * `splits`: by split `triples`, `repeated` (lines beyond the first of a triple) and, but for
          train, `entities` and `relations` with their number in the split and how many of them
          are `unseen` in train, and `queries_unseen`, the share of its queries that touch an
          entity unseen in train;
        * `shared`: distinct triples that two splits share;
        * `leakage`: by split `reverse`, the share of its triples (h, r, t) for which train has
          some (t, r′, h), and `parallel`, for which train has some (h, r′, t) with r′ ≠ r;
        * `modalities`: by name `entities`, `coverage` (a share) and `columns`;
        * `degree` of the entities in train: `mean`, `p95`, `max`;
        * `hubs`: the `MOST_HUBS` entities of the largest degree, as `label` and `degree`.
    """
    train = graph.triples["train"]
    seen = np.zeros(graph.num_entities, dtype=np.bool_)
    seen[train[:, [0, 2]]] = True
    seen_relations = np.zeros(graph.num_relations, dtype=np.bool_)
    seen_relations[train[:, 1]] = True
    splits = {}
    for split in SPLITS:
        triples = graph.triples[split]
        part: dict[str, Any] = {
            "triples": len(triples),
            "repeated": len(triples) - len(np.unique(graph.triple_keys(triples))),
        }
        if split != "train":
            entities, relations = np.unique(triples[:, [0, 2]]), np.unique(triples[:, 1])
            touching = ~(seen[triples[:, 0]] & seen[triples[:, 2]])
            part["entities"] = {"in": len(entities), "unseen": int((~seen[entities]).sum())}
            part["relations"] = {
                "in": len(relations),
                "unseen": int((~seen_relations[relations]).sum()),
            }
            part["queries_unseen"] = _share(touching)
        splits[split] = part
    degrees = graph.degrees
    hubs = np.argsort(-degrees, kind="stable")[:MOST_HUBS].tolist()
    return {
        "name": graph.name,
        "entities": graph.num_entities,
        "relations": graph.num_relations,
        "triples": sum(map(len, graph.triples.values())),
        "described": sum(text is not None for text in graph.entity_texts or ()),
        "splits": splits,
        "shared": graph.split_overlaps(),
        "leakage": {split: _leakage(graph, graph.triples[split]) for split in SPLITS[1:]},
        "modalities": {
            name: {
                "entities": len(modality.entities),
                "coverage": len(modality.entities) / graph.num_entities,
                "columns": modality.width,
            }
            for name, modality in sorted(graph.modalities.items())
        },
        "degree": {
            "mean": float(degrees.mean()),
            "p95": float(np.percentile(degrees, 95)),
            "max": int(degrees.max()),
        },
        "hubs": [{"label": graph.entity_labels[i], "degree": int(degrees[i])} for i in hubs],
    }


def _leakage(graph: MultimodalGraph, triples: IntArray) -> dict[str, float]:
    train = np.unique(graph.triples["train"], axis=0)
    pairs, counts = np.unique(train[:, 0] * graph.num_entities + train[:, 2], return_counts=True)

    def relations_between(heads: IntArray, tails: IntArray) -> IntArray:
        keys = heads * graph.num_entities + tails
        places = np.minimum(np.searchsorted(pairs, keys), len(pairs) - 1)
        return np.where(pairs[places] == keys, counts[places], 0)

    heads, _, tails = triples.T
    itself = np.isin(graph.triple_keys(triples), graph.triple_keys(train))
    return {
        "reverse": _share(relations_between(tails, heads) > 0),
        "parallel": _share(relations_between(heads, tails) > itself),
    }


def _share(mask: np.ndarray) -> float:
    return float(mask.mean()) if len(mask) else 0.0


def describe(graph: MultimodalGraph) -> str:
    """The card as text: sizes, splits, overlaps, unseen entities, leaks, coverage, hubs."""
    card = graph_card(graph)
    lines = [
        f"{card['name']}: {card['entities']} entities, {card['relations']} relations, "
        f"{card['triples']} triples"
    ]
    for split, part in card["splits"].items():
        line = f"  {split}: {part['triples']} triples"
        if part["repeated"]:
            line += f", {part['repeated']} repeated"
        if split != "train":
            line += (
                f", {part['entities']['unseen']} of {part['entities']['in']} entities and "
                f"{part['relations']['unseen']} of {part['relations']['in']} relations "
                f"are not in train ({part['queries_unseen']:.1%} of the queries)"
            )
        lines.append(line)
    shared = ", ".join(f"{pair} {count}" for pair, count in card["shared"].items())
    lines.append(f"  shared: {shared}")
    for split, part in card["leakage"].items():
        lines.append(
            f"  leaks into {split}: {part['reverse']:.1%} have a reverse in train, "
            f"{part['parallel']:.1%} another relation between the same entities"
        )
    if card["described"]:
        share = card["described"] / card["entities"]
        lines.append(f"  descriptions: {card['described']} entities ({share:.1%})")
    for name, part in card["modalities"].items():
        lines.append(
            f"  {name}: {part['entities']} entities ({part['coverage']:.1%}), "
            f"{part['columns']} columns"
        )
    degree = card["degree"]
    lines.append(
        f"  degree in train: mean {degree['mean']:.1f}, 95 % at most {degree['p95']:.0f}, "
        f"largest {degree['max']}"
    )
    hubs = ", ".join(f"{hub['label']} {hub['degree']}" for hub in card["hubs"])
    lines.append(f"  hubs: {hubs}")
    if graph.thumbnails is not None:
        height, width = graph.thumbnails.shape[1:3]
        lines.append(f"  thumbnails: {len(graph.thumbnails)} of {height}×{width} pixels")
    if graph.planted_mask is not None:
        names = sorted(graph.modalities)
        for relation in range(graph.num_relations):
            competent = [names[m] for m in np.flatnonzero(graph.planted_mask[relation])]
            lines.append(f"  {graph.relation_label(relation)}: taught by {', '.join(competent)}")
    return "\n".join(lines)
