"""The Poincaré ball of curvature −c, row by row: addition, exponential map, distance.

A ball of radius `1/√c`. Formulas are those of Ganea et al. 2018 and Chami et al. 2020, rearranged
so that nothing cancels near the boundary, where `1 − c‖x‖²` is all that is left of a number: sums
of what is not negative take the place of differences. Every function takes points or tangent
vectors `[batch, rank]` and curvatures `[batch, 1]`, above 0, and is differentiable in both.
"""

from __future__ import annotations

import torch
from torch import Tensor

# How far points stay away from the boundary, as a share of the radius (KGEmb, exact). A point at
# rapidity `a` loses a factor `e^{2a}` of precision in a matrix product (`students.hyperboloid`):
# with 4e-3 there remain two digits of float32, with 1e-5 five of float64.
MARGINS = {torch.float32: 4e-3, torch.float64: 1e-5}


def norms(vectors: Tensor) -> Tensor:
    """Lengths `[batch, 1]`, never 0, and with a gradient of 0 there."""
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return lengths.clamp_min(1e-15)


def room(points: Tensor, c: Tensor) -> Tensor:
    """`1 − c‖x‖²`, `[batch, 1]`: how much room is left to the boundary; never 0."""
    length = c.sqrt() * norms(points)
    return ((1 - length) * (1 + length)).clamp_min(torch.finfo(points.dtype).eps)


def project(points: Tensor, c: Tensor) -> Tensor:
    """Points nearer to the boundary than the margin of their precision, drawn back to it."""
    most = (1 - MARGINS[points.dtype]) / c.sqrt()
    length = norms(points)
    return torch.where(length > most, points / length * most, points)


def exp_map(vectors: Tensor, c: Tensor) -> Tensor:
    """The exponential map at the origin, `tanh(√c‖v‖)·v/(√c‖v‖)`, `[batch, rank]`, projected."""
    scaled = c.sqrt() * norms(vectors)
    return project(scaled.tanh() / scaled * vectors, c)


def mobius_add(x: Tensor, y: Tensor, c: Tensor) -> Tensor:
    """Möbius addition `x ⊕ y`, `[batch, rank]`.

    With `s = x + y` the textbook's fraction

        [(1 + 2c⟨x,y⟩ + c‖y‖²)·x + (1 − c‖x‖²)·y] / [1 + 2c⟨x,y⟩ + c²‖x‖²‖y‖²]

    is `[(1 − c‖x‖²)·s + c‖s‖²·x] / [(1 − c‖x‖²)(1 − c‖y‖²) + c‖s‖²]`, in which nothing cancels: the
    textbook's loses all digits where `y` is near `−x` and both are near the boundary.
    """
    total = x + y
    square = c * total.square().sum(dim=-1, keepdim=True)
    left = room(x, c)
    return (left * total + square * x) / (left * room(y, c) + square)


def distance(x: Tensor, y: Tensor, c: Tensor) -> Tensor:
    """Geodesic distance, `[batch, 1]`.

    `(2/√c)·artanh(√c‖−x ⊕ y‖)`, written as `(2/√c)·arsinh √(c‖x − y‖²/((1 − c‖x‖²)(1 − c‖y‖²)))`.
    """
    apart = c.sqrt() * norms(x - y)
    return 2 / c.sqrt() * torch.asinh(apart / (room(x, c) * room(y, c)).sqrt())


def on_hyperboloid(points: Tensor, c: Tensor) -> Tensor:
    """The same points on the unit hyperboloid, `2√c·x/(1 − c‖x‖²)`, `[batch, rank]`.

    Without the first coordinate, which is the root of one and the square of the others.
    """
    return 2 * c.sqrt() * points / room(points, c)


def turn_pairs(directions: Tensor, vectors: Tensor, reflect: bool = False) -> Tensor:
    """Givens rotation of each pair of coordinates, or reflection (Chami et al. 2020, eq. 7).

    Args:
        directions: `[batch, rank]`, pairs `(cos φ, sin φ)` up to their length. (KGEmb's released
            reflection has the first coordinate where the second belongs; this is the paper's.)
        vectors: `[batch, rank]`.
        reflect: whether pairs are reflected, about the line at the angle `φ/2`.

    Returns:
        `[batch, rank]`, of the same lengths.
    """
    pairs = directions.view(len(directions), -1, 2)
    cos, sin = (pairs / norms(pairs)).unbind(-1)
    first, second = vectors.reshape(len(vectors), -1, 2).unbind(-1)
    if reflect:
        turned = (cos * first + sin * second, sin * first - cos * second)
    else:
        turned = (cos * first - sin * second, sin * first + cos * second)
    return torch.stack(turned, dim=-1).flatten(1)
