"""Attention over modalities, and its distillation from the task before."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs import Modality, MultimodalGraph
from graphs.tasks import cut_tasks
from students.growing import adagrad_sums, inherit
from students.training import Trainer
from teachers.attention import AttentionDistillation, AttentionKeeping, attention_loss
from teachers.fused import Attentive, Fused
from teachers.registry import make_teacher


def attention(seed: int, entities: int, parts: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(entities, parts, generator=generator, dtype=torch.float64)
    return logits.softmax(dim=1)


@pytest.fixture
def graph(small_graph: MultimodalGraph) -> MultimodalGraph:
    """Half of the entities lack images."""
    image = small_graph.modalities["image"]
    part = Modality(image.entities[::2], image.features[::2])
    return replace(small_graph, modalities={**small_graph.modalities, "image": part})


@given(seed=st.integers(0, 999), parts=st.integers(2, 5))
@settings(max_examples=30, deadline=None)
def test_gained_attention_costs_nothing(seed: int, parts: int) -> None:
    """The gradient is zero where attention grew, and pulls up where it was lost."""
    old, new = attention(seed, 7, parts), attention(seed + 1000, 7, parts).requires_grad_()
    loss = attention_loss(old, new)
    (gradient,) = torch.autograd.grad(loss, new)
    grew = new.detach() >= old
    assert (gradient[grew] == 0).all()
    assert (gradient[~grew] < 0).all()
    lost = np.maximum(old.numpy() - new.detach().numpy(), 0)
    assert float(loss.detach()) == pytest.approx((lost**2).sum() / 7)
    assert torch.autograd.gradcheck(lambda value: attention_loss(old, value), new)


@given(seed=st.integers(0, 999), parts=st.integers(2, 5))
@settings(max_examples=30, deadline=None)
def test_what_some_parts_lose_the_others_gain(seed: int, parts: int) -> None:
    """So that forms without the square would be one; with it they are for two parts only."""
    old, new = attention(seed, 7, parts), attention(seed + 1000, 7, parts)
    moved = old - new
    torch.testing.assert_close(moved.relu().sum(), moved.abs().sum() / 2)
    ratio = float(attention_loss(old, new) / attention_loss(old, new, "symmetric"))
    if parts == 2:
        assert ratio == pytest.approx(0.5)
    else:
        assert 0 < ratio < 1
        assert abs(ratio - 0.5) > 1e-9


def scaled_up(scorer: Attentive) -> Attentive:
    """With vectors as large as those of a teacher that has learned something."""
    with torch.no_grad():
        scorer.structure.mul_(1000)
        for projection in scorer.projections.values():
            projection.mul_(300)
    return scorer


def test_attention_by_its_definition(graph: MultimodalGraph) -> None:
    scorer = make_teacher("attentive", graph, 4, torch.Generator().manual_seed(0))
    assert isinstance(scorer, Attentive)
    gates = scaled_up(scorer).gates().detach().double().numpy()
    assert np.ptp(gates[:, 0]) > 0.1, "or the test would hold for any attention"
    state = {name: value.double().numpy() for name, value in scorer.state_dict().items()}
    for entity in range(0, graph.num_entities, 7):
        asked = state["structure"][entity] @ state["asking"]
        vectors = {"structure": state["structure"][entity]}
        for name, modality in graph.modalities.items():
            row = np.flatnonzero(modality.entities == entity)
            if len(row):
                features = modality.features.astype(np.float64)
                features /= np.sqrt((features**2).mean())
                vectors[name] = features[row[0]] @ state[f"projections.{name}"]
        weights = {
            name: math.exp(asked @ (vector @ state[f"keys.{name}"]) / math.sqrt(4))
            for name, vector in vectors.items()
        }
        total = sum(weights.values())
        expected = [weights.get(part, 0.0) / total for part in scorer.parts]
        np.testing.assert_allclose(gates[entity], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["fused", "attentive"])
def test_gates_of_some_are_rows_of_those_of_all(name: str, graph: MultimodalGraph) -> None:
    scorer = make_teacher(name, graph, 4, torch.Generator().manual_seed(0))
    assert isinstance(scorer, Fused)
    some = torch.arange(1, graph.num_entities, 3)
    torch.testing.assert_close(scorer.gates(some), scorer.gates()[some])
    mixture = scorer.entity_vectors()
    whole = torch.zeros_like(mixture)
    for column, part in enumerate(scorer.parts):
        positions, vectors = scorer.part(part, some)
        gate = scorer.gates()[some[positions], column, None]
        whole[some[positions]] += gate * vectors
    torch.testing.assert_close(mixture[some], whole[some])


def test_attention_has_gradients_everywhere(graph: MultimodalGraph) -> None:
    scorer = make_teacher("attentive", graph, 4, torch.Generator().manual_seed(0))
    assert isinstance(scorer, Attentive)
    scaled_up(scorer)
    scorer(torch.arange(5), torch.zeros(5, dtype=torch.int64)).square().sum().backward()
    for name, parameter in scorer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_hook_adds_the_gradient_of_the_loss_over_old_entities_of_the_batch(
    graph: MultimodalGraph,
) -> None:
    stream = cut_tasks(graph, 2, "entity")
    before, after = stream.own(0), stream.own(1)
    previous = make_teacher("attentive", before, 4, torch.Generator().manual_seed(0))
    assert isinstance(previous, Attentive)
    old = Trainer(scaled_up(previous), before)
    gradients = {}
    for weight in (0.0, 7.0):
        scorer = make_teacher("attentive", after, 4, torch.Generator().manual_seed(1))
        assert isinstance(scorer, Attentive)
        trainer = Trainer(scorer, after)
        inherit(trainer, old.scorer, adagrad_sums(old))
        with torch.no_grad():
            scorer.asking.mul_(-1)
        hook = AttentionDistillation(previous, AttentionKeeping(weight=weight))
        forward = trainer.forward(after.queries("train")[:40])
        trainer.pull_back(forward)
        hook.before_step(trainer, forward)
        gradients[weight] = {
            name: value.grad.clone()
            for name, value in scorer.named_parameters()
            if value.grad is not None
        }
    queries = after.queries("train")[:40]
    touched = np.unique(np.concatenate([queries.entities, queries.answers]))
    known = torch.from_numpy(touched[touched < before.num_entities])
    assert 0 < len(known) < len(touched)
    loss = attention_loss(previous.gates().detach()[known], scorer.gates()[known])
    assert float(loss.detach()) > 1e-3
    expected = torch.autograd.grad(loss, list(scorer.parameters()), allow_unused=True)
    for (name, _), by_hand in zip(scorer.named_parameters(), expected, strict=True):
        added = gradients[7.0][name] - gradients[0.0][name]
        wanted = torch.zeros_like(added) if by_hand is None else 7.0 * by_hand
        torch.testing.assert_close(added, wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "says"), [({"form": "both"}, "form"), ({"weight": -1.0}, "weight")]
)
def test_bad_settings_are_named(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        AttentionKeeping(**arguments)  # type: ignore[arg-type]
