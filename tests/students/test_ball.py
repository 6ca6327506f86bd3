"""The Poincaré ball against exact fractions, its own laws, and single against double precision."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from students.ball import (
    MARGINS,
    distance,
    exp_map,
    mobius_add,
    on_hyperboloid,
    project,
    turn_pairs,
)

RANK = 4
NEAR = 1 - 1e-5


def exact_add(x: list[Fraction], y: list[Fraction], c: Fraction) -> list[Fraction]:
    """The textbook's Möbius addition, without rounding."""
    xy = sum(a * b for a, b in zip(x, y, strict=True))
    xx, yy = sum(a * a for a in x), sum(b * b for b in y)
    below = 1 + 2 * c * xy + c * c * xx * yy
    pairs = zip(x, y, strict=True)
    return [((1 + 2 * c * xy + c * yy) * a + (1 - c * xx) * b) / below for a, b in pairs]


def exact_distance(x: list[Fraction], y: list[Fraction], c: Fraction) -> float:
    """`(2/√c)·artanh(√c‖−x ⊕ y‖)` with sixty digits."""
    square = c * sum(a * a for a in exact_add([-a for a in x], y, c))
    with localcontext() as context:
        context.prec = 60
        root = (Decimal(square.numerator) / Decimal(square.denominator)).sqrt()
        artanh = ((1 + root) / (1 - root)).ln() / 2
        scale = (Decimal(c.numerator) / Decimal(c.denominator)).sqrt()
        return float(2 * artanh / scale)


def fractions(row: Tensor) -> list[Fraction]:
    return [Fraction(value) for value in row.double().tolist()]


def in_ball(seed: int, c: float, share: float, dtype: torch.dtype, count: int = 1) -> Tensor:
    """Points at `share` of the radius, in random directions, `[count, RANK]`."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(count, RANK, generator=generator, dtype=torch.float64)
    points = share / math.sqrt(c) * vectors / vectors.norm(dim=1, keepdim=True)
    return points.to(dtype)


shares = st.sampled_from([1e-6, 0.1, 0.7, 0.99, NEAR])
# Powers of four, so that a curvature and its root are the same in every precision.
curvatures = st.sampled_from([0.0625, 0.25, 1.0, 4.0])
precisions = st.sampled_from([torch.float32, torch.float64])
seeds = st.integers(0, 10_000)
signs = st.sampled_from([0.0, 1.0, -1.0])


def pair(
    seed: int, c: float, shares: tuple[float, float], like: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Two points; with `like` ±1 almost the same direction, or the opposite one."""
    x = in_ball(seed, c, shares[0], torch.float64)
    y = in_ball(seed + 1, c, shares[1], torch.float64)
    if like:
        y = like * x * shares[1] / shares[0] + 1e-7 * y
        y = y * shares[1] / (math.sqrt(c) * y.norm())
    return x.to(dtype), y.to(dtype)


@settings(deadline=None)
@given(seeds, curvatures, st.tuples(shares, shares), signs, precisions)
def test_addition_and_distance_are_those_of_exact_fractions(
    seed: int, c: float, where: tuple[float, float], like: float, dtype: torch.dtype
) -> None:
    """Also where both points are at 1 − 1e-5 of the radius, beside or opposite each other.

    What is left to compare with is the error of the numbers themselves: next to the boundary a
    rounding of a coordinate is `1/(1 − c‖x‖²)` roundings of hyperbolic length.
    """
    x, y = pair(seed, c, where, like, dtype)
    curvature = torch.tensor([[c]], dtype=dtype)
    eps = torch.finfo(dtype).eps
    room = min(1 - min(share, NEAR) for share in where)
    close = 20 * eps / room
    summed = mobius_add(x, y, curvature)[0].double()
    exact = np.array([float(v) for v in exact_add(fractions(x[0]), fractions(y[0]), Fraction(c))])
    found = math.sqrt(c) * np.linalg.norm(summed.numpy() - exact)
    # In the ball's own unit: lengths there, from the point where the sum is.
    assert found <= close * max(1 - c * float(exact @ exact), eps / room) + 4 * eps
    apart = float(distance(x, y, curvature))
    expected = exact_distance(fractions(x[0]), fractions(y[0]), Fraction(c))
    assert apart == pytest.approx(expected, rel=close, abs=close / math.sqrt(c))


