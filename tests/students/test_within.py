"""Soft labels about a few entities only, against dense distributions and autograd."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from graphs import MultimodalGraph
from students.distillation import Candidates, DistillationConfig, SoftLabel
from students.losses import RowLosses, distillation_loss
from tests.students.test_training import make, random_label

BATCH, ENTITIES = 6, 40


def candidates(seed: int = 0) -> tuple[Candidates, Tensor]:
    """A few entities for each row, and the same as bool `[batch, entities]`."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(BATCH, ENTITIES, generator=generator) < 0.3
    mask[:, 7] = True
    rows, entities = mask.nonzero(as_tuple=True)
    return Candidates(rows, entities), mask


def nobody() -> tuple[Tensor, Tensor]:
    nothing = torch.empty(0, dtype=torch.int64).numpy()
    return nothing, nothing


def test_among_renormalises() -> None:
    label = random_label(BATCH, ENTITIES)
    few, mask = candidates()
    found = label.among(few)
    dense = torch.where(mask, label.dense(), 0.0)
    torch.testing.assert_close(found.dense(), dense / dense.sum(1, keepdim=True))
    assert found.only_listed
    # The order of tempering and choosing does not matter.
    torch.testing.assert_close(found.tempered(3.0).dense(), label.tempered(3.0).among(few).dense())
    part = found.block(2, 4)
    torch.testing.assert_close(part.dense(), found.dense()[2:4])
    assert part.only_listed


@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("alpha", ["mass", 0.5])
def test_loss_and_gradient_are_those_of_the_candidates(
    temperature: float, alpha: float | str
) -> None:
    """`τ²·KL(q ‖ softmax(z_C/τ))`; α, β and neighbors have no say."""
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(BATCH, ENTITIES, generator=generator).requires_grad_()
    answers = torch.full((BATCH,), 7)
    few, mask = candidates()
    label = random_label(BATCH, ENTITIES).among(few)
    config = DistillationConfig(temperature=temperature, alpha=alpha)  # type: ignore[arg-type]
    found = distillation_loss(logits, answers, [label], nobody(), config)
    student = (logits / temperature).masked_fill(~mask, -torch.inf).log_softmax(1)
    target = label.tempered(temperature).dense()
    gaps = torch.where(mask, target * (target.clamp_min(1e-30).log() - student), 0.0)
    expected = F.cross_entropy(logits, answers, reduction="none"), temperature**2 * gaps.sum(1)
    for value, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-5)
    weights = torch.rand(2, BATCH, generator=generator)
    gradients = [
        torch.autograd.grad((weights * torch.stack(losses)).sum(), logits)[0]
        for losses in (found, expected)
    ]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)


def test_the_divergence_along_a_direction() -> None:
    generator = torch.Generator().manual_seed(2)
    logits, direction = torch.randn(2, BATCH, ENTITIES, generator=generator, dtype=torch.float64)
    few, _ = candidates()
    label = random_label(BATCH, ENTITIES)
    label = SoftLabel(
        label.rows,
        label.entities,
        label.log_probs.double(),
        label.log_tail.double(),
        label.weight.double(),
        ENTITIES,
    ).among(few)

    def losses(at: Tensor) -> RowLosses:
        rows, answers = torch.arange(BATCH), torch.full((BATCH,), 7)
        return RowLosses(at, rows, answers, [label], nobody(), DistillationConfig())

    size = 1e-5
    ahead, behind = (losses(logits + s * direction).divergence for s in (size, -size))
    found = losses(logits).divergence_along(direction)
    torch.testing.assert_close(found, (ahead - behind) / (2 * size), rtol=1e-6, atol=1e-7)


def test_all_entities_as_candidates_teach_what_no_candidates_do(
    small_graph: MultimodalGraph,
) -> None:
    """The whole training step, with queries that share rows of logits."""
    queries = small_graph.queries("train")[slice(0, 20)]
    label = random_label(20, small_graph.num_entities)
    everything = torch.ones(20, small_graph.num_entities).nonzero(as_tuple=True)
    results = []
    for taught in (label, label.among(Candidates(*everything))):
        trainer = make(small_graph, gamma=0.7)
        report = trainer.update(trainer.forward(queries), [taught])
        results.append((report, trainer.scorer.state_dict()))
    (plain, weights), (among, others) = results
    torch.testing.assert_close(plain.divergence, among.divergence, rtol=1e-4, atol=1e-5)
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, rtol=1e-3, atol=1e-4)
