"""Learning among a sample, against plain autograd, and against learning among everybody."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from graphs import MultimodalGraph
from students.distillation import Candidates, DistillationConfig
from students.sampling import Sample
from students.training import Trainer, TrainingConfig
from teachers.registry import make_teacher
from tests.students.test_training import make, random_label

BATCH = 24


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 29), min_size=1, max_size=40),
    st.integers(0, 40),
    st.integers(0, 2**31),
)
def test_a_sample_stands_for_everybody(answers: list[int], count: int, seed: int) -> None:
    own = torch.tensor(answers)
    sample = Sample.draw(own, 30, count, torch.Generator().manual_seed(seed))
    assert (sample.entities.diff() > 0).all()
    others = 30 - len(set(answers))
    assert len(sample.entities) == len(set(answers)) + min(count, others)
    assert torch.equal(sample.entities[sample.columns(own)], own)
    weights = sample.log_weights.exp()
    torch.testing.assert_close(weights[sample.columns(own)], torch.ones(len(own)))
    if count:
        torch.testing.assert_close(weights.sum(), torch.tensor(30.0))


def test_the_sum_over_all_entities_is_estimated_without_bias() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, answers = torch.randn(50, generator=generator), torch.tensor([3, 3, 9])
    estimates = []
    for _ in range(4000):
        sample = Sample.draw(answers, 50, 5, generator)
        estimates.append((scores[sample.entities] + sample.log_weights).exp().sum())
    found = torch.stack(estimates)
    error = float(found.std()) / np.sqrt(len(found))
    assert abs(float(found.mean() - scores.exp().sum())) < 4 * error
    # That answers stand for themselves matters: as drawn ones they would count tenfold.
    assert error < 0.02 * float(scores.exp().sum())


def taught(graph: MultimodalGraph, name: str, sampled: int | None) -> tuple[Trainer, object]:
    """A teacher after one taught update, and the report; rows are shared."""
    scorer = make_teacher(name, graph, 4, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in scorer.parameters():
            parameter.mul_(20 if name != "roth" else 1)
    trainer = Trainer(scorer, graph, TrainingConfig(0.1, 0.05), DistillationConfig(gamma=0.7))
    queries = graph.queries("train")
    order = np.argsort(graph.query_keys(queries.entities, queries.relations), kind="stable")
    queries = queries[order[:BATCH]]
    sample = None
    if sampled is not None:
        generator = torch.Generator().manual_seed(3)
        answers = torch.from_numpy(queries.answers)
        sample = Sample.draw(answers, graph.num_entities, sampled, generator)
    forward = trainer.forward(queries, sample)
    assert len(forward.vectors) < len(queries)
    label = random_label(BATCH, graph.num_entities).among(
        Candidates(
            torch.arange(BATCH).repeat_interleave(2),
            torch.stack([forward.answers, (forward.answers + 1) % graph.num_entities], 1)
            .sort(1)
            .values.reshape(-1),
        )
    )
    return trainer, trainer.update(forward, [label])


@pytest.mark.parametrize("name", ["structure", "text", "fused", "roth"])
def test_a_sample_of_everybody_is_everybody(name: str, small_graph: MultimodalGraph) -> None:
    among, some = taught(small_graph, name, small_graph.num_entities)
    alone, every = taught(small_graph, name, None)
    torch.testing.assert_close(vars(some), vars(every))
    for parameter, value in alone.scorer.state_dict().items():
        torch.testing.assert_close(among.scorer.state_dict()[parameter], value)


@pytest.mark.parametrize("name", ["structure", "text", "fused", "roth"])
def test_the_gradient_is_that_of_the_weighted_scores(
    name: str, small_graph: MultimodalGraph
) -> None:
    """CE and KL of `z_j + log w_j` over the sample, by plain autograd."""
    scorer = make_teacher(name, small_graph, 4, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in scorer.parameters():
            parameter.mul_(20 if name != "roth" else 1)
    config = DistillationConfig(gamma=0.7, temperature=1.0)
    trainer = Trainer(scorer, small_graph, TrainingConfig(0.1, 0.0), config)
    queries = small_graph.queries("train")[slice(0, BATCH)]
    asked = [torch.from_numpy(ids) for ids in (queries.entities, queries.relations)]
    answers = torch.from_numpy(queries.answers)
    sample = Sample.draw(answers, small_graph.num_entities, 30, torch.Generator().manual_seed(3))
    inside = torch.randint(
        len(sample.entities), (BATCH, 9), generator=torch.Generator().manual_seed(4)
    )
    mask = torch.zeros(BATCH, len(sample.entities), dtype=torch.bool)
    mask[torch.arange(BATCH)[:, None], inside] = True
    rows, columns = mask.nonzero(as_tuple=True)
    whole = random_label(BATCH, small_graph.num_entities)
    label = whole.among(Candidates(rows, sample.entities[columns]))

    table = scorer.entity_vectors()
    vectors = scorer.query_vectors(table, *asked)
    logits = scorer.compare(vectors, table[sample.entities]) + sample.log_weights
    own = (answers[:, None] == sample.entities).nonzero()[:, 1]
    target = whole.dense()[:, sample.entities].log() + sample.log_weights
    target = target.masked_fill(~mask, -torch.inf).softmax(1)
    student = logits.masked_fill(~mask, -torch.inf).log_softmax(1)
    gaps = torch.where(mask, target * (target.clamp_min(1e-30).log() - student), 0.0)
    loss = F.cross_entropy(logits, own) + 0.7 * gaps.sum() / BATCH
    names, parameters = zip(*scorer.named_parameters(), strict=True)
    expected = torch.autograd.grad(loss, parameters)

    forward = trainer.forward(queries, sample)
    report = trainer.pull_back(forward, [label], regularised=False)
    torch.testing.assert_close(report.loss, float(loss.detach()), rtol=1e-4, atol=1e-5)
    for parameter, gradient in zip(names, expected, strict=True):
        found = dict(scorer.named_parameters())[parameter].grad
        torch.testing.assert_close(found, gradient, rtol=1e-3, atol=1e-5)
    # What somebody looks at is scores, not weighted ones.
    listed = forward.listed(rows, sample.entities[columns])
    plain = scorer.compare(vectors, table)[rows, sample.entities[columns]]
    torch.testing.assert_close(listed, plain.detach())


def test_a_label_about_everybody_is_refused(small_graph: MultimodalGraph) -> None:
    trainer = make(small_graph)
    queries = small_graph.queries("train")[slice(0, 5)]
    answers = torch.from_numpy(queries.answers)
    sample = Sample.draw(answers, small_graph.num_entities, 9, torch.Generator())
    label = random_label(5, small_graph.num_entities)
    with pytest.raises(ValueError, match="about all entities cannot be learned from a sample"):
        trainer.update(trainer.forward(queries, sample), [label])
