"""NDKD against exact identities and dense computations with plain autograd."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from students.distillation import DistillationConfig, SoftLabel
from students.losses import RowLosses, distillation_loss


def random_case(
    seed: int, batch: int = 5, entities: int = 17, listed: int = 6
) -> tuple[Tensor, Tensor, SoftLabel, tuple[np.ndarray, np.ndarray]]:
    """Random logits, answers, soft label with a tail, and neighbor lists (some of them empty)."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, entities, generator=generator)
    answers = torch.randint(entities, (batch,), generator=generator)
    order = torch.rand(batch, entities, generator=generator).argsort(1)[:, :listed].sort(1).values
    masses = torch.rand(batch, listed + 1, generator=generator).softmax(1)
    label = SoftLabel(
        rows=torch.arange(batch).repeat_interleave(listed),
        entities=order.reshape(-1),
        log_probs=masses[:, :listed].reshape(-1).log(),
        log_tail=(masses[:, listed] / max(entities - listed, 1)).log(),
        weight=torch.ones(batch),
        num_entities=entities,
    )
    near = torch.rand(batch, entities, generator=generator) < 0.2
    rows, columns = near.nonzero(as_tuple=True)
    return logits, answers, label, (rows.numpy(), columns.numpy())


def dense_ndkd(
    logits: Tensor,
    target: Tensor,
    parts: list[Tensor],
    weights: list[Tensor | float],
    temperature: float,
) -> Tensor:
    """NDKD as written in methods.md, on dense arrays and boolean parts, in float64."""
    student = (logits.double() / temperature).log_softmax(1)
    teacher = target.double().log()
    total = torch.zeros(len(logits), dtype=torch.float64)
    for part, weight in zip(parts, weights, strict=True):
        # A large negative number, not -inf, keeps the reference's own gradient finite.
        outside = (1 - part) * -1e4
        teacher_mass = (teacher + outside).logsumexp(1)
        student_mass = (student + outside).logsumexp(1)
        between = teacher_mass.exp() * (teacher_mass - student_mass)
        inner_teacher = (teacher + outside).log_softmax(1)
        inner_student = (student + outside).log_softmax(1)
        inner = (inner_teacher.exp() * part * (inner_teacher - inner_student)).sum(1)
        present = part.sum(1) > 0
        total = total + torch.where(present, between + weight * inner, 0.0)
    return temperature**2 * total


def one_hop_part(
    answers: Tensor, neighbors: tuple[np.ndarray, np.ndarray], shape: torch.Size
) -> Tensor:
    part = torch.zeros(shape, dtype=torch.float64)
    part[torch.from_numpy(neighbors[0]), torch.from_numpy(neighbors[1])] = 1
    part[torch.arange(len(answers)), answers] = 1
    return part


@given(seed=st.integers(0, 10_000), temperature=st.sampled_from([0.5, 1.0, 2.0, 4.0]))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("partition", ["two_way", "three_way"])
def test_equals_dense_formula_and_gradient(partition: str, seed: int, temperature: float) -> None:
    logits, answers, label, neighbors = random_case(seed)
    config = DistillationConfig(
        alpha=0.7,
        beta=0.3,
        temperature=temperature,
        partition=partition,  # type: ignore[arg-type]
    )
    ours = logits.clone().requires_grad_()
    ce, divergence = distillation_loss(ours, answers, [label], neighbors, config)
    (ce + divergence).sum().backward()

    dense = logits.clone().requires_grad_()
    target = (label.dense().double().log() / temperature).softmax(1)
    near = one_hop_part(answers, neighbors, logits.shape)
    answer = one_hop_part(answers, (np.zeros(0, int), np.zeros(0, int)), logits.shape)
    parts = [near, 1 - near] if partition == "two_way" else [answer, near - answer, 1 - near]
    weights = [0.7, 0.3] if partition == "two_way" else [0.0, 0.7, 0.3]
    expected = dense_ndkd(dense, target, parts, weights, temperature)
    expected_ce = torch.nn.functional.cross_entropy(dense, answers, reduction="none")
    (expected_ce + expected).sum().backward()

    torch.testing.assert_close(divergence.double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ce, expected_ce, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.grad, dense.grad, rtol=1e-3, atol=1e-4)


@given(seed=st.integers(0, 10_000), temperature=st.sampled_from([1.0, 2.0]))
@settings(max_examples=40, deadline=None)
def test_mass_weights_are_plain_kd(seed: int, temperature: float) -> None:
    logits, answers, label, neighbors = random_case(seed)
    config = DistillationConfig(alpha="mass", beta="mass", temperature=temperature)
    ours, dense = logits.clone().requires_grad_(), logits.double().requires_grad_()
    _, divergence = distillation_loss(ours, answers, [label], neighbors, config)
    target = (label.dense().double().log() / temperature).softmax(1)
    student = (dense / temperature).log_softmax(1)
    expected = temperature**2 * (target * (target.log() - student)).sum(1)
    torch.testing.assert_close(divergence.double(), expected, rtol=1e-5, atol=1e-5)
    divergence.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad.double(), dense.grad, rtol=1e-4, atol=1e-5)  # type: ignore[union-attr]


