"""Filtered ranks against PyKEEN's evaluator and against brute force."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pykeen.evaluation import RankBasedEvaluator

from graphs import MultimodalGraph
from students.evaluation import evaluate_ranking, filtered_ranks, ranking_of


def random_graph(seed: int, entities: int = 23, relations: int = 3) -> MultimodalGraph:
    rng = np.random.default_rng(seed)
    rows = np.unique(
        np.stack([rng.integers(0, n, 120) for n in (entities, relations, entities)], 1), axis=0
    )
    rows = rng.permutation(rows).astype(np.int64)
    names = tuple(map(str, range(entities)))
    splits = {"train": rows[:60], "valid": rows[60:85], "test": rows[85:]}
    return MultimodalGraph("random", splits, names, tuple("abc"[:relations]))


def tied_scores(graph: MultimodalGraph, seed: int) -> torch.Tensor:
    """Integer scores with many ties, `[entities, 2R, entities]`."""
    shape = (graph.num_entities, 2 * graph.num_relations, graph.num_entities)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 6, shape, generator=generator).float()


def pykeen_metrics(graph: MultimodalGraph, table: torch.Tensor, split: str) -> dict[str, float]:
    """PyKEEN's own filter, ranks and metrics, fed with our scores batch by batch."""
    known = {
        "valid": [graph.triples["train"], graph.triples["valid"]],
        "test": [graph.triples[s] for s in ("train", "valid", "test")],
    }[split]
    positive = torch.from_numpy(np.concatenate(known))
    triples = torch.from_numpy(graph.triples[split])
    evaluator = RankBasedEvaluator(filtered=True)
    half = graph.num_relations
    for target, column in (("head", 0), ("tail", 2)):
        other = 2 if column == 0 else 0
        scores = table[triples[:, other], triples[:, 1] + (half if column == 0 else 0)].clone()
        true = scores.gather(1, triples[:, column : column + 1])
        same = (positive[None, :, 1] == triples[:, None, 1]) & (
            positive[None, :, other] == triples[:, None, other]
        )
        rows, facts = same.nonzero(as_tuple=True)
        filtered = scores.clone()
        filtered[rows, positive[facts, column]] = float("nan")
        filtered[torch.arange(len(triples)), triples[:, column]] = true[:, 0]
        evaluator.process_scores_(triples, target, scores=filtered, true_scores=true)
    results = evaluator.finalize()
    found = {"mrr": results.get_metric("both.realistic.inverse_harmonic_mean_rank")}
    for k in (1, 3, 10):
        found[f"hits@{k}"] = results.get_metric(f"both.realistic.hits_at_{k}")
    return found


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("seed", range(5))
def test_equals_pykeen(split: str, seed: int) -> None:
    graph = random_graph(seed)
    table = tied_scores(graph, seed)
    ours = evaluate_ranking(lambda e, r: table[e, r], graph, split=split)
    for name, value in pykeen_metrics(graph, table, split).items():
        assert ours[name] == pytest.approx(value, abs=1e-6), name


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_ranks_by_brute_force(seed: int) -> None:
    graph = random_graph(seed)
    table = tied_scores(graph, seed)
    queries, ranks = ranking_of(lambda e, r: table[e, r], graph, "test", batch_size=7)
    facts = {tuple(t) for rows in graph.triples.values() for t in rows.tolist()}
    for entity, relation, answer, rank in zip(
        queries.entities, queries.relations, queries.answers, ranks, strict=True
    ):
        scores = table[entity, relation]
        half = graph.num_relations
        forward = relation < half
        rivals = [
            scores[e].item()
            for e in range(graph.num_entities)
            if e != answer
            and ((entity, relation, e) if forward else (e, relation - half, entity)) not in facts
        ]
        own = scores[answer].item()
        above = sum(s > own for s in rivals)
        tied = sum(s == own for s in rivals)
        assert rank == 1 + above + tied / 2


def test_constant_scores_get_the_rank_of_a_guess() -> None:
    graph = random_graph(0)
    queries, ranks = ranking_of(lambda e, r: torch.zeros(len(e), graph.num_entities), graph)
    known = graph.known_answers.counts(graph.query_keys(queries.entities, queries.relations))
    np.testing.assert_allclose(ranks, (graph.num_entities - known + 2) / 2)


def test_numpy_scores_and_batches_do_not_matter() -> None:
    graph = random_graph(1)
    table = tied_scores(graph, 1)
    whole = evaluate_ranking(lambda e, r: table[e, r], graph)
    parts = evaluate_ranking(lambda e, r: table.numpy()[e, r], graph, batch_size=3)
    assert whole == parts


def test_refuses_bad_scores_and_splits() -> None:
    graph = random_graph(0)
    with pytest.raises(ValueError, match="score must return"):
        evaluate_ranking(lambda e, r: torch.zeros(len(e), 2), graph)
    with pytest.raises(ValueError, match="NaN"):
        evaluate_ranking(lambda e, r: torch.full((len(e), graph.num_entities), torch.nan), graph)
    with pytest.raises(ValueError, match="split"):
        evaluate_ranking(lambda e, r: torch.zeros(len(e), graph.num_entities), graph, "dev")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("width", [23, 1000, 1001, 2500])
def test_shared_rows_in_any_number_equal_rows_of_their_own(
    dtype: torch.dtype, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs longer than a block, ties, infinities; both ways of counting, answers in parts."""
    monkeypatch.setattr("students.evaluation._MOST_LISTED", 7)
    graph = random_graph(0, entities=width)
    rng = np.random.default_rng(0)
    shared = np.repeat(np.arange(6), [1, 40, 2, 2, 33, 1])
    answers = torch.from_numpy(rng.integers(0, width, len(shared)))
    keys = rng.choice(graph.query_keys(*graph.triples["train"].T[:2]), 6)[shared]
    scores = torch.from_numpy(rng.integers(-3, 4, (6, width))).to(dtype)
    scores[1, :5], scores[2, :5] = torch.inf, -torch.inf
    row_of = torch.from_numpy(shared)
    ranks = filtered_ranks(scores, keys, answers, graph.known_answers, row_of)
    alone = filtered_ranks(scores[row_of], keys, answers, graph.known_answers)
    np.testing.assert_array_equal(ranks, alone)
    for query, (row, answer) in enumerate(zip(shared, answers.tolist(), strict=True)):
        known = set(graph.known_answers[int(keys[query])].tolist()) - {answer}
        rivals = [scores[row, e].item() for e in range(width) if e not in known and e != answer]
        own = scores[row, answer].item()
        expected = 1 + sum(r > own for r in rivals) + sum(r == own for r in rivals) / 2
        assert ranks[query] == expected
