"""One contract for every student in the registry."""

import numpy as np
import pytest
import torch
from torch import Tensor

from dsom_env.columns import SUMMARY_COLUMNS
from graphs import MultimodalGraph
from students.batching import shuffled_batches
from students.complex import ComplEx
from students.distmult import DistMult
from students.evaluation import evaluate_ranking
from students.registry import STUDENTS, make_student
from students.rotate import RotatE
from students.scorer import Scorer
from students.training import Trainer, TrainingConfig

ENTITIES, RELATIONS, RANK = 11, 3, 4


@pytest.fixture(params=sorted(STUDENTS))
def scorer(request: pytest.FixtureRequest) -> Scorer:
    generator = torch.Generator().manual_seed(0)
    return make_student(request.param, ENTITIES, RELATIONS, RANK, generator)


def queries() -> tuple[Tensor, Tensor]:
    return torch.arange(2 * RELATIONS) % ENTITIES, torch.arange(2 * RELATIONS)


def test_scores_and_gradients(scorer: Scorer) -> None:
    scores = scorer(*queries())
    assert scores.shape == (2 * RELATIONS, ENTITIES)
    scores.square().sum().backward()
    for name, parameter in scorer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_summary_and_moduli(scorer: Scorer) -> None:
    table = scorer.entity_vectors()
    summary = scorer.summary(table, *queries())
    assert summary.shape == (2 * RELATIONS, len(SUMMARY_COLUMNS))
    assert (summary >= 0).all()
    for part in scorer.factor_moduli(table, *queries(), queries()[0]):
        assert part.shape[0] == 2 * RELATIONS
        assert (part >= 0).all()


@pytest.mark.parametrize("name", sorted(STUDENTS))
def test_only_the_generator_decides(name: str) -> None:
    state = torch.get_rng_state()
    made = [
        make_student(name, ENTITIES, RELATIONS, RANK, torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(state, torch.get_rng_state())
    scores = [one(*queries()) for one in made]
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], scores[2])


def complex_rows(table: Tensor) -> np.ndarray:
    array = table.detach().double().numpy()
    half = array.shape[1] // 2
    return array[:, :half] + 1j * array[:, half:]


def by_definition(scorer: Scorer, entity: int, relation: int, answer: int) -> float:
    if isinstance(scorer, ComplEx):
        e, r = complex_rows(scorer.entity_table), complex_rows(scorer.relation_table)
        return float((e[entity] * r[relation] * e[answer].conj()).sum().real)
    if isinstance(scorer, DistMult):
        e, r = scorer.entity_table.detach().double(), scorer.relation_table.detach().double()
        return float(sum(e[entity, k] * r[relation, k] * e[answer, k] for k in range(2 * RANK)))
    assert isinstance(scorer, RotatE)
    e = complex_rows(scorer.entity_table)
    turn = np.exp(1j * scorer.phase_table.detach().double().numpy()[relation])
    return float(-(np.abs(e[entity] * turn - e[answer]) ** 2).sum())


def test_scores_by_definition(scorer: Scorer) -> None:
    for parameter in scorer.parameters():
        parameter.data *= 10 if parameter.ndim and not isinstance(scorer, RotatE) else 1
    scores = scorer(*queries())
    for row, (entity, relation) in enumerate(zip(*map(Tensor.tolist, queries()), strict=True)):
        for answer in range(ENTITIES):
            expected = by_definition(scorer, entity, relation, answer)
            assert float(scores[row, answer].detach()) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", sorted(STUDENTS))
def test_fits_a_small_graph(name: str) -> None:
    rng = np.random.default_rng(0)
    rows = np.unique(rng.integers(0, (12, 2, 12), (30, 3)), axis=0).astype(np.int64)
    labels = tuple(map(str, range(12)))
    graph = MultimodalGraph(
        "tiny", {"train": rows, "valid": rows[:1], "test": rows[:1]}, labels, ("a", "b")
    )
    generator = torch.Generator().manual_seed(0)
    scorer = make_student(name, 12, 2, 16, generator)
    trainer = Trainer(scorer, graph, TrainingConfig(0.1, 0.0))
    all_queries = graph.queries("train")
    before = evaluate_ranking(trainer.score, graph, "train")["mrr"]
    for _ in range(60):
        for batch in shuffled_batches(all_queries, np.arange(len(all_queries)), 16, generator):
            trainer.update(trainer.forward(all_queries[batch]))
    after = evaluate_ranking(trainer.score, graph, "train")["mrr"]
    assert before < 0.6 < 0.9 < after


def test_unknown_student() -> None:
    with pytest.raises(ValueError, match="did you mean 'complex'"):
        make_student("complx", 3, 1, 2, torch.Generator())
