"""All pairs of distances, and their hand-written gradient, against the ball and autograd."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from students import hyperboloid
from students.ball import distance, exp_map, on_hyperboloid
from students.hyperboloid import FARTHEST, Columns, Rows, pull_back, squared_distances

ROWS, COLUMNS, RANK = 9, 23, 5


def some(dtype: torch.dtype, scale: float = 0.6, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Tangent vectors of rows and columns, and curvatures of which some occur twice."""
    generator = torch.Generator().manual_seed(seed)
    vectors = scale * torch.randn(ROWS, RANK, generator=generator, dtype=torch.float64)
    others = scale * torch.randn(COLUMNS, RANK, generator=generator, dtype=torch.float64)
    levels = torch.rand(4, generator=generator, dtype=torch.float64) + 0.2
    c = levels[torch.randint(4, (ROWS,), generator=generator)]
    return vectors.to(dtype), others.to(dtype), c.to(dtype)


def asked(dtype: torch.dtype, scale: float = 0.6) -> tuple[Rows, Columns]:
    vectors, others, c = some(dtype, scale)
    points = on_hyperboloid(exp_map(vectors, c[:, None]), c[:, None])
    return Rows.of(points, c), Columns.of(others)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows at a time, and one at the end."""
    monkeypatch.setattr(hyperboloid, "_CHUNK_ELEMENTS", 2 * COLUMNS)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("scale", [1e-4, 0.6, 1.2])
def test_distances_are_those_of_the_ball(scale: float) -> None:
    vectors, others, c = some(torch.float64, scale)
    rows, columns = asked(torch.float64, scale)
    expected = torch.stack(
        [
            distance(exp_map(vectors, c[:, None]), exp_map(other[None], c[:, None]), c[:, None])[
                :, 0
            ]
            for other in others
        ],
        dim=1,
    ).square()
    for found in (squared_distances(rows, columns), _quietly(rows, columns)):
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-12)


@torch.no_grad()
def _quietly(rows: Rows, columns: Columns) -> Tensor:
    """The fast path."""
    return squared_distances(rows, columns)


def test_single_precision_next_to_the_boundary() -> None:
    """Rows at their margin, columns anywhere: within the two digits that the margin leaves."""
    rows, columns = asked(torch.float64, 4.0)
    c = rows.roots.square()
    # What float32's margin lets through, in double precision.
    most = 2 / (1 - (1 - 4e-3) ** 2)
    points = rows.points / rows.points.norm(dim=1, keepdim=True) * most
    exact = squared_distances(Rows.of(points, c), columns).sqrt()
    single = Rows.of(points.float(), c.float())
    found = _quietly(single, Columns.of((columns.directions * columns.lengths[:, None]).float()))
    torch.testing.assert_close(found.sqrt().double(), exact, rtol=2e-3, atol=2e-2)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("scale", [0.1, 0.6, 30.0])
def test_the_gradient_is_that_of_autograd(scale: float) -> None:
    """At a scale of 30 most columns are beyond the farthest end, and stay where they are."""
    rows, columns = asked(torch.float64, min(scale, 1.0))
    columns = Columns(columns.directions, columns.lengths * (scale / min(scale, 1.0)))
    generator = torch.Generator().manual_seed(1)
    slope = torch.randn(ROWS, COLUMNS, generator=generator, dtype=torch.float64)
    leaves = [part.clone().requires_grad_() for part in (*rows, *columns)]
    distances = squared_distances(Rows(*leaves[:3]), Columns(*leaves[3:]))
    expected = torch.autograd.grad(distances, leaves, slope)
    by_rows, by_columns = pull_back(rows, columns, slope)
    for found, wanted in zip((*by_rows, *by_columns), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-9)
    if scale == 30.0:
        held = 2 * rows.roots[:, None] * columns.lengths > FARTHEST
        assert held.any()
        assert (by_columns.lengths[held.all(0)] == 0).all()


def test_the_gradient_is_that_of_differences() -> None:
    rows, columns = asked(torch.float64)
    leaves = [part.clone().requires_grad_() for part in (*rows, *columns)]
    assert torch.autograd.gradcheck(
        lambda *parts: squared_distances(Rows(*parts[:3]), Columns(*parts[3:])),
        leaves,
    )


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([torch.float32, torch.float64]))
def test_a_point_meets_itself_without_a_singularity(seed: int, dtype: torch.dtype) -> None:
    """`d²` and its gradient vanish there but for rounding, where `d` has a kink."""
    vectors, _, c = some(dtype, 0.3, seed)
    leaves = vectors.requires_grad_(), c.requires_grad_()
    rows = Rows.of(on_hyperboloid(exp_map(vectors, c[:, None]), c[:, None]), c)
    columns = Columns.of(vectors)
    # The module's bound on what rounding does to cosh D − 1.
    reach = 2 * (c.sqrt() * vectors.norm(dim=1)).max().item()
    small = 20 * torch.finfo(dtype).eps * np.exp(2 * reach)
    with torch.no_grad():
        assert (squared_distances(rows, columns).diagonal() <= small).all()
        by_rows, by_columns = pull_back(rows, columns, torch.eye(ROWS, dtype=dtype))
    for part in torch.autograd.grad([*rows, *columns], leaves, [*by_rows, *by_columns]):
        np.testing.assert_allclose(part.numpy(), 0, atol=small)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("opposite", [1.0, -1.0])
def test_everything_is_finite_at_the_boundary(dtype: torch.dtype, opposite: float) -> None:
    """Rows and columns at 1 − 1e-5 of the radius: the same points, and those across the ball."""
    vectors, _, c = some(dtype)
    ball = (1 - 1e-5) / c.sqrt()[:, None] * vectors / vectors.norm(dim=1, keepdim=True)
    rows = Rows.of(on_hyperboloid(ball, c[:, None]), c)
    lengths = torch.atanh(torch.tensor(1 - 1e-5, dtype=dtype)) / c.sqrt()
    columns = Columns(opposite * vectors / vectors.norm(dim=1, keepdim=True), lengths)
    found = _quietly(rows, columns)
    assert found.isfinite().all()
    if opposite < 0:
        across = 4 * np.arctanh(1 - 1e-5) / c.sqrt().double().numpy()
        np.testing.assert_allclose(found.diagonal().double().sqrt().numpy(), across, rtol=2e-3)
    for part in (p for half in pull_back(rows, columns, torch.ones_like(found)) for p in half):
        assert part.isfinite().all()
