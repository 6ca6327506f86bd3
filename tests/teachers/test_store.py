"""The store against exact logits, and cross-fitting against who trained on what."""

import re
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphs import MultimodalGraph
from students.complex import ComplEx
from teachers.cached_store import keep_open, open_store, read_store, write_store
from teachers.pretraining import PretrainingConfig
from teachers.questioning import best_columns, build_store, fold_of_queries
from teachers.store import FEATURES, Opinions, TeacherStore
from tests.students.test_evaluation import random_graph

FP16 = 5e-3


def rounding(log_probs: Tensor) -> float:
    """Largest relative error of a probability whose logarithm was kept in half precision.

    Half precision rounds a number by 2⁻¹¹ of itself at most; a label's normaliser moves by no more
    than what it sums.
    """
    return float(torch.expm1(2 * 2.0**-11 * log_probs.abs().max()))


def random_teachers(
    graph: MultimodalGraph, seed: int, scale: float, count: int = 3
) -> list[ComplEx]:
    generator = torch.Generator().manual_seed(seed)
    return [
        ComplEx(graph.num_entities, graph.num_relations, 4, generator=generator, init_scale=scale)
        for _ in range(count)
    ]


def exact(graph: MultimodalGraph, teachers: list[ComplEx]) -> Tensor:
    """Log-probabilities of all training queries, `[teachers, queries, entities]`."""
    queries = graph.queries("train")
    with torch.no_grad():
        ids = torch.from_numpy(queries.entities), torch.from_numpy(queries.relations)
        return torch.stack([t(*ids).log_softmax(1) for t in teachers])


def store_of(graph: MultimodalGraph, teachers: list[ComplEx], top_k: int | None) -> TeacherStore:
    named = {f"t{i}": [teacher] for i, teacher in enumerate(teachers)}
    return build_store(graph, named, top_k, chunk=17)


def everything(store: TeacherStore) -> Opinions:
    return store.opinions(np.arange(len(store)))


@given(seed=st.integers(0, 999), scale=st.sampled_from([0.1, 0.7, 1.5]), code=st.integers(1, 7))
@settings(max_examples=25, deadline=None)
@example(seed=0, scale=1.5, code=5)
@pytest.mark.parametrize("combination", ["log_probs", "probs"])
def test_exact_store_gives_the_dense_mean(
    combination: str, seed: int, scale: float, code: int
) -> None:
    graph = random_graph(seed % 7)
    teachers = random_teachers(graph, seed, scale)
    mask = torch.tensor([(code >> k) & 1 for k in range(3)], dtype=torch.float32)
    dense = exact(graph, teachers)[mask.bool()]
    expected = dense.mean(0).softmax(1) if combination == "log_probs" else dense.exp().mean(0)
    opinions = everything(store_of(graph, teachers, None))
    weights = mask.repeat(len(opinions), 1)
    (label,) = opinions.soft_labels(weights, combination)  # type: ignore[arg-type]
    torch.testing.assert_close(label.dense(), expected, rtol=rounding(dense), atol=1e-6)


