"""Hyperbolic scorers in the one training step: against plain autograd, copies, directions."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from graphs import MultimodalGraph
from students import forward as forward_module
from students.ball import exp_map, mobius_add, turn_pairs
from students.distillation import DistillationConfig
from students.hyperbolic import AttH, Hyperbolic
from students.registry import STUDENTS, make_student
from students.training import Trainer, TrainingConfig
from tests.students.test_training import random_label

HYPERBOLIC = ["transh", "refh", "roth", "atth"]
RANK = 6


def make(graph: MultimodalGraph, name: str, **distillation: object) -> Trainer:
    generator = torch.Generator().manual_seed(0)
    scorer = make_student(name, graph.num_entities, graph.num_relations, RANK, generator)
    # Biases and curvatures away from where they begin.
    with torch.no_grad():
        scorer.entity_table[:, -1] += torch.randn(graph.num_entities, generator=generator)
        scorer.curvature_table += 0.5 * torch.randn(2 * graph.num_relations, 1, generator=generator)
    return Trainer(
        scorer,
        graph,
        TrainingConfig(0.1, 0.05),
        DistillationConfig(**distillation),  # type: ignore[arg-type]
    )


def plain_step(trainer: Trainer, batch: int, gamma: float) -> Hyperbolic:
    """CE + γ·KL + N3 by plain autograd over all scores and torch's Adagrad, on a copy."""
    twin = trainer.fork().scorer
    assert isinstance(twin, Hyperbolic)
    optimiser = torch.optim.Adagrad(twin.parameters(), lr=0.1)
    queries = trainer.graph.queries("train")[slice(0, batch)]
    entities, relations, answers = map(
        torch.from_numpy, (queries.entities, queries.relations, queries.answers)
    )
    logits = twin(entities, relations)
    target = random_label(batch, trainer.graph.num_entities).dense()
    loss = F.cross_entropy(logits, answers)
    loss = loss + gamma * F.kl_div(logits.log_softmax(1), target, reduction="batchmean")
    for part in (
        twin.entity_table[entities, :-1],
        twin.relation_table[relations],
        twin.entity_table[answers, :-1],
    ):
        loss = loss + 0.05 * (part.abs() ** 3).sum() / batch
    loss.backward()
    optimiser.step()
    return twin


@pytest.mark.parametrize("name", HYPERBOLIC)
def test_update_is_plain_autograd(
    name: str, small_graph: MultimodalGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In several blocks of rows, curvatures and biases included."""
    monkeypatch.setattr(forward_module, "BLOCK_ELEMENTS", 7 * small_graph.num_entities)
    trainer = make(small_graph, name, gamma=0.7, temperature=1.0)
    expected = plain_step(trainer, 40, 0.7)
    before = trainer.state_dict()["scorer"]
    queries = small_graph.queries("train")[slice(0, 40)]
    trainer.update(trainer.forward(queries), [random_label(40, small_graph.num_entities)])
    for key, value in expected.state_dict().items():
        found = trainer.scorer.state_dict()[key]
        assert (found != before[key]).any(), key
        # Adagrad's first step is the gradient's sign: where that is rounding, either may come out.
        same = (found - value).abs() <= 1e-3 * value.abs() + 1e-3
        assert same.float().mean() > 0.995, key


@pytest.mark.parametrize("name", HYPERBOLIC)
def test_fork_goes_on_with_the_same_bits(name: str, small_graph: MultimodalGraph) -> None:
    trainer = make(small_graph, name)
    queries = small_graph.queries("train")
    trainer.update(trainer.forward(queries[slice(0, 20)]))
    twin = trainer.fork()
    for one in (twin, trainer):
        one.update(one.forward(queries[slice(20, 40)]))
    for key, value in twin.scorer.state_dict().items():
        assert torch.equal(trainer.scorer.state_dict()[key], value)


@pytest.mark.parametrize("name", ["roth", "atth"])
def test_logits_along_a_direction(name: str, small_graph: MultimodalGraph) -> None:
    """Forward mode, which the reward `heldout` uses, against differences in double precision."""
    trainer = make(small_graph, name)
    trainer.scorer.double()
    queries = small_graph.queries("train")[slice(0, 8)]
    forward = trainer.forward(queries)
    generator = torch.Generator().manual_seed(3)
    step = {
        key: torch.randn(value.shape, generator=generator, dtype=torch.float64)
        for key, value in trainer.scorer.named_parameters()
    }
    found = trainer.logit_direction(forward, step)
    asked = forward.entities[forward.firsts], forward.relations[forward.firsts]

    def moved(size: float) -> Tensor:
        parameters = {
            key: value.detach() + size * step[key]
            for key, value in trainer.scorer.named_parameters()
        }
        logits: Tensor = torch.func.functional_call(trainer.scorer, parameters, asked)
        return logits.detach()

    difference = (moved(1e-6) - moved(-1e-6)) / 2e-6
    torch.testing.assert_close(found, difference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", HYPERBOLIC)
@pytest.mark.parametrize(("scale", "close"), [(1, 1e-5), (4, 1e-3)])
def test_scores_in_single_and_double_precision(name: str, scale: float, close: float) -> None:
    """Entities near the origin, and at up to .98 of the radius."""
    made = make_student(name, 30, 3, RANK, torch.Generator().manual_seed(0))
    made.entity_table.data *= scale
    entities, relations = torch.arange(12), torch.arange(12) % 6
    single = made(entities, relations).detach()
    double = made.double()(entities, relations).detach()
    torch.testing.assert_close(single.double(), double, rtol=close, atol=close)


@pytest.mark.parametrize("name", HYPERBOLIC)
def test_scores_and_gradients_stay_finite_far_out(name: str) -> None:
    """Tangent vectors of thousands, whose points are all at the margin."""
    made = make_student(name, 30, 3, RANK, torch.Generator().manual_seed(0))
    made.entity_table.data *= 1e5
    made.relation_table.data *= 1e5
    scores = made(torch.arange(12), torch.arange(12) % 6)
    assert scores.isfinite().all()
    scores.logsumexp(1).sum().backward()
    for key, parameter in made.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", ["refh", "roth", "atth"])
def test_an_odd_rank_has_no_pairs(name: str) -> None:
    with pytest.raises(ValueError, match="even; got 5"):
        STUDENTS[name](4, 1, 5, generator=torch.Generator())


def test_attention_that_prefers_one_image_is_that_image() -> None:
    """A context far along the rotated head leaves nothing of the reflected one."""
    scorer = AttH(5, 1, 4, generator=torch.Generator().manual_seed(0))
    relations = torch.zeros(1, dtype=torch.int64)
    head = scorer.entity_table[2:3, :-1].detach()
    c = scorer.curvatures(relations)
    for table, reflect in ((scorer.rotation_table, False), (scorer.reflection_table, True)):
        image = turn_pairs(table[relations], head, reflect).detach()
        scorer.context_table.data[0] = 1e5 * image
        expected = mobius_add(exp_map(image, c), scorer.translation(relations, c), c)
        torch.testing.assert_close(scorer.move(head, relations, c), expected)
