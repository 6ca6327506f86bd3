"""Knowledge graphs with modalities: types, loaders, the embedded `emoji` graph, `planted` graphs.

This package lies below `students`, `teachers`, `dsom_env` and `agents` and imports none of them.
"""

from graphs.csr import CSR, KeyedLists
from graphs.graph import SPLITS, Modality, MultimodalGraph, Queries

__all__ = ["CSR", "SPLITS", "KeyedLists", "Modality", "MultimodalGraph", "Queries"]
