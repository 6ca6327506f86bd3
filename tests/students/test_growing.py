"""A scorer that grows: what it has learned stays where it belongs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from graphs import Modality, MultimodalGraph
from graphs.tasks import TaskStream, cut_tasks
from students.growing import adagrad_sums, inherit
from students.registry import STUDENTS, make_student
from students.scorer import Scorer
from students.training import Trainer, TrainingConfig
from teachers.registry import make_teacher

TEACHERS = ("structure", "text", "image", "fused", "attentive")


@pytest.fixture(scope="module", params=["relation", "entity"])
def stream(request: pytest.FixtureRequest, small_graph: MultimodalGraph) -> TaskStream:
    """Of a graph some of whose entities lack images."""
    image = small_graph.modalities["image"]
    part = Modality(image.entities[::2], image.features[::2])
    graph = replace(small_graph, modalities={**small_graph.modalities, "image": part})
    return cut_tasks(graph, 3, request.param)


def made(name: str, graph: MultimodalGraph, seed: int) -> Scorer:
    generator = torch.Generator().manual_seed(seed)
    if name in STUDENTS:
        return make_student(name, graph.num_entities, graph.num_relations, 4, generator)
    return make_teacher(name, graph, 4, generator)


def trained(name: str, graph: MultimodalGraph, seed: int) -> Trainer:
    trainer = Trainer(made(name, graph, seed), graph, TrainingConfig(0.1, 0.01))
    queries = graph.queries("train")
    for _ in range(3):
        trainer.update(trainer.forward(queries[:64]))
    return trainer


@pytest.mark.parametrize("name", [*sorted(STUDENTS), *TEACHERS])
def test_old_questions_get_the_same_scores_for_old_candidates(
    name: str, stream: TaskStream
) -> None:
    """Reciprocals included, whose ids have moved, and features, whose scale has changed."""
    before, after = stream.own(0), stream.own(1)
    old = trained(name, before, 0)
    new = Trainer(made(name, after, 1), after)
    fresh = {key: value.clone() for key, value in new.scorer.state_dict().items()}
    inherit(new, old.scorer, adagrad_sums(old))
    entities = torch.arange(before.num_entities)
    for relation in range(before.num_relations):
        for shift_before, shift_after in ((0, 0), (before.num_relations, after.num_relations)):
            asked = torch.full_like(entities, relation + shift_before)
            expected = old.score(entities, asked)
            asked = torch.full_like(entities, relation + shift_after)
            found = new.score(entities, asked)[:, : before.num_entities]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    # What is new starts fresh.
    for key, owners in new.scorer.row_owners().items():
        known = old.scorer.row_owners()[key]
        is_new = ~torch.isin(owners, known)
        value = dict(new.scorer.named_parameters())[key]
        assert torch.equal(value[is_new], fresh[key][is_new])
        assert (adagrad_sums(new)[key][is_new] == 0).all()
        if len(known):
            assert not torch.equal(value[~is_new], fresh[key][~is_new])


@pytest.mark.parametrize("name", ["complex", "text", "attentive"])
def test_the_next_step_is_the_one_that_would_have_been_made(name: str, stream: TaskStream) -> None:
    """On a graph that has not grown, growing changes nothing: weights and sums go on."""
    graph = stream.own(1)
    old = trained(name, graph, 0)
    new = Trainer(made(name, graph, 1), graph, TrainingConfig(0.1, 0.01))
    inherit(new, old.scorer, adagrad_sums(old))
    queries = graph.queries("train")[64:128]
    for trainer in (old, new):
        trainer.update(trainer.forward(queries))
    for key, value in old.scorer.state_dict().items():
        assert torch.equal(value, new.scorer.state_dict()[key]), key


def test_sums_follow_the_scale_of_features(stream: TaskStream) -> None:
    """A projection that is `c` times as large has gradients, and sums, that are smaller."""
    before, after = stream.own(0), stream.own(1)
    old = trained("text", before, 0)
    new = Trainer(made("text", after, 1), after)
    inherit(new, old.scorer, adagrad_sums(old))
    ratio = after.modalities["text"].features.std() / before.modalities["text"].features.std()
    rms = [np.sqrt(np.mean(np.square(g.modalities["text"].features))) for g in (before, after)]
    factor = rms[1] / rms[0]
    assert ratio == pytest.approx(factor, rel=0.05)
    key = "vectors.projection"
    for found, expected, power in (
        (new.scorer.state_dict()[key], old.scorer.state_dict()[key], 1),
        (adagrad_sums(new)[key], adagrad_sums(old)[key], -2),
    ):
        torch.testing.assert_close(found, expected * float(factor) ** power)


def test_without_sums_the_optimiser_restarts(stream: TaskStream) -> None:
    old = trained("complex", stream.own(0), 0)
    new = Trainer(made("complex", stream.own(1), 1), stream.own(1))
    inherit(new, old.scorer)
    assert all((sums == 0).all() for sums in adagrad_sums(new).values())


def test_a_table_of_nobodys_is_refused(stream: TaskStream, monkeypatch: pytest.MonkeyPatch) -> None:
    old = trained("complex", stream.own(0), 0)
    new = Trainer(made("complex", stream.own(1), 1), stream.own(1))
    monkeypatch.setattr(type(old.scorer), "row_owners", lambda self: {})
    with pytest.raises(ValueError, match=r"entity_table was .*row_owners of ComplEx"):
        inherit(new, old.scorer)


def test_nobody_inherits_from_another_kind(stream: TaskStream) -> None:
    old = trained("complex", stream.own(0), 0)
    new = Trainer(made("rotate", stream.own(1), 1), stream.own(1))
    with pytest.raises(ValueError, match="ComplEx before has no such parameter"):
        inherit(new, old.scorer)
