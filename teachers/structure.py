"""The structure teacher: ComplEx that sees triples only."""

from __future__ import annotations

import torch

from graphs import MultimodalGraph
from students.complex import ComplEx


class Structure(ComplEx):
    """ComplEx-N3 over a free entity table (MoSE's structure model, methods.md §2, exact).

    Args:
        graph: gives the sizes.
        rank: complex dimensions.
        generator: the only source of randomness.
    """

    def __init__(self, graph: MultimodalGraph, rank: int, generator: torch.Generator) -> None:
        super().__init__(graph.num_entities, graph.num_relations, rank, generator=generator)
