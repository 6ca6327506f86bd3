"""ComplEx (Trouillon et al. 2016) with reciprocal relations (Lacroix et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from students.scorer import Scorer, normal_table, owners_of_tables, root_mean_square


def complex_product(left: Tensor, right: Tensor) -> Tensor:
    """Element-wise product of complex vectors stored as `[batch, real half | imaginary half]`."""
    left_re, left_im = left.chunk(2, dim=1)
    right_re, right_im = right.chunk(2, dim=1)
    return torch.cat(
        [left_re * right_re - left_im * right_im, left_re * right_im + left_im * right_re], dim=1
    )


def complex_moduli(vectors: Tensor) -> Tensor:
    """Moduli `[batch, rank]` of complex vectors `[batch, 2·rank]`.

    The small constant keeps the gradient finite at zero.
    """
    real, imaginary = vectors.chunk(2, dim=1)
    return torch.sqrt(real.square() + imaginary.square() + 1e-12)


class ComplExScorer(Scorer):
    """Score `Re⟨h, r, conj t⟩` over any source of entity vectors.

    Source: ComplEx as used by MoSE (methods.md §2, exact). Subclasses say where the entity
    vectors come from: a free table (the student, the structure teacher) or features.

    Attributes:
        relation_table: `[2R, 2·rank]`.
    """

    relation_table: nn.Parameter

    def query_vectors(self, table: Tensor, entities: Tensor, relations: Tensor) -> Tensor:
        """`h∘r`; its inner product with `t` is `Re⟨h, r, conj t⟩`."""
        # F.embedding, not fancy indexing: its backward is several times faster (findings.md 8).
        return complex_product(
            F.embedding(entities, table), F.embedding(relations, self.relation_table)
        )

    def factor_moduli(
        self, table: Tensor, entities: Tensor, relations: Tensor, answers: Tensor
    ) -> list[Tensor]:
        """Complex moduli of head, relation and tail, `[batch, rank]` each."""
        return [
            complex_moduli(F.embedding(entities, table)),
            complex_moduli(F.embedding(relations, self.relation_table)),
            complex_moduli(F.embedding(answers, table)),
        ]

    def summary(self, table: Tensor, entities: Tensor, relations: Tensor) -> Tensor:
        """Root mean squares of entity, relation and query vectors, `[batch, 3]`."""
        entity = F.embedding(entities, table)
        relation = F.embedding(relations, self.relation_table)
        query = complex_product(entity, relation)
        return torch.stack([root_mean_square(part) for part in (entity, relation, query)], dim=1)


class ComplEx(ComplExScorer):
    """The default unimodal student: ComplEx over a free entity table.

    Args:
        num_entities: `E`.
        num_relations: `R`; the relation table holds `2R` rows.
        rank: complex dimensions, so `2·rank` floats per entity.
        init_scale: standard deviation of the initial values (MoSE: 1e-3, exact).
        generator: the only source of randomness.
    """

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        rank: int,
        *,
        generator: torch.Generator,
        init_scale: float = 1e-3,
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
