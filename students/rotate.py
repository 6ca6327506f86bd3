"""RotatE (Sun et al. 2019) with reciprocal relations."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from students.complex import complex_moduli, complex_product
from students.scorer import Scorer, entity_owners, normal_table, relation_owners, root_mean_square


class RotatE(Scorer):
    """Score `margin − ‖h∘r − t‖²`, with `r` a rotation of each complex coordinate.

    The squared distance (unlike the paper's sum of moduli) expands into one matrix product, so a
    score costs what ComplEx's does; stated here because it is not the paper's norm.

    Args:
        num_entities: `E`.
        num_relations: `R`; the phase table holds `2R` rows.
        rank: complex dimensions.
        init_scale: standard deviation of the initial entity coordinates.
        generator: the only source of randomness.
    """

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        rank: int,
        *,
        generator: torch.Generator,
        init_scale: float = 0.1,
    ) -> None:
        super().__init__()
        self.num_entities = num_entities
        self.num_relations = num_relations
        self.entity_table = normal_table(num_entities, 2 * rank, init_scale, generator)
        self.phase_table = normal_table(2 * num_relations, rank, math.pi / 3, generator)
        self.log_scale = torch.nn.Parameter(torch.zeros(()))

    def _rotations(self, relations: Tensor) -> Tensor:
        phases = F.embedding(relations, self.phase_table)
        return torch.cat([phases.cos(), phases.sin()], dim=1)

    def entity_vectors(self) -> Tensor:
        """The free table, `[entities, 2·rank]`."""
        return self.entity_table

    def row_owners(self) -> dict[str, Tensor]:
        """Rows by entity and by relation."""
        return {
            "entity_table": entity_owners(self.num_entities),
            "phase_table": relation_owners(self.num_relations),
        }

    def query_vectors(self, table: Tensor, entities: Tensor, relations: Tensor) -> Tensor:
        """Rotated heads, `[batch, 2·rank]`."""
        return complex_product(F.embedding(entities, table), self._rotations(relations))

    def compare(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Scaled negative squared distances, `[batch, candidates]`."""
        distances = (
            queries.square().sum(1, keepdim=True)
            - 2 * queries @ candidates.T
            + candidates.square().sum(1)
        )
        return -self.log_scale.exp() * distances

    def factor_moduli(
        self, table: Tensor, entities: Tensor, relations: Tensor, answers: Tensor
    ) -> list[Tensor]:
        """Complex moduli of head and tail; rotations have modulus one and need no penalty."""
        return [
            complex_moduli(F.embedding(entities, table)),
            complex_moduli(F.embedding(answers, table)),
        ]

    def summary(self, table: Tensor, entities: Tensor, relations: Tensor) -> Tensor:
        """Root mean squares of entity, rotation and query vectors, `[batch, 3]`."""
        entity = F.embedding(entities, table)
        rotation = self._rotations(relations)
        parts = (entity, rotation, complex_product(entity, rotation))
        return torch.stack([root_mean_square(part) for part in parts], dim=1)
