"""The one training step against plain autograd, and its copies and checkpoints."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from graphs import MultimodalGraph
from students import forward as forward_module
from students.complex import ComplEx
from students.distillation import DistillationConfig, SoftLabel
from students.training import DivergedError, Trainer, TrainingConfig
from teachers.registry import make_teacher


def make(graph: MultimodalGraph, **distillation: object) -> Trainer:
    generator = torch.Generator().manual_seed(0)
    scorer = ComplEx(
        graph.num_entities, graph.num_relations, 6, generator=generator, init_scale=0.3
    )
    return Trainer(
        scorer,
        graph,
        TrainingConfig(0.1, 0.05),
        DistillationConfig(**distillation),  # type: ignore[arg-type]
    )


def random_label(batch: int, entities: int) -> SoftLabel:
    """Two listed entities per row and a tail."""
    generator = torch.Generator().manual_seed(1)
    masses = torch.rand(batch, 3, generator=generator).softmax(1)
    first = torch.randint(0, entities // 2, (batch, 1), generator=generator)
    second = torch.randint(entities // 2, entities, (batch, 1), generator=generator)
    return SoftLabel(
        torch.arange(batch).repeat_interleave(2),
        torch.cat([first, second], 1).reshape(-1),
        masses[:, :2].reshape(-1).log(),
        (masses[:, 2] / (entities - 2)).log(),
        torch.ones(batch),
        entities,
    )


def plain_step(trainer: Trainer, batch: int, label: SoftLabel | None, gamma: float) -> ComplEx:
    """CE + γ·KL + N3 by plain autograd and torch's Adagrad, on a copy."""
    twin = trainer.fork().scorer
    assert isinstance(twin, ComplEx)
    optimiser = torch.optim.Adagrad(twin.parameters(), lr=0.1)
    queries = trainer.graph.queries("train")[slice(0, batch)]
    entities, relations, answers = map(
        torch.from_numpy, (queries.entities, queries.relations, queries.answers)
    )
    logits = twin(entities, relations)
    loss = F.cross_entropy(logits, answers)
    if label is not None:
        target = label.dense()
        loss = loss + gamma * F.kl_div(logits.log_softmax(1), target, reduction="batchmean")
    half = twin.entity_table.shape[1] // 2
    for rows in (
        twin.entity_table[entities],
        twin.relation_table[relations],
        twin.entity_table[answers],
    ):
        moduli = (rows[:, :half] ** 2 + rows[:, half:] ** 2).sqrt()
        loss = loss + 0.05 * (moduli**3).sum() / batch
    loss.backward()
    optimiser.step()
    return twin


