"""The conditional adversary against optima that are known, and what says that it has failed."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from teachers.adversary import (
    FAILURES,
    STATES,
    Adversary,
    Judgement,
    adversary_state,
    unexplained_share,
)
from teachers.amid import CotrainingConfig, Objective, Vectors
from teachers.layers import SMALL, Dense, Network, largest_singular_value, unit_size


def rotation(width: int, generator: torch.Generator) -> Tensor:
    return torch.linalg.qr(torch.randn(width, width, generator=generator))[0]


@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (5, 8), (8, 5)])
def test_spectral_norm_is_that_of_the_svd(shape: tuple[int, int]) -> None:
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = np.linalg.svd(matrix.numpy())[1][0]
    assert float(largest_singular_value(matrix)) == pytest.approx(expected)
    dense = Dense(shape[1], shape[0], torch.Generator().manual_seed(0), spectral=True)
    with torch.no_grad():
        dense.weight.mul_(50)
        images = dense(torch.eye(shape[1])) - dense.bias
    assert np.linalg.svd(images.numpy())[1][0] == pytest.approx(1.0, abs=1e-5)


@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-3, 1.0, 1e3]))
@settings(max_examples=40, deadline=None)
def test_no_two_judgements_are_further_apart_than_what_is_judged(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    network = Network((6, 16, 16, 1), generator, spectral=True)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(scale)
        first, second = torch.randn(2, 20, 6, generator=generator)
        gaps = (network(first) - network(second)).abs()[:, 0]
    assert (gaps <= (first - second).norm(dim=1) * (1 + 1e-4) + 1e-4 * scale).all()


def test_unit_size() -> None:
    vectors = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    sizes = unit_size(vectors).square().mean(1).sqrt()
    torch.testing.assert_close(sizes, torch.ones(5), rtol=0, atol=1e-3)
    # Far below the limit vectors are only scaled, so that no slope explodes.
    torch.testing.assert_close(unit_size(1e-9 * vectors), 1e-9 * vectors / SMALL)


def test_the_best_discriminator_has_ln2_less_the_jensen_shannon_divergence() -> None:
    """Of N(0, 1) and N(2, 1), by quadrature."""
    grid = np.linspace(-9, 11, 200_001)
    real, guessed = (np.exp(-((grid - mean) ** 2) / 2) / math.sqrt(2 * math.pi) for mean in (0, 2))
    middle = (real + guessed) / 2
    step = grid[1] - grid[0]
    divergence = sum((p * np.log(p / middle)).sum() * step / 2 for p in (real, guessed))
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 200_000, generator=generator, dtype=torch.float64)
    judgement = Judgement(2 - 2 * left, 2 - 2 * (right + 2))
    assert float(judgement.loss()) == pytest.approx(math.log(2) - divergence, abs=4e-3)
    # It errs where the nearer mean is the other one.
    assert float(judgement.accuracy()) == pytest.approx(
        0.5 * (1 + math.erf(1 / math.sqrt(2))), abs=3e-3
    )
    swapped = Judgement(judgement.guessed, judgement.real)
    assert float(judgement.deception()) == pytest.approx(float(swapped.loss()))


def test_chance_is_ln2_and_one_half() -> None:
    judgement = Judgement(torch.zeros(3), torch.zeros(3))
    assert float(judgement.loss()) == pytest.approx(math.log(2))
    assert float(judgement.deception()) == pytest.approx(math.log(2))
    assert float(judgement.accuracy()) == 0.5


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9, 1.0])
def test_unexplained_share_of_correlated_gaussians(rho: float) -> None:
    """`1 − ρ²`; vectors are wide, so that bringing them to unit size changes little."""
    generator = torch.Generator().manual_seed(0)
    student, noise = torch.randn(2, 8000, 64, generator=generator)
    teacher = (rho * student + math.sqrt(1 - rho**2) * noise) @ rotation(64, generator)
    assert unexplained_share(teacher, student) == pytest.approx(1 - rho**2, abs=0.03)


def test_states() -> None:
    expected = {
        (0.97, 0.9): "overpowering",
        (0.97, 0.0): "overpowering",
        (0.7, 0.9): "works",
        (0.52, 0.9): "blind",
        (0.1, 0.9): "blind",
        (0.52, 0.1): "content",
    }
    for (accuracy, unexplained), state in expected.items():
        assert adversary_state(accuracy, unexplained) == state
    assert set(expected.values()) == set(STATES)
    assert set(FAILURES) < set(STATES)
    with pytest.raises(ValueError, match="finite"):
        adversary_state(math.nan, 0.5)


def played(
    entropy: float, steps: int, learning_rate: float = 5e-3
) -> tuple[float, float, float, float]:
    """A teacher that is a rotated student and noise, whose only parameter is the noise's size.

    H(T|S) is the logarithm of that size and a constant.

    Returns:
        The size at the end, and means over the last twenty steps: accuracy, loss; unexplained.
    """
    generator = torch.Generator().manual_seed(0)
    turn = rotation(8, generator)
    log_size = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.Adam([log_size], lr=0.02)
    config = CotrainingConfig(student=0, auxiliary=0, entropy=entropy, learning_rate=learning_rate)
    objective = Objective(8, 8, (), config, generator)
    figures, unexplained = [], 1.0
    for _ in range(steps):
        student, noise = torch.randn(2, 256, 8, generator=generator)
        teacher = student @ turn + log_size.exp() * noise
        step = objective.step(Vectors(teacher.detach(), student, ()))
        figures.append(step.figures)
        unexplained = unexplained_share(teacher.detach(), student)
        if step.pulls[0] is not None:
            optimiser.zero_grad()
            teacher.backward(step.pulls[0])
            optimiser.step()
    last = figures[-20:]
    accuracy = float(np.mean([f.adversary_accuracy for f in last]))
    loss = float(np.mean([f.adversary_loss for f in last]))
    return float(log_size.detach().exp()), accuracy, loss, unexplained


def test_the_game_lowers_the_conditional_entropy() -> None:
    """The least that there is, a teacher without noise of its own, is where it goes."""
    size, accuracy, _, unexplained = played(entropy=1.0, steps=250)
    assert size < 0.3
    assert unexplained < 0.1
    untouched, sure, loss, left = played(entropy=0.0, steps=250)
    assert untouched == 1.0
    # There is something to tell apart as long as nobody moves, and an adversary that does.
    assert adversary_state(sure, left) in ("works", "overpowering")
    assert sure > accuracy
    assert loss < math.log(2)


def test_an_adversary_that_does_not_learn_is_found_out() -> None:
    _, accuracy, loss, unexplained = played(entropy=0.0, steps=40, learning_rate=1e-9)
    assert loss == pytest.approx(math.log(2), abs=0.2)
    assert adversary_state(accuracy, unexplained) == "blind"


def test_only_the_generator_decides() -> None:
    state = torch.get_rng_state()
    made = [Adversary(4, 3, 8, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(state, torch.get_rng_state())
    teacher, student = torch.ones(2, 4), torch.ones(2, 3)
    logits = [adversary(teacher, student).real for adversary in made]
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])
