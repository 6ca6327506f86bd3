"""InfoNCE against the closed form for Gaussians, and masks against brute force."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from teachers.contrast import Critic, info_nce, share_an_answer


def pairs(n: int, width: int, rho: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Standard normals with correlation ρ in each column."""
    left, noise = torch.randn(2, n, width, generator=generator, dtype=torch.float64)
    return left, rho * left + math.sqrt(1 - rho**2) * noise


def closed_form(width: int, rho: float) -> float:
    return -width / 2 * math.log(1 - rho**2)


def log_ratio(left: Tensor, right: Tensor, rho: float) -> Tensor:
    """`ln p(x, y) − ln p(x)·p(y)` of every left with every right: the best critic there can be."""
    cross = left @ right.T
    squares = left.square().sum(1)[:, None] + right.square().sum(1)
    return (rho * cross - rho**2 * squares / 2) / (1 - rho**2)


@pytest.mark.parametrize(("width", "rho"), [(1, 0.5), (3, 0.3), (3, 0.6), (2, 0.8), (4, 0.0)])
def test_the_best_critic_gives_the_closed_form(width: int, rho: float) -> None:
    generator = torch.Generator().manual_seed(0)
    values = []
    for _ in range(30):
        left, right = pairs(512, width, rho, generator)
        values.append(float(info_nce(log_ratio(left, right, rho)).mean()))
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert abs(np.mean(values) - closed_form(width, rho)) < 4 * error + 0.01


def test_no_batch_shows_more_than_the_logarithm_of_its_size() -> None:
    """Where there is far more information than that, the estimate stays just below."""
    generator = torch.Generator().manual_seed(0)
    left, right = pairs(64, 8, 0.99, generator)
    assert closed_form(8, 0.99) > 3 * math.log(64)
    estimate = float(info_nce(log_ratio(left, right, 0.99)).mean())
    assert 0.98 * math.log(64) < estimate <= math.log(64)


@st.composite
def scored(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Scores of a batch, and which pairs are left out."""
    n, seed = draw(st.integers(1, 9)), draw(st.integers(0, 10**6))
    generator = torch.Generator().manual_seed(seed)
    scale = draw(st.sampled_from([0.0, 1.0, 30.0]))
    scores = scale * torch.randn(n, n, generator=generator, dtype=torch.float64)
    excluded = torch.rand(n, n, generator=generator) < draw(st.sampled_from([0.0, 0.4, 1.0]))
    return scores, (excluded | excluded.T).fill_diagonal_(False)


@given(case=scored())
@settings(max_examples=60, deadline=None)
def test_masked_estimates_by_brute_force_and_their_bound(case: tuple[Tensor, Tensor]) -> None:
    scores, excluded = case
    found = info_nce(scores, excluded).tolist()
    for i in range(len(scores)):
        allowed = [j for j in range(len(scores)) if not excluded[i, j]]
        sides = [
            float(scores[i, i]) - math.log(sum(math.exp(v) for v in values) / len(allowed))
            for values in (
                [float(scores[i, j]) for j in allowed],
                [float(scores[j, i]) for j in allowed],
            )
        ]
        assert found[i] == pytest.approx(sum(sides) / 2, abs=1e-9)
        assert found[i] <= math.log(len(allowed)) + 1e-9
    if not excluded.any():
        torch.testing.assert_close(info_nce(scores), info_nce(scores, excluded))


def test_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(5, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    excluded = torch.zeros(5, 5, dtype=torch.bool)
    excluded[0, 3] = excluded[3, 0] = True
    assert torch.autograd.gradcheck(lambda s: info_nce(s, excluded), (scores,))
    (gradient,) = torch.autograd.grad(info_nce(scores, excluded).sum(), scores)
    assert gradient[0, 3] == gradient[3, 0] == 0
    assert (gradient != 0).sum() == 23


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), min_size=1, max_size=30),
)
@settings(max_examples=60, deadline=None)
def test_shared_answers_by_brute_force(rows: list[tuple[int, int]]) -> None:
    questions, answers = np.array(rows, dtype=np.int64).T
    found = share_an_answer(questions, answers, 6)
    for i in range(6):
        for j in range(6):
            common = {a for q, a in rows if q == i} & {a for q, a in rows if q == j}
            assert bool(found[i, j]) == (i != j and bool(common))


@pytest.mark.parametrize(("rho", "least"), [(0.0, -0.05), (0.6, 0.6), (0.9, 2.3)])
def test_a_critic_that_learns_comes_near_the_closed_form_from_below(
    rho: float, least: float
) -> None:
    width, generator = 4, torch.Generator().manual_seed(0)
    critic = Critic(width, width, 16, 0.1, generator)
    optimiser = torch.optim.Adam(critic.parameters(), lr=1e-2)
    for _ in range(300):
        left, right = pairs(256, width, rho, generator)
        optimiser.zero_grad()
        (-info_nce(critic(left.float(), right.float())).mean()).backward()
        optimiser.step()
    values = []
    with torch.no_grad():
        for _ in range(20):
            left, right = pairs(256, width, rho, generator)
            values.append(float(info_nce(critic(left.float(), right.float())).mean()))
    truth = closed_form(width, rho)
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert least < np.mean(values) < truth + 4 * error


def test_nobody_gains_by_growing() -> None:
    generator = torch.Generator().manual_seed(0)
    critic = Critic(4, 6, 8, 0.1, generator)
    left = torch.randn(7, 4, generator=generator)
    right = torch.randn(7, 6, generator=generator)
    torch.testing.assert_close(
        critic(left, right), critic(100 * left, 50 * right), rtol=0, atol=2e-3
    )
