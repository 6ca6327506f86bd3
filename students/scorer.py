"""What every scorer of queries, student or teacher, has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Scorer(nn.Module, ABC):
    """Scores every entity as the answer of a query `(entity, relation)`.

    Relation ids `≥ R` are the reciprocal relations, so `[0, 2R)` are valid.

    Attributes:
        num_entities: `E`.
        num_relations: `R`, reciprocals not counted.
    """

    num_entities: int
    num_relations: int

    @abstractmethod
    def entity_vectors(self) -> Tensor:
        """Vectors of all entities, float `[entities, width]`."""

    @abstractmethod
    def query_vectors(self, table: Tensor, entities: Tensor, relations: Tensor) -> Tensor:
        """Vectors of queries, float `[batch, width]`.

        Args:
            table: `[entities, width]`, what `entity_vectors` returned: teachers compute it from
                features, so it is computed once per step and handed around.
            entities: int64 `[batch]`.
            relations: int64 `[batch]`, ids in `[0, 2R)`.
        """

    def compare(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Score of every candidate for every query.

        Args:
            queries: `[batch, width]`, from `query_vectors`.
            candidates: `[candidates, width]`, rows of `entity_vectors`.

        Returns:
            `[batch, candidates]`; here the inner product, other geometries override it.
        """
        return queries @ candidates.T

    @property
    def is_inner_product(self) -> bool:
        """Whether `compare` is the one above, so that a matrix product may stand in for it."""
        return type(self).compare is Scorer.compare

    def pull_back(
        self, queries: Tensor, candidates: Tensor, slope: Tensor, total: Tensor, first: bool
    ) -> Tensor:
        """Backward pass of `compare`, by hand where it is the inner product.

        Args:
            queries: `[block, width]`.
            candidates: `[candidates, width]`.
            slope: `[block, candidates]`, the loss's gradient with respect to the scores.
            total: `[candidates, width]`, where the candidates' gradient is added up over blocks.
            first: whether `total` holds nothing yet.

        Returns:
            The queries' gradient, `[block, width]`.
        """
        if self.is_inner_product:
            if first:
                torch.mm(slope.T, queries, out=total)
            else:
                total.addmm_(slope.T, queries)
            return slope @ candidates
        with torch.enable_grad():
            queries = queries.detach().requires_grad_()
            candidates = candidates.detach().requires_grad_()
            scores = self.compare(queries, candidates)
        # Other geometries may have parameters of their own in `compare`.
        own = [parameter for parameter in self.parameters() if parameter.requires_grad]
        by_queries, by_candidates, *by_own = torch.autograd.grad(
            scores, [queries, candidates, *own], slope, allow_unused=True
        )
        for parameter, gradient in zip(own, by_own, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        if first:
            total.copy_(by_candidates)
        else:
            total += by_candidates
        return by_queries

    def forward(self, entities: Tensor, relations: Tensor) -> Tensor:
        """Logits `[batch, entities]` of the queries, whose ids may be on any device."""
        table = self.entity_vectors()
        ids = entities.to(table.device), relations.to(table.device)
        return self.compare(self.query_vectors(table, *ids), table)

    @abstractmethod
    def factor_moduli(
        self, table: Tensor, entities: Tensor, relations: Tensor, answers: Tensor
    ) -> list[Tensor]:
        """The moduli that N3 cubes, one `[batch, rank]` per factor (head, relation, tail)."""

    @abstractmethod
    def summary(self, table: Tensor, entities: Tensor, relations: Tensor) -> Tensor:
        """Norms (root mean square) of entity, relation and query vectors, `[batch, 3]`.

        What the selector sees of a query's vectors; `dsom_env.columns` names them.
        """

    def row_owners(self) -> dict[str, Tensor]:
        """Whose the rows of a parameter are, for a graph that grows (`students.growing`).

        Returns:
            By name of the parameter int64 `[rows]`, distinct: `entity_owners` of those entities
            that have a row, or `relation_owners`. A parameter that is not named does not grow.
        """
        return {}

    def feature_scales(self) -> dict[str, float]:
        """By name of the parameter that projects them: what features of a modality are divided by.

        It changes when entities arrive, and what was learned must not change with it.
        """
        return {}


def entity_owners(num_entities: int) -> Tensor:
    """Owners of one row per entity, int64 `[E]`."""
    return torch.arange(num_entities)


def relation_owners(num_relations: int) -> Tensor:
    """Owners of one row per relation and one per reciprocal, int64 `[2R]`.

    A reciprocal's id `r + R` moves when relations arrive; its owner's name does not.
    """
    relations = 2 * torch.arange(num_relations)
    return torch.cat([relations, relations + 1])


def owners_of_tables(scorer: Scorer, num_entities: int, num_relations: int) -> dict[str, Tensor]:
    """`row_owners` of a scorer over free tables: `entity_table`'s entities, and relations else."""
    tables = [name for name, value in scorer.named_parameters() if value.ndim == 2]
    return {name: relation_owners(num_relations) for name in tables} | {
        "entity_table": entity_owners(num_entities)
    }


def normal_table(rows: int, columns: int, scale: float, generator: torch.Generator) -> nn.Parameter:
    """A parameter `[rows, columns]` drawn from N(0, scale²) by `generator`."""
    return nn.Parameter(scale * torch.randn(rows, columns, generator=generator))


def root_mean_square(vectors: Tensor) -> Tensor:
    """Root mean square of each row, `[batch]`: a norm that does not grow with the width."""
    return vectors.square().mean(dim=1).sqrt()