@pytest.mark.parametrize("taught", [True, False])
def test_update_is_plain_autograd(small_graph: MultimodalGraph, taught: bool) -> None:
    trainer = make(small_graph, gamma=0.7, temperature=1.0)
    label = random_label(20, small_graph.num_entities) if taught else None
    expected = plain_step(trainer, 20, label, 0.7)
    queries = small_graph.queries("train")[slice(0, 20)]
    trainer.update(trainer.forward(queries), [label] if label else [])
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(trainer.scorer.state_dict()[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["structure", "text", "fused"])
def test_a_pull_is_a_term_on_the_query_vectors(name: str, small_graph: MultimodalGraph) -> None:
    """`CE + λ·N3 + ⟨pull, q⟩` by plain autograd, for tables that are free and that are computed."""
    scorer = make_teacher(name, small_graph, 4, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in scorer.parameters():
            parameter.mul_(100)
    trainer = Trainer(scorer, small_graph, TrainingConfig(0.1, 0.05))
    # Runs of one question share a row, and so a pull.
    queries = small_graph.queries("train")
    order = np.argsort(small_graph.query_keys(queries.entities, queries.relations), kind="stable")
    queries = queries[order[:40]]
    forward = trainer.forward(queries)
    assert len(forward.vectors) < len(queries)
    pull = torch.randn(forward.vectors.shape, generator=torch.Generator().manual_seed(1))
    table = scorer.entity_vectors()
    asked = [torch.from_numpy(ids) for ids in (queries.entities, queries.relations)]
    answers = torch.from_numpy(queries.answers)
    vectors = scorer.query_vectors(table, *asked)
    loss = F.cross_entropy(scorer.compare(vectors, table), answers)
    moduli = scorer.factor_moduli(table, *asked, answers)
    loss = loss + 0.05 * sum((part**3).sum() for part in moduli) / len(queries)
    total = loss + (vectors[forward.firsts] * pull).sum()
    names, parameters = zip(*scorer.named_parameters(), strict=True)
    expected = torch.autograd.grad(total, parameters)
    report = trainer.pull_back(forward, pull=pull)
    assert report.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    for label, parameter, gradient in zip(names, parameters, expected, strict=True):
        assert parameter.grad is not None, label
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5, msg=label)


def test_a_pull_that_is_not_finite_changes_nothing(small_graph: MultimodalGraph) -> None:
    trainer = make(small_graph)
    before = trainer.state_dict()["scorer"]
    forward = trainer.forward(small_graph.queries("train")[slice(0, 8)])
    with pytest.raises(DivergedError, match="pull"):
        trainer.update(forward, pull=torch.full_like(forward.vectors, torch.nan))
    for name, value in trainer.scorer.state_dict().items():
        assert torch.equal(value, before[name])


class Scaled(ComplEx):
    """A geometry of its own, with a parameter of its own in `compare`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scale = torch.nn.Parameter(torch.tensor(1.5))

    def compare(self, queries: Tensor, candidates: Tensor) -> Tensor:
        return (self.scale * queries @ candidates.T).tanh()


def test_other_geometries_are_pulled_back_by_autograd(
    small_graph: MultimodalGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Block by block; of the parameters in `compare` too."""
    monkeypatch.setattr(forward_module, "BLOCK_ELEMENTS", 7 * small_graph.num_entities)
    sizes = small_graph.num_entities, small_graph.num_relations, 6
    scorer = Scaled(*sizes, generator=torch.Generator().manual_seed(0), init_scale=0.3)
    trainer = Trainer(scorer, small_graph)
    queries = small_graph.queries("train")[slice(0, 20)]
    found = trainer.gradient(queries)
    entities, relations, answers = map(
        torch.from_numpy, (queries.entities, queries.relations, queries.answers)
    )
    loss = F.cross_entropy(scorer(entities, relations), answers)
    for (name, value), expected in zip(
        found.items(), torch.autograd.grad(loss, list(scorer.parameters())), strict=True
    ):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6, msg=name)


def test_gamma_zero_is_hard_labels_only(small_graph: MultimodalGraph) -> None:
    queries = small_graph.queries("train")[slice(0, 20)]
    hard, soft = make(small_graph), make(small_graph, gamma=0.0)
    hard.update(hard.forward(queries))
    soft.update(soft.forward(queries), [random_label(20, small_graph.num_entities)])
    for name, value in hard.scorer.state_dict().items():
        torch.testing.assert_close(soft.scorer.state_dict()[name], value)


def test_fork_is_independent_and_exact(small_graph: MultimodalGraph) -> None:
    trainer = make(small_graph)
    queries = small_graph.queries("train")
    trainer.update(trainer.forward(queries[slice(0, 20)]))
    kept = trainer.state_dict()
    twin = trainer.fork()
    twin.update(twin.forward(queries[slice(20, 40)]))
    for name, value in kept["scorer"].items():
        assert torch.equal(trainer.scorer.state_dict()[name], value)
    trainer.update(trainer.forward(queries[slice(20, 40)]))
    for name, value in twin.scorer.state_dict().items():
        assert torch.equal(trainer.scorer.state_dict()[name], value)
    trainer.load_state_dict(kept)
    trainer.update(trainer.forward(queries[slice(20, 40)]))
    for name, value in twin.scorer.state_dict().items():
        assert torch.equal(trainer.scorer.state_dict()[name], value)
    assert trainer.steps == twin.steps == 2


