"""Knowledge graphs with modalities: types, loaders, the embedded `emoji` graph, `planted` graphs.

This package lies below `students`, `teachers`, `dsom_env` and `agents` and imports none of them.
"""

from graphs.card import describe, graph_card
from graphs.csr import CSR, KeyedLists
from graphs.formats.native import save_graph
from graphs.graph import SPLITS, GraphWarning, Modality, MultimodalGraph, Queries
from graphs.loading import load_graph
from graphs.planted import planted_graph
from graphs.planted_spec import PlantedSpec, planted_levels

__all__ = [
    "CSR",
    "SPLITS",
    "GraphWarning",
    "KeyedLists",
    "Modality",
    "MultimodalGraph",
    "PlantedSpec",
    "Queries",
    "describe",
    "graph_card",
    "load_graph",
    "planted_graph",
    "planted_levels",
    "save_graph",
]
