"""DistMult (Yang et al. 2015) with reciprocal relations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from students.scorer import Scorer, normal_table, owners_of_tables, root_mean_square


class DistMult(Scorer):
    """Score `⟨h, r, t⟩` over real vectors.

    Args:
        num_entities: `E`.
        num_relations: `R`; the relation table holds `2R` rows.
        rank: half the width: as many floats per entity as ComplEx of the same rank.
        init_scale: standard deviation of the initial values.
        generator: the only source of randomness.
    """

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        rank: int,
        *,
        generator: torch.Generator,
        init_scale: float = 0.03,
    ) -> None:
        super().__init__()
        self.num_entities = num_entities
        self.num_relations = num_relations
        self.entity_table = normal_table(num_entities, 2 * rank, init_scale, generator)
        self.relation_table = normal_table(2 * num_relations, 2 * rank, init_scale, generator)

    def entity_vectors(self) -> Tensor:
        """The free table, `[entities, 2·rank]`."""
        return self.entity_table

    def row_owners(self) -> dict[str, Tensor]:
        """Rows by entity and by relation."""
        return owners_of_tables(self, self.num_entities, self.num_relations)

    def query_vectors(self, table: Tensor, entities: Tensor, relations: Tensor) -> Tensor:
        """`h∘r`, `[batch, 2·rank]`."""
        return F.embedding(entities, table) * F.embedding(relations, self.relation_table)

    def factor_moduli(
        self, table: Tensor, entities: Tensor, relations: Tensor, answers: Tensor
    ) -> list[Tensor]:
        """Absolute values of head, relation and tail, `[batch, 2·rank]` each."""
        return [
            F.embedding(entities, table).abs(),
            F.embedding(relations, self.relation_table).abs(),
            F.embedding(answers, table).abs(),
        ]

    def summary(self, table: Tensor, entities: Tensor, relations: Tensor) -> Tensor:
        """Root mean squares of entity, relation and query vectors, `[batch, 3]`."""
        entity = F.embedding(entities, table)
        relation = F.embedding(relations, self.relation_table)
        parts = (entity, relation, entity * relation)
        return torch.stack([root_mean_square(part) for part in parts], dim=1)