@given(seed=st.integers(0, 10_000), temperature=st.sampled_from([1.0, 2.0, 3.0]))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("partition", ["two_way", "three_way"])
def test_decoupling_with_the_masses_as_numbers_is_plain_kd(
    partition: str, seed: int, temperature: float
) -> None:
    """The exact identity of methods.md §1.1, row by row, through the general branch."""
    logits, answers, label, neighbors = random_case(seed, batch=1)
    plain = distillation_loss(
        logits, answers, [label], neighbors, DistillationConfig(temperature=temperature)
    )[1]
    target = (label.dense().double().log() / temperature).softmax(1)
    inside = one_hop_part(answers, neighbors, logits.shape)
    if partition == "three_way":
        inside[0, answers] = 0
    outside = 1 - one_hop_part(answers, neighbors, logits.shape)
    config = DistillationConfig(
        alpha=float((target * inside).sum()),
        beta=float((target * outside).sum()),
        temperature=temperature,
        partition=partition,  # type: ignore[arg-type]
    )
    apart = distillation_loss(logits, answers, [label], neighbors, config)[1]
    torch.testing.assert_close(apart, plain, rtol=1e-4, atol=1e-5)


@given(seed=st.integers(0, 10_000), data=st.data())
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("listed", [0, 6, 17])
def test_rows_tempered_one_by_one_are_dense_softmaxes(
    listed: int, seed: int, data: st.DataObject
) -> None:
    """With nothing listed, something, everything; a row at 1 keeps its bits whoever is beside."""
    # Made to sum to one also where everything is listed and no tail has the rest.
    label = random_case(seed, listed=listed)[2].tempered(2.0)
    factors = st.one_of(st.just(1.0), st.floats(0.25, 4.0, width=32))
    drawn = data.draw(st.lists(factors, min_size=5, max_size=5))
    temperature = torch.tensor(drawn)
    found = label.tempered(temperature)
    expected = (label.dense().double().log() / temperature.double()[:, None]).softmax(1)
    torch.testing.assert_close(found.dense().double(), expected, rtol=1e-4, atol=1e-7)
    same = temperature == 1.0
    assert torch.equal(found.log_tail[same], label.log_tail[same])
    listed_same = same[label.rows]
    assert torch.equal(found.log_probs[listed_same], label.log_probs[listed_same])
    assert torch.equal(found.weight, label.weight)
    torch.testing.assert_close(
        label.tempered(torch.full((5,), 3.0)).dense(), label.tempered(3.0).dense()
    )


def test_blocks_of_a_label_are_its_rows() -> None:
    _, _, label, _ = random_case(5)
    parts = [label.block(0, 2), label.block(2, 3), label.block(3, 5)]
    torch.testing.assert_close(torch.cat([part.dense() for part in parts]), label.dense())
    assert label.block(0, 5) is label


def test_logits_far_apart_give_no_denormal_gradient() -> None:
    """Products of denormal numbers are a hundred times slower on some processors."""
    logits, answers, label, neighbors = random_case(2, entities=50)
    logits = 200 * logits
    for labels in ([], [label]):
        losses = RowLosses(
            logits, torch.arange(5), answers, labels, neighbors, DistillationConfig()
        )
        slope = losses.gradient(torch.full((5,), 1e-3), torch.full((5,), 1e-3))
        tiny = torch.finfo(slope.dtype).tiny
        assert not bool(((slope != 0) & (slope.abs() < tiny)).any())
        expected = torch.nn.functional.cross_entropy(logits, answers, reduction="none")
        torch.testing.assert_close(losses.cross_entropy, expected)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_answer_alone_as_neighbor_is_dkd(seed: int) -> None:
    """DKD as in its authors' code: masked softmaxes of logits, TCKD weight 1, NCKD weight β."""
    logits, answers, label, _ = random_case(seed)
    beta, temperature = 8.0, 4.0
    config = DistillationConfig(alpha=0.0, beta=beta, temperature=temperature, neighbors="answer")
    none = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    _, divergence = distillation_loss(logits, answers, [label], none, config)

    teacher_logits = label.dense().double().log()
    student_logits = logits.double()
    rows = torch.arange(len(answers))

    def binary(values: Tensor) -> Tensor:
        target = (values / temperature).softmax(1)[rows, answers]
        return torch.stack([target, 1 - target], dim=1)

    def others(values: Tensor) -> Tensor:
        masked = values.clone()
        masked[rows, answers] = -1000.0
        return (masked / temperature).log_softmax(1)

    tckd = (binary(teacher_logits) * (binary(teacher_logits) / binary(student_logits)).log()).sum(1)
    nckd = (others(teacher_logits).exp() * (others(teacher_logits) - others(student_logits))).sum(1)
    expected = temperature**2 * (tckd + beta * nckd)
    torch.testing.assert_close(divergence.double(), expected, rtol=1e-5, atol=1e-4)


