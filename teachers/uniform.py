"""The teacher that knows nothing: every entity is equally likely."""

from __future__ import annotations

import torch
from torch import Tensor

from graphs import MultimodalGraph
from students.scorer import Scorer


class Uniform(Scorer):
    """A constant score, and so a uniform soft label: the control for mere regularisation.

    Args:
        graph: gives the sizes.
        rank: not used.
        generator: not used.
    """

    nothing: Tensor

    def __init__(self, graph: MultimodalGraph, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.num_entities = graph.num_entities
        self.num_relations = graph.num_relations
        self.register_buffer("nothing", torch.zeros(graph.num_entities, 1))

    def entity_vectors(self) -> Tensor:
        """Zeros `[entities, 1]`."""
        return self.nothing

    def query_vectors(self, table: Tensor, entities: Tensor, relations: Tensor) -> Tensor:
        """Zeros `[batch, 1]`."""
        return table[entities]

    def factor_moduli(
        self, table: Tensor, entities: Tensor, relations: Tensor, answers: Tensor
    ) -> list[Tensor]:
        """Nothing to penalise."""
        return []

    def summary(self, table: Tensor, entities: Tensor, relations: Tensor) -> Tensor:
        """Zeros `[batch, 3]`."""
        return torch.zeros(len(entities), 3)