def test_divergence_is_an_error_and_changes_nothing(small_graph: MultimodalGraph) -> None:
    trainer = make(small_graph)
    assert isinstance(trainer.scorer, ComplEx)
    trainer.scorer.relation_table.data[0, 0] = torch.inf
    kept = {k: v.clone() for k, v in trainer.scorer.state_dict().items()}
    with pytest.raises(DivergedError, match="step 0"):
        trainer.update(trainer.forward(small_graph.queries("train")[slice(0, 200)]))
    for name, value in kept.items():
        assert torch.equal(trainer.scorer.state_dict()[name], value)


def test_beta_warms_up_over_queries(small_graph: MultimodalGraph) -> None:
    trainer = make(small_graph, beta_warmup=2.0)
    queries = small_graph.queries("train")
    assert trainer.beta_scale == 0.0
    trainer.update(trainer.forward(queries))
    assert trainer.beta_scale == pytest.approx(0.5)
    trainer.update(trainer.forward(queries))
    trainer.update(trainer.forward(queries))
    assert trainer.beta_scale == 1.0


@pytest.mark.parametrize("neighbors", ["one_hop", "same_relation", "answer"])
def test_neighbor_sets_by_brute_force(small_graph: MultimodalGraph, neighbors: str) -> None:
    trainer = make(small_graph, neighbors=neighbors)
    queries = small_graph.queries("train")[slice(0, 30)]
    rows, found = trainer.neighbor_lists(queries)
    facts = small_graph.triples["train"]
    half = small_graph.num_relations
    for index in range(30):
        entity, relation = int(queries.entities[index]), int(queries.relations[index])
        if neighbors == "one_hop":
            expected = set(facts[facts[:, 0] == entity, 2]) | set(facts[facts[:, 2] == entity, 0])
        elif neighbors == "same_relation":
            side, other = (0, 2) if relation < half else (2, 0)
            same = (facts[:, side] == entity) & (facts[:, 1] == relation % half)
            expected = set(facts[same, other])
        else:
            expected = set()
        assert set(found[rows == index].tolist()) == set(map(int, expected))


@pytest.mark.parametrize(
    ("settings", "shared"),
    [
        ({}, True),
        ({"alpha": 1.0}, True),
        ({"neighbors": "answer"}, True),
        ({"neighbors": "answer", "alpha": 1.0}, False),
        ({"neighbors": "answer", "beta_warmup": 1.0}, False),
    ],
)
def test_equal_questions_share_a_row_where_their_parts_are_equal(
    small_graph: MultimodalGraph, settings: dict[str, object], shared: bool
) -> None:
    trainer, queries = make(small_graph, **settings), small_graph.queries("train")
    keys = small_graph.query_keys(queries.entities, queries.relations)
    queries = queries[np.argsort(keys, kind="stable")]
    rows = len(trainer.forward(queries).logits)
    assert rows == (len(np.unique(keys)) if shared else len(queries))


def test_training_config_refuses() -> None:
    for value in (0, float("nan"), float("inf"), "0.1", None):
        with pytest.raises(ValueError, match="learning_rate must be a positive number"):
            TrainingConfig(learning_rate=value)  # type: ignore[arg-type]
    for value in (-1, float("nan"), "0.1", None):
        with pytest.raises(ValueError, match="regularisation must be a number"):
            TrainingConfig(regularisation=value)  # type: ignore[arg-type]


def test_hard_labels_rank_better_with_updates(small_graph: MultimodalGraph) -> None:
    trainer = make(small_graph)
    queries = small_graph.queries("train")
    losses = [trainer.update(trainer.forward(queries)).loss for _ in range(20)]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
