"""Pre-training, its cache, and what teachers may and may not see."""

from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

import dsom_env as _registration  # noqa: F401
from dsom_env.config import DSoMConfig
from graphs import Modality, MultimodalGraph, load_graph
from graphs.files import cache_folder
from teachers.fused import Fused
from teachers.pretraining import (
    SHIPPED,
    PretrainingConfig,
    load_teacher,
    pretrain,
    teacher_key,
)
from teachers.registry import TEACHERS, make_teacher, teacher_names
from teachers.triples import MULDE
from tests.conftest import LoadSource

CONFIG = PretrainingConfig(rank=4, max_epochs=4, evaluate_every=1, patience=2)


def weights(scorer: torch.nn.Module) -> dict[str, torch.Tensor]:
    return scorer.state_dict()


def assert_equal(first: torch.nn.Module, second: torch.nn.Module) -> None:
    for name, value in weights(first).items():
        assert torch.equal(value, weights(second)[name]), name


def half_without_images(graph: MultimodalGraph) -> MultimodalGraph:
    image = graph.modalities["image"]
    rows = np.arange(0, len(image.entities), 2)
    part = Modality(image.entities[rows], image.features[rows])
    return replace(graph, modalities={**graph.modalities, "image": part})


@pytest.mark.parametrize("name", ["structure", "text", "image", "fused", "attentive", *MULDE])
def test_contract(name: str, small_graph: MultimodalGraph) -> None:
    graph = half_without_images(small_graph)
    state = torch.get_rng_state()
    scorer = pretrain(graph, name, CONFIG)
    assert torch.equal(state, torch.get_rng_state())
    entities = torch.arange(graph.num_entities)
    for relation in (0, 2 * graph.num_relations - 1):
        scores = scorer(entities, torch.full_like(entities, relation))
        assert scores.shape == (graph.num_entities, graph.num_entities)
        # No entity, whatever it lacks, may tie all candidates.
        assert (scores.std(1) > 0).all()
    assert_equal(scorer, pretrain(graph, name, CONFIG))
    assert not any(parameter.requires_grad for parameter in scorer.parameters())


def test_cache_gives_back_the_same_bits(small_graph: MultimodalGraph) -> None:
    said: list[str] = []
    first = load_teacher(small_graph, "text", CONFIG, report=said.append)
    assert said
    said.clear()
    assert_equal(first, load_teacher(small_graph, "text", CONFIG, report=said.append))
    assert not said
    assert_equal(first, pretrain(small_graph, "text", CONFIG))


def test_damaged_cache_is_refused(small_graph: MultimodalGraph) -> None:
    config = replace(CONFIG, seed=77)
    load_teacher(small_graph, "text", config)
    key = teacher_key(small_graph, "text", config, 1, 0)
    cache = cache_folder()
    assert cache is not None
    path = Path(cache) / "teachers" / key / "teacher.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"changed.*remove"):
        load_teacher(small_graph, "text", config)


def test_key_changes_with_everything_that_matters(small_graph: MultimodalGraph) -> None:
    keys = [teacher_key(small_graph, "text", CONFIG, 1, 0)]
    keys.append(teacher_key(small_graph, "image", CONFIG, 1, 0))
    keys.append(teacher_key(small_graph, "text", CONFIG, 3, 0))
    keys.append(teacher_key(small_graph, "text", CONFIG, 3, 1))
    keys.append(teacher_key(half_without_images(small_graph), "text", CONFIG, 1, 0))
    for field, value in (("rank", 5), ("seed", 1), ("regularisation", 0.5), ("max_epochs", 9)):
        keys.append(teacher_key(small_graph, "text", replace(CONFIG, **{field: value}), 1, 0))
    assert len(set(keys)) == len(keys)


