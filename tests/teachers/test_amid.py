"""The objective on vectors: which term moves whom, and by how much."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from teachers.amid import CotrainingConfig, Figures, Objective, Vectors
from teachers.layers import unit_size

OFF = CotrainingConfig(student=0, auxiliary=0, entropy=0, width=8)
WIDTHS = (6, 4, (5, 6))


def vectors(n: int = 9) -> Vectors:
    generator = torch.Generator().manual_seed(3)
    teacher, student, *others = (
        torch.randn(n, width, generator=generator) for width in (6, 4, 5, 6)
    )
    return Vectors(teacher, student, tuple(others))


def objective(config: CotrainingConfig) -> Objective:
    return Objective(*WIDTHS, config, torch.Generator().manual_seed(0))


def pulls(config: CotrainingConfig, scale: float = 1.0) -> tuple[Tensor | None, ...]:
    return objective(config).step(vectors(), scale=scale).pulls


@pytest.mark.parametrize(
    ("term", "moved"),
    [
        ({}, (False, False, False, False)),
        ({"student": 1.0}, (True, True, False, False)),
        ({"auxiliary": 1.0}, (True, False, True, True)),
        ({"entropy": 1.0}, (True, True, False, False)),
    ],
)
def test_a_term_moves_those_it_is_about(term: dict[str, float], moved: tuple[bool, ...]) -> None:
    found = pulls(replace(OFF, **term))  # type: ignore[arg-type]
    assert tuple(pull is not None for pull in found) == moved
    assert all(pull.abs().max() > 0 for pull in found if pull is not None)


def test_pulls_are_the_sum_of_the_weighted_terms() -> None:
    """Fresh objectives from one seed, as every step lets critics and adversary learn."""
    whole = pulls(replace(OFF, student=2.0, auxiliary=0.5, entropy=3.0), scale=0.5)
    parts = [
        pulls(replace(OFF, student=1.0)),
        pulls(replace(OFF, auxiliary=1.0)),
        pulls(replace(OFF, entropy=1.0)),
    ]
    for number, found in enumerate(whole):
        expected = sum(
            0.5 * weight * part[number]
            for weight, part in zip((2.0, 0.5, 3.0), parts, strict=True)
            if part[number] is not None
        )
        torch.testing.assert_close(found, expected)


def test_the_students_pull_is_the_gradient_of_its_estimate() -> None:
    """Worked out with float64 from the definition, the excluded pair left out."""
    excluded = torch.zeros(9, 9, dtype=torch.bool)
    excluded[2, 5] = excluded[5, 2] = True
    fresh, given = objective(replace(OFF, student=1.0)), vectors()
    critic = fresh.critics[0].double()
    leaves = [part.double().requires_grad_() for part in (given.teacher, given.student)]
    sides = []
    for head, leaf in zip((critic.left, critic.right), leaves, strict=True):
        image = unit_size(leaf) @ head.weight.T + head.bias  # type: ignore[union-attr,operator]
        sides.append(image / image.norm(dim=1, keepdim=True))
    odds = (critic.log_sharpness.exp() * sides[0] @ sides[1].T).exp()  # type: ignore[operator]
    allowed = odds * (~excluded)
    counts = (~excluded).sum(1)
    estimate = (
        odds.diagonal().log()
        - ((allowed.sum(0) / counts).log() + (allowed.sum(1) / counts).log()) / 2
    ).mean()
    expected = torch.autograd.grad(-estimate, leaves)
    step = objective(replace(OFF, student=1.0)).step(given, excluded)
    for found, wanted in zip(step.pulls[:2], expected, strict=True):
        torch.testing.assert_close(found, wanted.float(), rtol=1e-4, atol=1e-6)
    assert step.figures.information[0] == pytest.approx(float(estimate.detach()), abs=1e-5)
    assert step.figures.limit == pytest.approx(float(counts.double().log().mean()))


def test_following_the_pulls_raises_the_estimates() -> None:
    """With everybody's vectors free, student and auxiliary models come to share all there is."""
    config = replace(OFF, student=1.0, auxiliary=1.0)
    fresh, current = objective(config), vectors(32)
    before = fresh.estimates(current).mean(0)
    for _ in range(60):
        moves = fresh.step(current).pulls
        moved = [v - 20 * p for v, p in zip(current.all, moves, strict=True) if p is not None]
        current = Vectors(moved[0], moved[1], tuple(moved[2:]))
    after = fresh.estimates(current).mean(0)
    assert (after > before + 1.0).all()


def test_estimates_change_nothing() -> None:
    fresh = objective(OFF)
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    fresh.estimates(vectors())
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, before[name]), name
    fresh.step(vectors())
    assert not torch.equal(
        fresh.state_dict()["critics.0.left.weight"], before["critics.0.left.weight"]
    )


def test_mean_of_figures() -> None:
    parts = [Figures((1.0, 2.0), 3.0, 0.5, 0.6), Figures((3.0, 0.0), 5.0, 0.7, 0.8)]
    assert Figures.mean(parts) == Figures((2.0, 1.0), 4.0, pytest.approx(0.6), pytest.approx(0.7))
    with pytest.raises(ValueError, match="no batch"):
        Figures.mean([])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("student", -1.0),
        ("auxiliary", "much"),
        ("entropy", float("nan")),
        ("warmup", -0.5),
        ("temperature", 0.0),
        ("learning_rate", -1e-3),
        ("student_rank", 0),
        ("width", 1.5),
    ],
)
def test_bad_settings_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        CotrainingConfig(**{name: value})  # type: ignore[arg-type]


def test_whole_numbers_are_the_same_key() -> None:
    assert repr(CotrainingConfig(student=1, entropy=0)) == repr(
        CotrainingConfig(student=1.0, entropy=0.0)
    )
