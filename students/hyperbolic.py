"""Hyperbolic scorers: entities in the Poincaré ball, a curvature for every relation."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from students import hyperboloid
from students.ball import exp_map, mobius_add, on_hyperboloid, project, turn_pairs
from students.hyperboloid import Columns, Rows
from students.scorer import Scorer, normal_table, owners_of_tables, root_mean_square

# Flatter than this, `c·d²` drowns in the rounding of `cosh(√c·d)`: d² is off by 2e-7/c.
LEAST_CURVATURE = 1e-3


class Hyperbolic(Scorer):
    """Score `b_t − d_c(q, exp t)²`: how near the query's point is to the candidate, and its bias.

    Chami et al. 2020 (MulDE's models, methods.md §4), with the curvature `c = softplus(·)` of the
    query's relation and everything that is learned in the tangent space of the origin, as in the
    released code (KGEmb, exact) but for three things. The bias of the query's own entity is left
    out, which is the same for all candidates and says nothing here, where a softmax is taken over
    them. Distances are not cut at 12.2. And training is ours: 1-vs-all, see `Trainer`.

    Args:
        num_entities: `E`.
        num_relations: `R`; tables of relations hold `2R` rows.
        rank: dimensions of the ball, one float each.
        init_scale: standard deviation of the initial tangent vectors (KGEmb: 1e-3; larger, so that
            Adagrad's first steps do not decide all directions).
        generator: the only source of randomness.

    Attributes:
        entity_table: `[entities, rank + 1]`, tangent vectors and, in the last column, biases.
        relation_table: `[2R, rank]`, tangent vectors of the translations.
        curvature_table: `[2R, 1]`, before the softplus.

    Raises:
        ValueError: an odd rank, for scorers that turn pairs of coordinates.
    """

    pairs = True

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
        if self.pairs and rank % 2:
            name = type(self).__name__
            raise ValueError(f"rank: {name} turns pairs of coordinates, so it is even; got {rank}")
        self.num_entities = num_entities
        self.num_relations = num_relations
        self.rank = rank
        self.entity_table = normal_table(num_entities, rank + 1, init_scale, generator)
        with torch.no_grad():
            self.entity_table[:, -1] = 0.0
        self.relation_table = normal_table(2 * num_relations, rank, init_scale, generator)
        self.curvature_table = nn.Parameter(torch.ones(2 * num_relations, 1))
        self._make_tables(init_scale, generator)

    def _make_tables(self, init_scale: float, generator: torch.Generator) -> None:
        """Tables of relations beside translation and curvature; a scorer may have none."""

    def _angles(self, generator: torch.Generator) -> nn.Parameter:
        """Pairs `(cos φ, sin φ)` up to their length, `[2R, rank]`; from -1 to 1, as in KGEmb."""
        return nn.Parameter(
            2 * torch.rand(2 * self.num_relations, self.rank, generator=generator) - 1
        )

    @abstractmethod
    def move(self, heads: Tensor, relations: Tensor, c: Tensor) -> Tensor:
        """The queries' points in the ball, `[batch, rank]`.

        Args:
            heads: tangent vectors, `[batch, rank]`.
            relations: int64 `[batch]`.
            c: curvatures, `[batch, 1]`.
        """

    def translation(self, relations: Tensor, c: Tensor) -> Tensor:
        """The relations' translations as points in the ball, `[batch, rank]`."""
        return exp_map(F.embedding(relations, self.relation_table), c)

    def curvatures(self, relations: Tensor) -> Tensor:
        """Curvatures of the relations, above 0, `[batch, 1]`."""
        return F.softplus(F.embedding(relations, self.curvature_table)).clamp_min(LEAST_CURVATURE)

    def row_owners(self) -> dict[str, Tensor]:
        """Rows by entity and by relation."""
        return owners_of_tables(self, self.num_entities, self.num_relations)

    def entity_vectors(self) -> Tensor:
        """The free table, `[entities, rank + 1]`."""
        return self.entity_table

    def query_vectors(self, table: Tensor, entities: Tensor, relations: Tensor) -> Tensor:
        """Points on the hyperboloid and, in the last column, curvatures, `[batch, rank + 1]`."""
        c = self.curvatures(relations)
        points = self.move(F.embedding(entities, table)[:, :-1], relations, c)
        return torch.cat([on_hyperboloid(project(points, c), c), c], dim=1)

    def compare(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Biases less squared distances, `[batch, candidates]`."""
        rows = Rows.of(queries[:, :-1], queries[:, -1])
        return candidates[:, -1] - hyperboloid.squared_distances(
            rows, Columns.of(candidates[:, :-1])
        )

    def pull_back(
        self, queries: Tensor, candidates: Tensor, slope: Tensor, total: Tensor, first: bool
    ) -> Tensor:
        """See `Scorer.pull_back`; by hand between the vectors and all pairs of them."""
        with torch.enable_grad():
            inputs = queries.detach().requires_grad_(), candidates.detach().requires_grad_()
            rows = Rows.of(inputs[0][:, :-1], inputs[0][:, -1])
            columns = Columns.of(inputs[1][:, :-1])
        by_rows, by_columns = hyperboloid.pull_back(
            Rows(*(part.detach() for part in rows)),
            Columns(*(part.detach() for part in columns)),
            slope,
        )
        by_queries, by_candidates = torch.autograd.grad(
            [*rows, *columns], inputs, [-part for part in (*by_rows, *by_columns)]
        )
        by_candidates[:, -1] += slope.sum(0)
        if first:
            total.copy_(by_candidates)
        else:
            total += by_candidates
        return by_queries

    def factor_moduli(
        self, table: Tensor, entities: Tensor, relations: Tensor, answers: Tensor
    ) -> list[Tensor]:
        """Absolute tangent coordinates of head, translation and tail, `[batch, rank]` each."""
        return [
            F.embedding(entities, table)[:, :-1].abs(),
            F.embedding(relations, self.relation_table).abs(),
            F.embedding(answers, table)[:, :-1].abs(),
        ]

    def summary(self, table: Tensor, entities: Tensor, relations: Tensor) -> Tensor:
        """Root mean squares of head, translation and query's point in the ball, `[batch, 3]`."""
        heads, c = F.embedding(entities, table)[:, :-1], self.curvatures(relations)
        points = project(self.move(heads, relations, c), c)
        parts = (heads, F.embedding(relations, self.relation_table), points)
        return torch.stack([root_mean_square(part) for part in parts], dim=1)


class TransH(Hyperbolic):
    """Hyperbolic TransE: the head, translated, `h ⊕ r`.

    MulDE's name for it (methods.md §4, unconfirmed); nothing to do with the TransH of Wang et al.
    2014, which projects on hyperplanes. It is RefH without the reflection.
    """

    pairs = False

    def move(self, heads: Tensor, relations: Tensor, c: Tensor) -> Tensor:
        """See the class."""
        return mobius_add(exp_map(heads, c), self.translation(relations, c), c)


class RefH(Hyperbolic):
    """The head reflected, then translated: `Ref(h) ⊕ r` (Chami et al. 2020, exact)."""

    def _make_tables(self, init_scale: float, generator: torch.Generator) -> None:
        self.reflection_table = self._angles(generator)

    def move(self, heads: Tensor, relations: Tensor, c: Tensor) -> Tensor:
        """See the class."""
        reflections = F.embedding(relations, self.reflection_table)
        turned = exp_map(turn_pairs(reflections, heads, reflect=True), c)
        return mobius_add(turned, self.translation(relations, c), c)


class RotH(Hyperbolic):
    """The head translated, rotated, translated again: `Rot(h ⊕ r₁) ⊕ r₂` (Chami et al. 2020).

    Exact: two translations are what the released code has; the paper's equation has the second.
    """

    def _make_tables(self, init_scale: float, generator: torch.Generator) -> None:
        self.first_table = normal_table(2 * self.num_relations, self.rank, init_scale, generator)
        self.rotation_table = self._angles(generator)

    def move(self, heads: Tensor, relations: Tensor, c: Tensor) -> Tensor:
        """See the class."""
        first = exp_map(F.embedding(relations, self.first_table), c)
        moved = project(mobius_add(exp_map(heads, c), first, c), c)
        turned = turn_pairs(F.embedding(relations, self.rotation_table), moved)
        return mobius_add(turned, self.translation(relations, c), c)


class AttH(Hyperbolic):
    """Head rotated and reflected, mixed by attention, then translated (Chami et al. 2020, exact).

    `exp(α_rot·Rot(h) + α_ref·Ref(h)) ⊕ r`, with `α = softmax(⟨a_r, ·⟩/√rank)` in the tangent space.
    """

    def _make_tables(self, init_scale: float, generator: torch.Generator) -> None:
        self.rotation_table = self._angles(generator)
        self.reflection_table = self._angles(generator)
        self.context_table = normal_table(2 * self.num_relations, self.rank, init_scale, generator)

    def move(self, heads: Tensor, relations: Tensor, c: Tensor) -> Tensor:
        """See the class."""
        rotated = turn_pairs(F.embedding(relations, self.rotation_table), heads)
        reflections = F.embedding(relations, self.reflection_table)
        turned = torch.stack([rotated, turn_pairs(reflections, heads, reflect=True)], dim=1)
        context = F.embedding(relations, self.context_table)[:, None]
        attention = ((context * turned).sum(2) / math.sqrt(self.rank)).softmax(1)
        mixed = (attention[:, :, None] * turned).sum(1)
        return mobius_add(exp_map(mixed, c), self.translation(relations, c), c)
