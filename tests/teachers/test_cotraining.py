"""Co-training on a graph: what it shares with training alone, its cache, and its estimates."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dsom_env.objectives import COTRAINED as NAMES_WITHOUT_TORCH
from graphs import MultimodalGraph
from graphs.files import cache_folder
from students.training import DivergedError
from teachers.amid import CotrainingConfig, Objective, Vectors
from teachers.cached_store import read_store, write_store
from teachers.contrast import info_nce
from teachers.cotraining import COTRAINED, Cotraining, in_words
from teachers.information import (
    information_names,
    information_of,
    pointwise_information,
    remember,
)
from teachers.pretraining import (
    PretrainingConfig,
    load_teacher,
    pretrain,
    ship,
    teacher_history,
    teacher_key,
)
from teachers.questioning import build_store, fold_of_queries
from teachers.registry import make_teacher
from tests.teachers.test_pretraining import assert_equal, weights

AMID = CotrainingConfig(student_rank=3, width=8, warmup=1.0)
OFF = replace(AMID, student=0.0, auxiliary=0.0, entropy=0.0)
ALONE = PretrainingConfig(rank=4, max_epochs=3, evaluate_every=1, patience=2, batch_size=128)
TOGETHER = replace(ALONE, cotraining=AMID)


@pytest.fixture(scope="module")
def teacher(small_graph: MultimodalGraph) -> torch.nn.Module:
    return load_teacher(small_graph, "fused", TOGETHER)


def test_the_names_without_torch_are_the_same() -> None:
    assert NAMES_WITHOUT_TORCH == COTRAINED


def test_without_any_term_the_teacher_is_the_one_trained_alone(
    small_graph: MultimodalGraph,
) -> None:
    """To the bit: the others' presence moves nothing, neither weights nor the order of batches."""
    together = pretrain(small_graph, "fused", replace(ALONE, cotraining=OFF))
    alone = pretrain(small_graph, "fused", ALONE)
    for name, value in weights(alone).items():
        assert torch.equal(value, weights(together)[name]), name


def test_only_the_seed_decides(small_graph: MultimodalGraph, teacher: torch.nn.Module) -> None:
    state = torch.get_rng_state()
    assert_equal(pretrain(small_graph, "fused", TOGETHER), teacher)
    assert torch.equal(state, torch.get_rng_state())
    alone = pretrain(small_graph, "fused", ALONE)
    assert any(not torch.equal(v, weights(teacher)[k]) for k, v in weights(alone).items())


def test_test_triples_are_not_read(small_graph: MultimodalGraph, teacher: torch.nn.Module) -> None:
    other = dict(small_graph.triples)
    other["test"] = other["test"][::-1][:1].copy()
    assert_equal(teacher, pretrain(replace(small_graph, triples=other), "fused", TOGETHER))


def test_the_objective_has_its_own_key_and_only_for_its_teacher(
    small_graph: MultimodalGraph,
) -> None:
    def key(name: str, config: PretrainingConfig) -> str:
        return teacher_key(small_graph, name, config, 1, 0)

    configs = [ALONE, TOGETHER]
    configs += [
        replace(ALONE, cotraining=replace(AMID, **changes))
        for changes in ({"auxiliary": 0.0}, {"student_rank": 2}, {"warmup": 0.0})  # type: ignore[arg-type]
    ]
    # λ of the models beside it decides the teacher, too.
    configs.append(replace(TOGETHER, regularisation_of={"text": 0.5}))
    keys = [key("fused", config) for config in configs]
    assert len(set(keys)) == len(keys)
    assert key("text", ALONE) == key("text", TOGETHER)
    assert key("structure", ALONE) == key("structure", TOGETHER)


