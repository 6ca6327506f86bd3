"""Teachers of a stream: each goes on where the one before it ended."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from graphs import MultimodalGraph
from graphs.files import cache_folder
from graphs.tasks import cut_tasks
from teachers import lineage
from teachers.attention import AttentionKeeping
from teachers.fused import Fused
from teachers.lineage import (
    Descendant,
    lineage_key,
    lineage_store,
    load_descendant,
    train_descendant,
)
from teachers.pretraining import PretrainingConfig, pretrain

CONFIG = PretrainingConfig(rank=4, max_epochs=3, evaluate_every=1, patience=3)
KEEPING = AttentionKeeping("asymmetric", 1.0)


@pytest.fixture(scope="module")
def graphs(small_graph: MultimodalGraph) -> list[MultimodalGraph]:
    stream = cut_tasks(small_graph, 3, "entity")
    return [stream.own(task) for task in range(3)]


def assert_same(one: Descendant, other: Descendant) -> None:
    for name, value in one.scorer.state_dict().items():
        assert torch.equal(value, other.scorer.state_dict()[name]), name
    for name, value in one.sums.items():
        assert torch.equal(value, other.sums[name]), name


def test_the_first_one_is_pretrained_as_ever(graphs: list[MultimodalGraph]) -> None:
    first = load_descendant(graphs[:1], "fused", CONFIG, KEEPING)
    for name, value in pretrain(graphs[0], "fused", CONFIG).state_dict().items():
        assert torch.equal(value, first.scorer.state_dict()[name]), name


@pytest.mark.parametrize("name", ["structure", "text", "attentive", "uniform"])
def test_files_hold_all_that_the_next_one_needs(
    name: str, graphs: list[MultimodalGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read from the cache, task by task, or trained in one go in memory: the same bits."""
    found = [load_descendant(graphs[: task + 1], name, CONFIG, KEEPING) for task in range(3)]
    monkeypatch.setattr(lineage, "_OPEN", type(lineage._OPEN)())
    said: list[str] = []
    for task in range(3):
        again = load_descendant(graphs[: task + 1], name, CONFIG, KEEPING, said.append)
        assert_same(found[task], again)
    assert not said
    by_hand: Descendant | None = None
    for task in range(3):
        by_hand = train_descendant(graphs[task], name, CONFIG, by_hand, KEEPING)
        assert_same(found[task], by_hand)
        assert by_hand.scorer.num_entities == graphs[task].num_entities


def test_a_checkpoint_of_one_task_is_where_the_next_begins(graphs: list[MultimodalGraph]) -> None:
    """With steps too short to matter, old entities are where they were."""
    before = load_descendant(graphs[:1], "structure", CONFIG)
    still = replace(CONFIG, learning_rate=1e-12, max_epochs=1)
    after = train_descendant(graphs[1], "structure", still, before)
    old = before.scorer.state_dict()["entity_table"]
    torch.testing.assert_close(after.scorer.state_dict()["entity_table"][: len(old)], old)


def test_key_changes_with_everything_that_matters(graphs: list[MultimodalGraph]) -> None:
    symmetric, weak = AttentionKeeping("symmetric"), AttentionKeeping(weight=0.1)
    keys = [
        lineage_key(graphs[:2], "attentive", CONFIG, keeping)
        for keeping in (None, KEEPING, symmetric, weak)
    ]
    keys.append(lineage_key(graphs, "attentive", CONFIG, KEEPING))
    keys.append(lineage_key([graphs[0], graphs[2]], "attentive", CONFIG, KEEPING))
    keys.append(lineage_key([graphs[1]], "attentive", CONFIG, KEEPING))
    keys.append(lineage_key(graphs[1:2], "structure", CONFIG, KEEPING))
    keys.append(lineage_key(graphs[:2], "attentive", replace(CONFIG, seed=1), KEEPING))
    assert len(set(keys)) == len(keys)


def test_methods_share_the_teachers_that_they_share(graphs: list[MultimodalGraph]) -> None:
    """Those without gates, and all of the first task."""
    for name, count in (("structure", 3), ("attentive", 1)):
        same = [lineage_key(graphs[:count], name, CONFIG, keeping) for keeping in (None, KEEPING)]
        assert same[0] == same[1]


def test_attention_stays_where_it_was_held(graphs: list[MultimodalGraph]) -> None:
    """The more the loss weighs, the less attention is lost by entities that both tasks know."""
    config = replace(CONFIG, max_epochs=8, evaluate_every=8, batch_size=64)
    lost = []
    for weight in (0.0, 10.0, 1000.0):
        keeping = AttentionKeeping("asymmetric", weight)
        first = train_descendant(graphs[0], "attentive", config, None)
        second = train_descendant(graphs[1], "attentive", config, first, keeping)
        assert isinstance(first.scorer, Fused)
        assert isinstance(second.scorer, Fused)
        old = first.scorer.gates()
        lost.append(float((old - second.scorer.gates()[: len(old)]).relu().square().sum(1).mean()))
    assert lost[0] > 1.2 * lost[1] > 1.44 * lost[2]


def test_the_store_knows_no_others(graphs: list[MultimodalGraph]) -> None:
    store = lineage_store(graphs[:2], ("structure", "attentive"), CONFIG, KEEPING, top_k=8)
    assert len(store) == 2 * len(graphs[1].triples["train"])
    assert store.num_entities == graphs[1].num_entities
    assert int(store.entities.max()) < graphs[1].num_entities
    opinions = store.opinions(np.arange(20))
    dense = [label.dense() for label in opinions.soft_labels(torch.ones(20, 2), "per_teacher")]
    for probabilities in dense:
        assert probabilities.shape == (20, graphs[1].num_entities)
        torch.testing.assert_close(probabilities.sum(1), torch.ones(20), rtol=1e-3, atol=1e-3)


def test_a_damaged_teacher_is_refused(
    graphs: list[MultimodalGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, seed=77)
    load_descendant(graphs[:1], "text", config)
    cache = cache_folder()
    assert cache is not None
    key = lineage_key(graphs[:1], "text", config, None)
    path = Path(cache) / "lineages" / key / "sums.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    monkeypatch.setattr(lineage, "_OPEN", type(lineage._OPEN)())
    with pytest.raises(ValueError, match=r"changed.*remove"):
        load_descendant(graphs[:1], "text", config)