def test_a_teacher_that_was_edited_has_another_key(
    small_graph: MultimodalGraph, load_source: LoadSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from teachers.structure import Structure\n\nclass Mine(Structure):\n    scale = {}\n"
    keys = []
    for scale in (1, 2, 1):
        module = load_source(source.format(scale))
        monkeypatch.setitem(TEACHERS, "mine", module.Mine)
        keys.append(teacher_key(small_graph, "mine", CONFIG, 1, 0))
    assert keys[0] == keys[2]
    assert keys[0] != keys[1]


def test_shipped_teachers_are_those_of_the_default_settings() -> None:
    emoji = load_graph("emoji")
    config = DSoMConfig().pretraining
    names = ("structure", "text", "image", "fused")
    folds = DSoMConfig().judged_folds
    assert folds
    kinds = [(1, 0), *((folds, fold) for fold in range(folds))]
    keys = {teacher_key(emoji, name, config, *kind) for name in names for kind in kinds}
    assert keys == {folder.name for folder in SHIPPED.iterdir()}


def test_test_triples_are_not_read(small_graph: MultimodalGraph) -> None:
    other = dict(small_graph.triples)
    other["test"] = other["test"][::-1][:1].copy()
    assert_equal(
        pretrain(small_graph, "fused", CONFIG),
        pretrain(replace(small_graph, triples=other), "fused", CONFIG),
    )


def test_withheld_fold_changes_the_teacher(small_graph: MultimodalGraph) -> None:
    first = pretrain(small_graph, "structure", CONFIG, folds=3, fold=0)
    second = pretrain(small_graph, "structure", CONFIG, folds=3, fold=1)
    assert any((weights(first)[name] != weights(second)[name]).any() for name in weights(first))


def test_gates_leave_out_what_an_entity_lacks(small_graph: MultimodalGraph) -> None:
    graph = half_without_images(small_graph)
    scorer = pretrain(graph, "fused", CONFIG)
    assert isinstance(scorer, Fused)
    gates = scorer.gates()
    torch.testing.assert_close(gates.sum(1), torch.ones(graph.num_entities))
    missing = ~graph.modalities["image"].presence(graph.num_entities)
    column = scorer.parts.index("image")
    assert (gates[torch.from_numpy(missing), column] == 0).all()
    assert (gates[torch.from_numpy(~missing), column] > 0).all()
    # The mixture by its definition, entity by entity.
    entity = int(np.flatnonzero(~missing)[0])
    vectors = {"structure": scorer.structure[entity]}
    for name in ("image", "text"):
        modality = graph.modalities[name]
        row = int(np.flatnonzero(modality.entities == entity)[0])
        features = torch.from_numpy(modality.features.copy())
        features = features / features.square().mean().sqrt()
        vectors[name] = features[row] @ scorer.projections[name]
    expected = sum(gates[entity, i] * vectors[part] for i, part in enumerate(scorer.parts))
    torch.testing.assert_close(scorer.entity_vectors()[entity], expected)


def test_uniform_teacher_knows_nothing(small_graph: MultimodalGraph) -> None:
    scorer = load_teacher(small_graph, "uniform", CONFIG)
    scores = scorer(torch.arange(3), torch.zeros(3, dtype=torch.int64))
    assert (scores == scores[0, 0]).all()


def test_names_follow_the_graph(small_graph: MultimodalGraph) -> None:
    of_triples = {"structure", "uniform", "rotate", "transh", "refh", "roth", "atth"}
    expected = of_triples | {"fused", "attentive", "image", "text"}
    assert set(teacher_names(small_graph)) == expected
    bare = replace(small_graph, modalities={})
    assert set(teacher_names(bare)) == of_triples
    with pytest.raises(ValueError, match="did you mean 'text'"):
        make_teacher("texts", small_graph, 4, torch.Generator())


def test_early_stop_keeps_the_best_look(small_graph: MultimodalGraph) -> None:
    said: list[str] = []
    pretrain(small_graph, "structure", replace(CONFIG, max_epochs=60), report=said.append)
    values = [float(line.rsplit(" ", 1)[1]) for line in said]
    assert len(values) < 60
    assert max(values) > max(values[-2:]) or max(values) == max(values[:-2])


@pytest.mark.parametrize("name", ["rank", "batch_size", "max_epochs", "patience"])
def test_config_refuses_sizes_below_one(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        PretrainingConfig(**{name: 0})


def test_a_teacher_may_have_its_own_regularisation(small_graph: MultimodalGraph) -> None:
    """It decides that teacher's weights and key, and nobody else's."""
    own = replace(CONFIG, regularisation_of={"text": 0.5})
    same = replace(CONFIG, regularisation=0.5)
    for name, equal in (("text", same), ("image", CONFIG)):
        assert_equal(pretrain(small_graph, name, own), pretrain(small_graph, name, equal))
        keys = [teacher_key(small_graph, name, config, 1, 0) for config in (own, equal)]
        assert keys[0] == keys[1]
    assert teacher_key(small_graph, "text", CONFIG, 1, 0) != keys[0]
    settings = DSoMConfig(teacher_regularisation={"default": 0.1, "text": 0.5}).pretraining
    assert (settings.of("text").regularisation, settings.of("image").regularisation) == (0.5, 0.1)


def test_regularisation_by_name_is_checked() -> None:
    with pytest.raises(ValueError, match="teacher_regularisation of text"):
        DSoMConfig(teacher_regularisation={"text": -1.0})
    with pytest.raises(ValueError, match="did you mean 'text'"):
        gym.make_vec("DSoM-v0", num_envs=2, teacher_regularisation={"txt": 0.1})
