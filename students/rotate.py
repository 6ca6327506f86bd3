"""RotatE (Sun et al. 2019) with reciprocal relations."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from students.complex import complex_moduli, complex_product
from students.scorer import Scorer, normal_table, owners_of_tables, root_mean_square


class RotatE(Scorer):
    """Score `−s·‖h∘r − t‖²`, with `r` a rotation of each complex coordinate and a learned `s`.

    The squared distance (unlike the paper's sum of moduli) is an inner product of somewhat longer
    vectors, so a score costs what ComplEx's does; stated here because it is not the paper's norm.

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
        """`[t, ‖t‖², 1]`, `[entities, 2·rank + 2]`."""
        table = self.entity_table
        squares = table.square().sum(1, keepdim=True)
        return torch.cat([table, squares, torch.ones_like(squares)], dim=1)

    def row_owners(self) -> dict[str, Tensor]:
        """Rows by entity and by relation."""
        return owners_of_tables(self, self.num_entities, self.num_relations)

    def query_vectors(self, table: Tensor, entities: Tensor, relations: Tensor) -> Tensor:
        """Of rotated heads `q`, `s·[2q, −1, −‖q‖²]`, `[batch, 2·rank + 2]`."""
        rotated = complex_product(self._heads(table, entities), self._rotations(relations))
        squares = rotated.square().sum(1, keepdim=True)
        return self.log_scale.exp() * torch.cat(
            [2 * rotated, -torch.ones_like(squares), -squares], dim=1
        )

    def _heads(self, table: Tensor, entities: Tensor) -> Tensor:
        return F.embedding(entities, table)[:, :-2]

    def factor_moduli(
        self, table: Tensor, entities: Tensor, relations: Tensor, answers: Tensor
    ) -> list[Tensor]:
        """Complex moduli of head and tail; rotations have modulus one and need no penalty."""
        return [
            complex_moduli(self._heads(table, entities)),
            complex_moduli(self._heads(table, answers)),
        ]

    def summary(self, table: Tensor, entities: Tensor, relations: Tensor) -> Tensor:
        """Root mean squares of entity, rotation and query vectors, `[batch, 3]`."""
        entity = self._heads(table, entities)
        rotation = self._rotations(relations)
        parts = (entity, rotation, complex_product(entity, rotation))
        return torch.stack([root_mean_square(part) for part in parts], dim=1)