@settings(deadline=None)
@given(seeds, curvatures, shares, shares)
def test_taking_back_and_moving_along(seed: int, c: float, first: float, second: float) -> None:
    """`−x ⊕ (x ⊕ y) = y`, and no translation changes a distance."""
    x = in_ball(seed, c, min(first, 0.99), torch.float64)
    y, z = (in_ball(seed + k, c, min(second, 0.99), torch.float64) for k in (1, 2))
    curvature = torch.tensor([[c]], dtype=torch.float64)
    back = mobius_add(-x, mobius_add(x, y, curvature), curvature)
    torch.testing.assert_close(back, y, rtol=1e-9, atol=1e-11)
    moved = distance(mobius_add(x, y, curvature), mobius_add(x, z, curvature), curvature)
    torch.testing.assert_close(moved, distance(y, z, curvature), rtol=1e-8, atol=1e-10)


@settings(deadline=None)
@given(seeds, curvatures, st.sampled_from([0.0, 1.0, -1.0]), precisions)
def test_gradients_are_finite_at_the_boundary(
    seed: int, c: float, like: float, dtype: torch.dtype
) -> None:
    """Of addition and distance, for points at 1 − 1e-5: apart, the same, and opposite."""
    x = in_ball(seed, c, NEAR, dtype).requires_grad_()
    y = (like * x.detach() if like else in_ball(seed + 1, c, NEAR, dtype)).requires_grad_()
    curvature = torch.tensor([[c]], dtype=dtype, requires_grad=True)
    for value in (mobius_add(x, y, curvature), distance(x, y, curvature)):
        assert value.isfinite().all()
        for gradient in torch.autograd.grad(value.sum(), [x, y, curvature]):
            assert gradient.isfinite().all()


@settings(deadline=None)
@given(seeds, curvatures, st.floats(0, 100), precisions)
def test_nothing_leaves_the_ball(seed: int, c: float, length: float, dtype: torch.dtype) -> None:
    vectors = in_ball(seed, 1.0, 1.0, dtype) * length
    curvature = torch.tensor([[c]], dtype=dtype)
    points = exp_map(vectors, curvature)
    most = (1 - MARGINS[dtype]) * (1 + 4 * torch.finfo(dtype).eps)
    assert float(points.norm()) * math.sqrt(c) <= most
    assert torch.equal(project(points, curvature), points) or math.tanh(length) > 0.99
    # The exponential map keeps lengths: twice the tangent's, in this metric.
    if math.sqrt(c) * length < 2:
        origin = torch.zeros_like(points)
        reach = float(distance(origin, points, curvature))
        assert reach == pytest.approx(2 * length, rel=1e-3, abs=1e-6)


def test_no_curvature_is_flat() -> None:
    x, y = (in_ball(seed, 1.0, 0.7, torch.float64, 20) for seed in (0, 1))
    c = torch.full((20, 1), 1e-10, dtype=torch.float64)
    torch.testing.assert_close(mobius_add(x, y, c), x + y, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(distance(x, y, c), 2 * (x - y).norm(dim=1, keepdim=True))


def test_the_hyperboloid_is_the_same_space() -> None:
    """`cosh(√c·d)` is the negative Lorentz product."""
    c = torch.rand(20, 1, dtype=torch.float64) * 0 + torch.linspace(0.1, 3, 20)[:, None].double()
    x, y = (
        in_ball(seed, 1.0, share, torch.float64, 20) / c.sqrt()
        for seed, share in ((0, 0.8), (1, 0.5))
    )
    lifted = [on_hyperboloid(points, c) for points in (x, y)]
    first, second = ((1 + points.square().sum(1)).sqrt() for points in lifted)
    lorentz = first * second - (lifted[0] * lifted[1]).sum(1)
    torch.testing.assert_close(torch.cosh(c.sqrt() * distance(x, y, c))[:, 0], lorentz)


def test_turning_pairs_is_multiplication_by_complex_numbers() -> None:
    directions, vectors = (
        in_ball(0, 1.0, 0.3, torch.float64, 9),
        in_ball(1, 1.0, 0.7, torch.float64, 9),
    )
    angle = torch.view_as_complex(directions.reshape(9, 2, 2))
    number = torch.view_as_complex(vectors.reshape(9, 2, 2))
    turn = angle / angle.abs()
    for reflect, expected in ((False, turn * number), (True, turn * number.conj())):
        found = torch.view_as_complex(turn_pairs(directions, vectors, reflect).reshape(9, 2, 2))
        torch.testing.assert_close(found, expected)