def test_cached_shipped_and_with_its_history(
    small_graph: MultimodalGraph,
    teacher: torch.nn.Module,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    assert_equal(teacher, load_teacher(small_graph, "fused", TOGETHER, report=said.append))
    assert not said
    history = teacher_history(small_graph, "fused", TOGETHER)
    assert [record["epoch"] for record in history] == [1, 2, 3]
    monkeypatch.setattr("teachers.pretraining.SHIPPED", tmp_path / "shipped")
    (folder,) = ship(small_graph, ["fused"], TOGETHER)
    monkeypatch.setenv("DSOM_CACHE", str(tmp_path / "empty"))
    assert_equal(teacher, load_teacher(small_graph, "fused", TOGETHER, report=said.append))
    assert not said
    assert teacher_history(small_graph, "fused", TOGETHER) == history
    path = folder / "teacher.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"changed.*remove"):
        teacher_history(small_graph, "fused", TOGETHER)


def test_history_of_a_teacher_that_is_trained_alone(small_graph: MultimodalGraph) -> None:
    load_teacher(small_graph, "fused", ALONE)
    assert teacher_history(small_graph, "fused", ALONE) == []
    assert cache_folder() is not None


def test_records(small_graph: MultimodalGraph, teacher: torch.nn.Module) -> None:
    history = teacher_history(small_graph, "fused", TOGETHER)
    for record in history:
        assert set(record["information"]) == {"student", "image", "text"}
        assert all(v <= record["information_limit"] for v in record["information"].values())
        assert 0 <= record["adversary"]["accuracy"] <= 1
        words = in_words(record)
        assert f"{record['teacher']['valid_mrr']:.4f}" in words
        assert record["adversary"]["state"] in words


def cotraining(graph: MultimodalGraph, config: CotrainingConfig = AMID) -> Cotraining:
    rows = np.arange(2 * len(graph.triples["train"]))
    fused = make_teacher("fused", graph, 4, torch.Generator().manual_seed(0))
    return Cotraining(graph, fused, "fused", ALONE, config, rows)


def test_weights_grow_during_warm_up(
    small_graph: MultimodalGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    scales = []
    step = Objective.step

    def watched(self: Any, vectors: Any, excluded: Any = None, scale: float = 1.0) -> Any:
        scales.append(scale)
        return step(self, vectors, excluded, scale)

    monkeypatch.setattr(Objective, "step", watched)
    queries = small_graph.queries("train")
    world = cotraining(small_graph, replace(AMID, warmup=2.0))
    for start in (0, 96, 192):
        world.learn(queries[np.arange(start, start + 96)])
    assert scales == pytest.approx([0.0, 48 / len(queries), 96 / len(queries)])
    cotraining(small_graph, replace(AMID, warmup=0.0)).learn(queries[np.arange(96)])
    assert scales[-1] == 1.0


def test_pairs_with_a_common_answer_are_never_contrasted(
    small_graph: MultimodalGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    step = Objective.step

    def watched(self: Any, vectors: Any, excluded: Any = None, scale: float = 1.0) -> Any:
        seen.append((len(vectors.teacher), excluded))
        return step(self, vectors, excluded, scale)

    monkeypatch.setattr(Objective, "step", watched)
    queries = small_graph.queries("train")
    keys = small_graph.query_keys(queries.entities, queries.relations)
    rows = np.argsort(keys, kind="stable")[:150]
    cotraining(small_graph).learn(queries[rows])
    ((count, excluded),) = seen
    questions = np.unique(keys[rows])
    assert count == len(questions) < len(rows)
    answers = [set(queries.answers[rows][keys[rows] == key].tolist()) for key in questions]
    assert excluded.any()
    for i in range(count):
        for j in range(count):
            assert bool(excluded[i, j]) == (i != j and bool(answers[i] & answers[j]))


def test_what_is_not_finite_stops_before_any_update(
    small_graph: MultimodalGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = cotraining(small_graph, replace(AMID, warmup=0.0))
    pulls = world.objective._pulls

    def broken(*arguments: Any) -> Any:
        teacher, *others = pulls(*arguments)
        assert teacher is not None
        return (teacher * torch.nan, *others)

    monkeypatch.setattr(world.objective, "_pulls", broken)
    before = world.parameters()[0]
    with pytest.raises(DivergedError, match="pull"):
        world.learn(small_graph.queries("train")[np.arange(64)])
    for name, value in world.trainers[0].scorer.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_graph_without_modalities_is_refused(small_graph: MultimodalGraph) -> None:
    bare = replace(small_graph, modalities={})
    with pytest.raises(ValueError, match="fused"):
        pretrain(bare, "fused", TOGETHER)


def test_pointwise_information_by_brute_force(small_graph: MultimodalGraph) -> None:
    """All questions in one batch, and pairs that share any training answer left out."""
    world = cotraining(small_graph)
    queries = small_graph.queries("train")
    for start in range(0, len(queries), 128):
        world.learn(queries[np.arange(start, min(start + 128, len(queries)))])
    found = pointwise_information(small_graph, world.vectors, world.objective, len(queries))
    keys = small_graph.query_keys(queries.entities, queries.relations)
    questions, firsts = np.unique(keys, return_index=True)
    answers = [set(queries.answers[keys == key].tolist()) for key in questions]
    excluded = torch.tensor(
        [[i != j and bool(a & b) for j, b in enumerate(answers)] for i, a in enumerate(answers)]
    )
    teacher, *others = world.vectors(queries[firsts]).all
    for column, (critic, other) in enumerate(zip(world.objective.critics, others, strict=True)):
        with torch.no_grad():
            values = info_nce(critic(teacher, other), excluded)
        for question, value in zip(questions, values, strict=True):
            own = found[torch.from_numpy(keys == question), column]
            torch.testing.assert_close(own, value.expand(len(own)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [16, 40, 10_000])
def test_every_query_has_an_estimate_below_its_limit(
    batch: int, small_graph: MultimodalGraph
) -> None:
    world = cotraining(small_graph)
    sizes: list[int] = []

    def watched(queries: Any) -> Vectors:
        sizes.append(len(queries))
        return world.vectors(queries)

    found = pointwise_information(small_graph, watched, world.objective, batch)
    assert found.isfinite().all()
    assert (found <= np.log(max(sizes)) + 1e-5).all()
    queries = small_graph.queries("train")
    keys = small_graph.query_keys(queries.entities, queries.relations)
    assert sum(sizes) == len(np.unique(keys))
    assert max(sizes) <= 1.5 * batch
    assert min(sizes) >= min(batch / 2, sum(sizes))


def carrying(graph: MultimodalGraph, make: Callable[[int], torch.Tensor], folds: int) -> list[Any]:
    models = []
    for fold in range(folds):
        model = make_teacher("fused", graph, 2, torch.Generator().manual_seed(fold))
        remember(model, make(fold))
        models.append(model)
    return models


def test_the_store_has_the_estimates_of_the_stranger(
    small_graph: MultimodalGraph, tmp_path: Path
) -> None:
    count, names = 2 * len(small_graph.triples["train"]), information_names(small_graph)
    position = torch.arange(count, dtype=torch.float32)[:, None].repeat(1, len(names))
    models = carrying(small_graph, lambda fold: position + 10_000 * fold, 3)
    alone = make_teacher("text", small_graph, 2, torch.Generator())
    teachers = {"text": [alone] * 3, "fused": models}
    with torch.no_grad():
        store = build_store(small_graph, teachers, 4)
    assert store.information_names == tuple(f"fused_information_{name}" for name in names)
    fold = fold_of_queries(small_graph, 3)
    expected = np.arange(count) + 10_000 * fold
    np.testing.assert_array_equal(store.information, np.tile(expected[:, None], (1, len(names))))
    write_store(store, tmp_path / "s", "key")
    again = read_store(tmp_path / "s", "key")
    assert again.information_names == store.information_names
    np.testing.assert_array_equal(again.information, store.information)
    with torch.no_grad():
        without = build_store(small_graph, {"text": [alone]}, 4)
    assert without.information_names == ()
    assert without.information.shape == (count, 0)
    assert information_of(alone) is None
    with pytest.raises(ValueError, match="information must be"):
        replace(store, information=store.information[1:])