def test_all_entities_listed_or_neighbors_leaves_no_nan() -> None:
    logits, answers, label, _ = random_case(3, entities=6, listed=6)
    rows, columns = torch.ones(5, 6).nonzero(as_tuple=True)
    logits.requires_grad_()
    everything = (rows.numpy(), columns.numpy())
    _, divergence = distillation_loss(logits, answers, [label], everything, DistillationConfig())
    divergence.sum().backward()
    assert torch.isfinite(divergence).all()
    assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]
    # No entity is outside, so only the inner divergence is left: that of plain softmaxes.
    target = (label.log_probs.reshape(5, 6).double() / 2).softmax(1)
    expected = 4 * (target * (target.log() - (logits.double() / 2).log_softmax(1))).sum(1)
    torch.testing.assert_close(divergence.double(), expected, rtol=1e-5, atol=1e-5)


def test_weights_scale_rows_and_zero_means_hard_label_only() -> None:
    logits, answers, label, neighbors = random_case(1)
    weight = torch.tensor([1.0, 0.0, 0.5, 0.0, 2.0])
    partly = SoftLabel(label.rows, label.entities, label.log_probs, label.log_tail, weight, 17)
    config = DistillationConfig()
    _, divergence = distillation_loss(logits, answers, [partly], neighbors, config)
    _, full = distillation_loss(logits, answers, [label], neighbors, config)
    torch.testing.assert_close(divergence, weight * full)


def test_labels_add_up() -> None:
    logits, answers, first, neighbors = random_case(1)
    second = random_case(2)[2]
    config = DistillationConfig()
    parts = [
        distillation_loss(logits, answers, [one], neighbors, config) for one in (first, second)
    ]
    together = distillation_loss(logits, answers, [first, second], neighbors, config)
    torch.testing.assert_close(together[1], parts[0][1] + parts[1][1])
    torch.testing.assert_close(together[0], parts[0][0])


@given(seed=st.integers(0, 10_000), temperature=st.sampled_from([1.0, 2.0, 3.0]))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize(
    "switches",
    [{}, {"alpha": 0.7, "beta": 0.3}, {"alpha": 0.7, "beta": 0.3, "partition": "three_way"}],
)
def test_shared_rows_are_the_rows_apart(
    switches: dict[str, object], seed: int, temperature: float
) -> None:
    """Queries that share a row of logits: the same losses, and the sum of the gradients."""
    logits, answers, label, neighbors = random_case(seed, batch=6)
    row_of = torch.tensor([0, 0, 0, 1, 2, 2])
    logits = logits[:3]
    # Queries of a row have the same neighbors, the answers among them.
    near = one_hop_part(answers, neighbors, torch.Size((6, 17))).bool()
    near = torch.stack([near[row_of == row].any(0) for row in row_of])
    rows, entities = near.nonzero(as_tuple=True)
    shared = (rows.numpy(), entities.numpy())
    config = DistillationConfig(temperature=temperature, **switches)  # type: ignore[arg-type]
    weight = torch.rand(6, generator=torch.Generator().manual_seed(seed))
    label = replace(label, weight=weight)

    losses = RowLosses(logits, row_of, answers, [label], shared, config)
    apart = logits[row_of].clone().requires_grad_()
    cross_entropy, divergence = distillation_loss(apart, answers, [label], shared, config)
    torch.testing.assert_close(losses.cross_entropy, cross_entropy)
    torch.testing.assert_close(losses.divergence, divergence, rtol=1e-4, atol=1e-5)

    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed + 1))
    (slope,) = torch.autograd.grad(divergence.sum(), apart, retain_graph=True)
    expected = (slope * direction[row_of]).sum(1)
    torch.testing.assert_close(losses.divergence_along(direction), expected, rtol=1e-3, atol=1e-4)

    scale = torch.linspace(0.1, 1.0, 6)
    (cross_entropy * scale + divergence * scale**2).sum().backward()
    summed = torch.zeros_like(logits).index_add_(0, row_of, apart.grad)  # type: ignore[arg-type]
    torch.testing.assert_close(losses.gradient(scale, scale**2), summed, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", -1.0),
        ("beta", "much"),
        ("alpha", float("nan")),
        ("alpha", None),
        ("gamma", float("nan")),
        ("gamma", "1"),
        ("gamma", "mass"),
        ("beta_warmup", float("nan")),
        ("beta_warmup", "long"),
        ("temperature", float("nan")),
        ("temperature", "hot"),
        ("gamma", -1.0),
        ("temperature", 0.0),
        ("neighbors", "all"),
    ],
)
def test_config_refuses(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        DistillationConfig(**{name: value})  # type: ignore[arg-type]
