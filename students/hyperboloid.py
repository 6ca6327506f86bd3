"""Distances of all pairs of points on a hyperboloid by one matrix product, and their gradient.

A point `X` (without its first coordinate, the height `√(1 + ‖X‖²)`) and the end of a geodesic that
leaves the origin along the unit vector `u`, at distance `b`, are `D` apart by the law of cosines,

    cosh D = √(1 + ‖X‖²)·cosh b − ⟨X, u⟩·sinh b.

In the ball of curvature −c the tangent vector `v = ‖v‖·u` ends at `b = 2√c‖v‖` (`ball.exp_map`),
and the geodesic distance is `d = D/√c`. So a distance costs one inner product and a handful of
passes, whatever the curvature of its row; and `d²`, unlike `d`, has a gradient everywhere.

The relative error of `cosh D − 1` is up to `e^{2a}` roundings, `a` the lesser of the two distances
from the origin, which is why points keep a margin from the boundary (`ball.MARGINS`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from students.devices import elements_at_once

# Candidates farther from the origin are where a geodesic of this length ends: cosh would overflow
# at 88. (KGEmb's artanh cuts all distances at 12.2.)
FARTHEST = 30.0
# Elements that are passed over at a time, so that they stay in a core's own cache: without, fresh
# memory for every intermediate result makes a distance five times as expensive.
_CHUNK_ELEMENTS = 2**16


class Rows(NamedTuple):
    """Points whose distances are asked for, each in a space of its own curvature.

    Attributes:
        points: `X`, `[rows, rank]`.
        heights: `√(1 + ‖X‖²)`, `[rows]`.
        roots: `√c`, `[rows]`.
    """

    points: Tensor
    heights: Tensor
    roots: Tensor

    @classmethod
    def of(cls, points: Tensor, curvatures: Tensor) -> Rows:
        """From points `[rows, rank]` and curvatures `[rows]`, differentiably."""
        return cls(points, (1 + points.square().sum(1)).sqrt(), curvatures.sqrt())


class Columns(NamedTuple):
    """Tangent vectors at the origin, to whose ends distances are asked for.

    Attributes:
        directions: `u`, `[columns, rank]`, of length one (or zero).
        lengths: `‖v‖`, `[columns]`.
    """

    directions: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, vectors: Tensor) -> Columns:
        """From tangent vectors `[columns, rank]`, differentiably."""
        lengths = torch.linalg.vector_norm(vectors, dim=1).clamp_min(1e-15)
        return cls(vectors / lengths[:, None], lengths)


class _Waves(NamedTuple):
    """`cosh b` and `sinh b` for each distinct curvature and column, and whose they are.

    Rows of one relation have one curvature: far fewer exponentials than pairs.

    Attributes:
        cosh: `[curvatures, columns]`.
        sinh: `[curvatures, columns]`.
        which: int64 `[rows]`.
        free: `[curvatures, columns]`, 0 where `FARTHEST` holds a column and 1 elsewhere; None for 1
            everywhere.
    """

    cosh: Tensor
    sinh: Tensor
    which: Tensor
    free: Tensor | None

    @classmethod
    def of(cls, rows: Rows, columns: Columns) -> _Waves:
        roots, which = torch.unique(rows.roots, return_inverse=True)
        reach = 2 * roots[:, None] * columns.lengths
        free = None
        if bool((reach > FARTHEST).any()):
            free = (reach <= FARTHEST).to(reach.dtype)
        up = reach.clamp_max_(FARTHEST).exp_().div_(2)
        down = up.reciprocal().div_(4)
        return cls(up + down, up.sub_(down), which, free)


class _Chunk(NamedTuple):
    """A few rows, while they are in a cache; each array is `[few, columns]` and may be used up.

    Attributes:
        rows: which.
        cosh: of the rows' curvatures.
        sinh: of the rows' curvatures.
        z: `cosh D`.
        root: `sinh D`.
    """

    rows: slice
    cosh: Tensor
    sinh: Tensor
    z: Tensor
    root: Tensor


def _chunks(rows: Rows, waves: _Waves, products: Tensor) -> Iterator[_Chunk]:
    """All rows, a few at a time, through the same memory.

    Args:
        rows: the points.
        waves: of the points and the columns.
        products: `⟨X, u⟩`, `[rows, columns]`; may be written to behind the chunk that is out.
    """
    step = _few(products)
    memory = products.new_empty(4, step, products.shape[1])
    for start in range(0, len(products), step):
        part = slice(start, start + step)
        which = waves.which[part]
        cosh, sinh, z, root = memory[:, : len(which)]
        torch.index_select(waves.cosh, 0, which, out=cosh)
        torch.index_select(waves.sinh, 0, which, out=sinh)
        torch.mul(cosh, rows.heights[part, None], out=z)
        # Rounding below 1 must not become a NaN, nor the slope of the root infinite.
        z.addcmul_(products[part], sinh, value=-1).clamp_min_(_least(z))
        torch.mul(z, z, out=root).sub_(1).sqrt_()
        yield _Chunk(part, cosh, sinh, z, root)


def _few(products: Tensor) -> int:
    """Rows of a chunk."""
    most = elements_at_once(products.device, _CHUNK_ELEMENTS)
    return max(min(most // products.shape[1], len(products)), 1)


def _row_products(one: Tensor, other: Tensor) -> Tensor:
    """Inner product of each row of `one` with that of `other`, `[rows]`."""
    if one.device.type != "cpu":
        products: Tensor = torch.linalg.vecdot(one, other)
        return products
    # Row by row, which reads the numbers once.
    return torch.stack([torch.dot(a, b) for a, b in zip(one, other, strict=True)])


def _least(z: Tensor) -> float:
    """The least `cosh D` that there is, a rounding above 1."""
    return 1 + 2 * torch.finfo(z.dtype).eps


def squared_distances(rows: Rows, columns: Columns) -> Tensor:
    """`d²`, `[rows, columns]`; see the module. Differentiable, in forward mode too."""
    products = rows.points @ columns.directions.T
    if torch.is_grad_enabled():
        reach = (2 * rows.roots[:, None] * columns.lengths).clamp_max(FARTHEST)
        z = rows.heights[:, None] * reach.cosh() - products * reach.sinh()
        z = z.clamp_min(_least(z))
        return ((z + (z.square() - 1).sqrt()).log() / rows.roots[:, None]).square()
    waves = _Waves.of(rows, columns)
    for chunk in _chunks(rows, waves, products):
        distances = chunk.root.add_(chunk.z).log_().div_(rows.roots[chunk.rows, None])
        torch.square(distances, out=products[chunk.rows])
    return products


def pull_back(rows: Rows, columns: Columns, slope: Tensor) -> tuple[Rows, Columns]:
    """Gradient of `Σ slope·d²` with respect to rows and columns, by hand.

    Args:
        rows: without gradient.
        columns: without gradient.
        slope: `[rows, columns]`.

    Returns:
        Gradients, in the shapes of what they belong to.
    """
    waves, products = _Waves.of(rows, columns), rows.points @ columns.directions.T
    # ∂d²/∂z = 2D/(c·sinh D); what belongs to a row is left to the small arrays.
    factor = 2 / rows.roots.square()
    spread = 2 * factor * rows.roots
    by_heights, by_roots = torch.empty_like(rows.heights), torch.empty_like(rows.roots)
    by_lengths, ones = torch.zeros_like(columns.lengths), torch.ones_like(columns.lengths)
    memory = products.new_empty(_few(products), products.shape[1])
    for chunk in _chunks(rows, waves, products):
        part, product = chunk.rows, products[chunk.rows]
        distance = torch.add(chunk.z, chunk.root, out=chunk.z).log_()
        sloping = torch.mul(distance, slope[part], out=memory[: len(product)])
        squares = _row_products(distance, sloping)  # Of the 1/c in d².
        by_z = sloping.div_(chunk.root)
        by_cosh = chunk.cosh.mul_(by_z)
        by_heights[part] = by_cosh @ ones
        # −∂z/∂b = ⟨X, u⟩·cosh b − √(1 + ‖X‖²)·sinh b.
        by_reach = torch.mul(product, by_cosh, out=chunk.z)
        by_product = torch.mul(chunk.sinh, by_z, out=product)
        by_reach.addcmul_(by_product, rows.heights[part, None], value=-1)
        if waves.free is not None:
            by_reach.mul_(waves.free[waves.which[part]])
        by_lengths.addmv_(by_reach.T, spread[part], alpha=-1)
        by_roots[part] = -2 * (by_reach @ columns.lengths) - squares / rows.roots[part]
    by_points = products @ columns.directions
    by_directions = products.T @ (-factor[:, None] * rows.points)
    return (
        Rows(-factor[:, None] * by_points, factor * by_heights, factor * by_roots),
        Columns(by_directions, by_lengths),
    )