@given(seed=st.integers(0, 999), scale=st.sampled_from([0.1, 0.7, 1.5]), top_k=st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_tail_mass_bounds_the_difference(seed: int, scale: float, top_k: int) -> None:
    """Half the L1 distance to the exact distribution is at most the mass that is not listed."""
    graph = random_graph(seed % 7)
    teachers = random_teachers(graph, seed, scale)
    store = store_of(graph, teachers, top_k)
    opinions, dense = everything(store), exact(graph, teachers).exp()
    for k in range(3):
        alone = torch.zeros(len(opinions), 3)
        alone[:, k] = 1.0
        (label,) = opinions.soft_labels(alone, "probs")
        distance = 0.5 * (label.dense() - dense[k]).abs().sum(1)
        assert (distance <= torch.from_numpy(store.tail_mass[:, k]) + FP16).all()
    (label,) = opinions.soft_labels(torch.ones(len(opinions), 3), "probs")
    distance = 0.5 * (label.dense() - dense.mean(0)).abs().sum(1)
    assert (distance <= torch.from_numpy(store.tail_mass.mean(1)) + FP16).all()


@given(seed=st.integers(0, 999), top_k=st.sampled_from([1, 4, None]))
@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("combination", ["log_probs", "probs", "per_teacher"])
def test_labels_are_distributions(combination: str, seed: int, top_k: int | None) -> None:
    graph = random_graph(seed % 7)
    opinions = everything(store_of(graph, random_teachers(graph, seed, 1.0), top_k))
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randint(0, 2, (len(opinions), 3), generator=generator).float()
    weights *= torch.rand(len(opinions), 1, generator=generator)
    labels = opinions.soft_labels(weights, combination)  # type: ignore[arg-type]
    assert len(labels) == (3 if combination == "per_teacher" else 1)
    total = sum(label.weight for label in labels)
    torch.testing.assert_close(total, weights.amax(1))
    for label in labels:
        assert label.log_probs.isfinite().all()
        mass = label.dense().sum(1)[label.weight > 0]
        torch.testing.assert_close(mass, torch.ones_like(mass), rtol=FP16, atol=FP16)


@pytest.mark.parametrize("seed", range(3))
def test_features_by_brute_force(seed: int) -> None:
    graph = random_graph(seed)
    teachers = random_teachers(graph, seed, 1.0, 1)
    store = store_of(graph, teachers, 4)
    log_probs = exact(graph, teachers)[0].numpy().astype(np.float64)
    queries = graph.queries("train")
    train = {tuple(t) for t in graph.triples["train"].tolist()}
    half = graph.num_relations
    for row in range(len(queries)):
        entity, relation, answer = (
            int(ids[row]) for ids in (queries.entities, queries.relations, queries.answers)
        )
        own = log_probs[row, answer]

        def known(e: int, entity: int = entity, relation: int = relation) -> bool:
            fact = (entity, relation, e) if relation < half else (e, relation - half, entity)
            return fact in train

        rivals = [log_probs[row, e] for e in range(graph.num_entities) if not known(e)]
        neighbors = {t for h, _, t in train if h == entity} | {
            h for h, _, t in train if t == entity
        }
        first, second = np.sort(log_probs[row])[::-1][:2]
        expected = {
            "log_p_answer": own,
            "log_rank": np.log(1 + sum(value > own for value in rivals)),
            "entropy": -(np.exp(log_probs[row]) * log_probs[row]).sum(),
            "max_log_p": first,
            "margin": first - second,
            "neighbor_mass": np.exp(log_probs[row, list(neighbors)]).sum(),
        }
        for name, value in expected.items():
            assert store.features[row, 0, FEATURES.index(name)] == pytest.approx(value, abs=1e-4)


def test_every_query_is_answered_by_a_stranger() -> None:
    graph = random_graph(0)
    teachers = random_teachers(graph, 0, 1.0, 3)
    store = build_store(graph, {"t": teachers}, None, chunk=7)
    fold = fold_of_queries(graph, 3)
    half = len(fold) // 2
    np.testing.assert_array_equal(fold[:half], fold[half:])
    assert np.bincount(fold[:half]).max() - np.bincount(fold[:half]).min() <= 1
    dense = exact(graph, teachers)
    label = everything(store).soft_labels(torch.ones(len(store), 1))[0].dense()
    for row in range(len(store)):
        own = dense[fold[row], row]
        torch.testing.assert_close(label[row], own.exp(), rtol=rounding(own), atol=1e-6)


def test_round_trip_and_damage(tmp_path: Path) -> None:
    graph = random_graph(0)
    store = store_of(graph, random_teachers(graph, 0, 1.0), 4)
    write_store(store, tmp_path / "s", "key")
    again = read_store(tmp_path / "s", "key")
    for one, other in (
        (store.entities, again.entities),
        (store.starts, again.starts),
        (store.counts, again.counts),
        (store.log_probs, again.log_probs),
        (store.log_tail, again.log_tail),
        (store.features, again.features),
    ):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="configuration"):
        read_store(tmp_path / "s", "other")
    path = tmp_path / "s" / "log_tail.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="log_tail"):
        read_store(tmp_path / "s", "key")


def test_open_store_is_computed_once_and_equals_a_fresh_one(small_graph: MultimodalGraph) -> None:
    config = PretrainingConfig(rank=4, max_epochs=2)
    said: list[str] = []
    first = open_store(small_graph, ("structure", "text"), config, report=said.append)
    assert said
    said.clear()
    again = open_store(small_graph, ("structure", "text"), config, report=said.append)
    assert again is first
    other_k = open_store(small_graph, ("structure", "text"), config, top_k=8, report=said.append)
    assert not said
    assert len(other_k.entities) < len(first.entities)


@pytest.mark.parametrize("combination", ["log_probs", "probs", "per_teacher"])
@pytest.mark.parametrize("top_k", [3, None])
def test_labels_sum_to_one_after_rounding(combination: str, top_k: int | None) -> None:
    graph = random_graph(1)
    opinions = everything(store_of(graph, random_teachers(graph, 1, 1.5), top_k))
    weights = torch.ones(len(opinions), 3)
    for label in opinions.soft_labels(weights, combination):  # type: ignore[arg-type]
        totals = label.dense().sum(1)
        torch.testing.assert_close(totals, torch.ones_like(totals), rtol=0, atol=1e-5)


def test_damaged_cache_says_what_to_remove(
    small_graph: MultimodalGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSOM_CACHE", str(tmp_path))
    config = PretrainingConfig(rank=2, max_epochs=1)
    open_store(small_graph, ("structure",), config)
    (folder,) = (tmp_path / "stores").iterdir()
    (folder / "features.npy").write_bytes(b"")
    monkeypatch.setattr("teachers.cached_store._OPEN", OrderedDict())
    with pytest.raises(ValueError, match=re.escape(f"remove {folder}")):
        open_store(small_graph, ("structure",), config)


def test_a_store_made_elsewhere_is_what_open_store_finds(
    small_graph: MultimodalGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("teachers.cached_store._OPEN", OrderedDict())
    store = store_of(small_graph, random_teachers(small_graph, 0, 1.0), 4)
    named = replace(store, teachers=("structure", "image", "text"))
    keep_open(named, small_graph, top_k=4)
    assert open_store(small_graph, named.teachers, top_k=4) is named
    with pytest.raises(ValueError, match="120 queries"):
        keep_open(named, random_graph(0))


@given(
    seed=st.integers(0, 999),
    width=st.sampled_from([1, 7, 64, 100, 1003]),
    share=st.floats(0.001, 1.0),
    ties=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_best_columns_are_the_highest(seed: int, width: int, share: float, ties: bool) -> None:
    values = np.random.default_rng(seed).standard_normal((3, width)).astype(np.float32)
    values = np.round(values) if ties else values
    count = max(int(share * width), 1)
    best = best_columns(values, count)
    assert all(len(set(row)) == count for row in best.tolist())
    found = np.sort(np.take_along_axis(values, best, axis=1), axis=1)
    np.testing.assert_array_equal(found, np.sort(values, axis=1)[:, -count:])
