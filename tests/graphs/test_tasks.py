"""Streams of tasks: triples are dealt once, and nothing is mentioned before it exists."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from graphs import SPLITS, Modality, MultimodalGraph
from graphs.tasks import ARRIVALS, TaskStream, cut_tasks


@st.composite
def streams(draw: st.DrawFn) -> tuple[MultimodalGraph, TaskStream]:
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    entities, relations = draw(st.integers(12, 30)), draw(st.integers(4, 7))
    tasks = draw(st.integers(2, 3))
    rows = rng.integers(0, (entities, relations, entities), (140, 3))
    rows = rng.permutation(np.unique(rows, axis=0)).astype(np.int64)
    has = np.flatnonzero(rng.random(entities) < 0.6)
    features = rng.normal(size=(len(has), 3)).astype(np.float32)
    graph = MultimodalGraph(
        "random",
        {"train": rows[:80], "valid": rows[80:100], "test": rows[100:]},
        tuple(f"e{i}" for i in range(entities)),
        tuple(f"r{i}" for i in range(relations)),
        {"text": Modality(has, features)},
        planted_mask=rng.random((2 * relations, 1)) < 0.5,
    )
    arrival, order = draw(st.sampled_from(ARRIVALS)), draw(st.integers(0, 50))
    try:
        return graph, cut_tasks(graph, tasks, arrival, order)  # type: ignore[arg-type]
    except ValueError as error:
        assume("expected fewer tasks" not in str(error))
        raise


def named(graph: MultimodalGraph, split: str) -> set[tuple[str, str, str]]:
    labels, relations = graph.entity_labels, graph.relation_labels
    return {(labels[h], relations[r], labels[t]) for h, r, t in graph.triples[split].tolist()}


@given(made=streams())
@settings(max_examples=40, deadline=None)
def test_tasks_partition_the_triples(made: tuple[MultimodalGraph, TaskStream]) -> None:
    graph, stream = made
    for split in SPLITS:
        parts = [named(stream.own(task), split) for task in range(len(stream))]
        assert all(parts)
        assert sum(map(len, parts)) == len(graph.triples[split])
        assert set().union(*parts) == named(graph, split)
        for task in range(len(stream)):
            assert named(stream.seen(task), split) == set().union(*parts[: task + 1])


@given(made=streams())
@settings(max_examples=40, deadline=None)
def test_nothing_is_mentioned_before_a_lesson_has_mentioned_it(
    made: tuple[MultimodalGraph, TaskStream],
) -> None:
    """By brute force over names; and what exists in a task keeps its id in the next one."""
    graph, stream = made
    taught: set[str] = set()
    before: MultimodalGraph | None = None
    for task in range(len(stream)):
        own = stream.own(task)
        for head, relation, tail in named(own, "train"):
            taught |= {head, relation, tail}
        exist = set(own.entity_labels) | set(own.relation_labels)
        last = task + 1 == len(stream)
        assert exist == taught if not last else taught <= exist
        for split in ("valid", "test"):
            for triple in named(own, split):
                assert last or set(triple) <= taught
        if before is not None:
            assert own.entity_labels[: before.num_entities] == before.entity_labels
            assert own.relation_labels[: before.num_relations] == before.relation_labels
        before = own
    assert before is not None
    assert set(before.entity_labels) == set(graph.entity_labels)


@given(made=streams())
@settings(max_examples=20, deadline=None)
def test_names_keep_their_features_and_their_truth(
    made: tuple[MultimodalGraph, TaskStream],
) -> None:
    graph, stream = made
    whole = graph.modalities["text"]
    rows = zip(whole.entities.tolist(), whole.features, strict=True)
    features = {graph.entity_labels[e]: row for e, row in rows}
    assert graph.planted_mask is not None
    for task in range(len(stream)):
        own = stream.own(task)
        part = own.modalities["text"]
        found = {own.entity_labels[e]: i for i, e in enumerate(part.entities.tolist())}
        assert set(found) == set(own.entity_labels) & set(features)
        for name, row in found.items():
            np.testing.assert_array_equal(part.features[row], features[name])
        assert own.planted_mask is not None
        for relation, label in enumerate(own.relation_labels):
            old = graph.relation_labels.index(label)
            for shift in (0, 1):
                np.testing.assert_array_equal(
                    own.planted_mask[relation + shift * own.num_relations],
                    graph.planted_mask[old + shift * graph.num_relations],
                )


@given(made=streams(), size=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_memory_is_a_reservoir(made: tuple[MultimodalGraph, TaskStream], size: int) -> None:
    """As many of each relation as there are up to `size`; it needs its earlier self alone."""
    _, stream = made
    train = stream.graph.triples["train"]
    carried = np.zeros(0, dtype=np.int64)
    for task in range(len(stream)):
        rows = stream.rows_until(task)
        memory = stream.memory(rows, size)
        assert set(memory.tolist()) <= set(rows.tolist())
        for relation in range(stream.graph.num_relations):
            count = int((train[rows, 1] == relation).sum())
            assert (train[memory, 1] == relation).sum() == min(count, size)
        carried = stream.memory(np.concatenate([carried, stream.rows(task)]), size)
        np.testing.assert_array_equal(memory, carried)


@pytest.mark.parametrize("arrival", ARRIVALS)
def test_the_seed_alone_decides_the_order(arrival: str, small_graph: MultimodalGraph) -> None:
    cuts = [cut_tasks(small_graph, 3, arrival, order) for order in (0, 0, 1)]  # type: ignore[arg-type]
    same, other = [
        all(np.array_equal(cuts[0].graph.triples[s], cut.graph.triples[s]) for s in SPLITS)
        for cut in cuts[1:]
    ]
    assert same
    assert not other
    assert cuts[0].seen(2).fingerprint == cuts[1].seen(2).fingerprint


def test_tasks_by_entity_are_as_large_as_they_can_be(small_graph: MultimodalGraph) -> None:
    sizes = np.bincount(cut_tasks(small_graph, 4, "entity").task_of["train"])
    assert sizes.sum() == len(small_graph.triples["train"])
    # A triple arrives with the later of its ends, so that a cut may be off by an entity's degree.
    assert np.ptp(sizes) <= 2 * int(small_graph.degrees.max())


def test_relations_belong_to_one_task(small_graph: MultimodalGraph) -> None:
    stream = cut_tasks(small_graph, 3, "relation")
    parts = [{r for _, r, _ in named(stream.own(task), "train")} for task in range(3)]
    assert sum(map(len, parts)) == small_graph.num_relations


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"tasks": 1}, "tasks must be"),
        ({"tasks": True}, "tasks must be"),
        ({"tasks": 5}, "training triples of 4 relations"),
        ({"tasks": 60, "arrival": "entity"}, "expected fewer tasks"),
        ({"tasks": 2, "arrival": "relations"}, "did you mean 'relation'"),
        ({"tasks": 2, "order": -1}, "order must be"),
    ],
)
def test_bad_cuts_are_named(
    arguments: dict[str, object], says: str, small_graph: MultimodalGraph
) -> None:
    with pytest.raises(ValueError, match=says):
        cut_tasks(small_graph, **arguments)  # type: ignore[arg-type]


def test_what_does_not_exist_yet_is_refused(small_graph: MultimodalGraph) -> None:
    stream = cut_tasks(small_graph, 3, "relation")
    late = {**{split: stream.rows(0, split) for split in SPLITS}, "train": stream.rows(2)}
    with pytest.raises(ValueError, match="ids must lie"):
        stream.at(0, late)
    with pytest.raises(ValueError, match="task must lie"):
        stream.own(3)


def test_pictures_stay_with_their_entities(small_graph: MultimodalGraph) -> None:
    pictured = np.arange(0, small_graph.num_entities, 3)
    pictures = np.zeros((len(pictured), 2, 2, 3), dtype=np.uint8)
    pictures[:] = (pictured % 251)[:, None, None, None]
    texts = tuple(f"text of {label}" for label in small_graph.entity_labels)
    graph = replace(
        small_graph, thumbnails=pictures, thumbnail_entities=pictured, entity_texts=texts
    )
    own = cut_tasks(graph, 2, "entity").own(0)
    assert own.thumbnails is not None
    assert own.thumbnail_entities is not None
    assert own.entity_texts is not None
    for row, entity in enumerate(own.thumbnail_entities.tolist()):
        old = graph.entity_labels.index(own.entity_labels[entity])
        assert own.thumbnails[row, 0, 0, 0] == old % 251
    for label, text in zip(own.entity_labels, own.entity_texts, strict=True):
        assert text == f"text of {label}"
