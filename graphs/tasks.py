"""A stream of tasks cut from a graph: relations or entities arrive, task by task.

Ids are given anew in order of arrival, so that what exists in a task is a *prefix* of what exists
in the next one. The graph of a task knows no more entities and relations than that: nobody who is
handed it, be it a loss, a store or a ranking, can take what does not exist yet for a candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from graphs.csr import IntArray
from graphs.graph import SPLITS, Modality, MultimodalGraph
from graphs.naming import unknown

Arrival = Literal["relation", "entity"]
ARRIVALS = ("relation", "entity")
# Orders that are drawn before a graph counts as too small for its tasks.
_MOST_DRAWS = 100


@dataclass(frozen=True)
class TaskStream:
    """A graph in order of arrival, and the task of each of its triples.

    Attributes:
        graph: the whole graph, entities and relations numbered in order of arrival.
        arrival: what arrives, see `cut_tasks`.
        order: seed of the order.
        task_of: per split int64 `[n]`, the task of each triple of `graph`.
        entities: `E_k`, how many exist in task `k`: those with ids below.
        relations: `R_k`, the same for relations; reciprocals not counted.
        original_entities: int64 `[E]`, the id that each entity had in the graph that was cut.
        original_relations: int64 `[R]`, the same for relations.
        deferred: share of the valid and test triples that were put off to a later task than the
            cut alone says, because nothing had been said of one of their ends before.
    """

    graph: MultimodalGraph
    arrival: Arrival
    order: int
    task_of: Mapping[str, IntArray]
    entities: tuple[int, ...]
    relations: tuple[int, ...]
    original_entities: IntArray
    original_relations: IntArray
    deferred: float

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self.entities)

    def rows(self, task: int, split: str = "train") -> IntArray:
        """Positions in `graph.triples[split]` of the task's own triples, ascending."""
        found: IntArray = np.flatnonzero(self.task_of[split] == task)
        return found

    def rows_until(self, task: int, split: str = "train") -> IntArray:
        """Positions of the triples of this task and all before it, task by task."""
        order = np.argsort(self.task_of[split], kind="stable")
        found: IntArray = order[self.task_of[split][order] <= task]
        return found

    def own(self, task: int) -> MultimodalGraph:
        """The task alone: its own triples, over everything that exists by then."""
        return self.at(task, {split: self.rows(task, split) for split in SPLITS})

    def seen(self, task: int) -> MultimodalGraph:
        """All tasks so far: their triples, task by task, over everything that exists by then."""
        return self.at(task, {split: self.rows_until(task, split) for split in SPLITS})

    def at(self, task: int, rows: Mapping[str, IntArray]) -> MultimodalGraph:
        """A graph of chosen triples over the entities and relations that exist in a task.

        Args:
            task: from 0.
            rows: per split, positions in `graph.triples`; all of the task or earlier.

        Raises:
            ValueError: no such task, or a triple of something that does not exist yet.
        """
        if not 0 <= task < len(self):
            raise ValueError(f"task must lie in [0, {len(self)}), got {task}")
        whole, entities, relations = self.graph, self.entities[task], self.relations[task]
        modalities = {}
        for name, modality in whole.modalities.items():
            count = int(np.searchsorted(modality.entities, entities))
            modalities[name] = Modality(modality.entities[:count], modality.features[:count])
        thumbnails, pictured = whole.thumbnails, whole.thumbnail_entities
        if thumbnails is not None and pictured is not None:
            count = int(np.searchsorted(pictured, entities))
            thumbnails, pictured = thumbnails[:count], pictured[:count]
        planted = whole.planted_mask
        if planted is not None:
            planted = np.concatenate(
                [planted[:relations], planted[whole.num_relations :][:relations]]
            )
        return replace(
            whole,
            name=f"{whole.name}, task {task + 1} of {len(self)}",
            triples={split: whole.triples[split][rows[split]] for split in SPLITS},
            entity_labels=whole.entity_labels[:entities],
            relation_labels=whole.relation_labels[:relations],
            modalities=modalities,
            thumbnails=thumbnails,
            thumbnail_entities=pictured,
            planted_mask=planted,
            entity_texts=whole.entity_texts and whole.entity_texts[:entities],
        )

    def memory(self, rows: IntArray, per_relation: int) -> IntArray:
        """Training triples to rehearse: the same few of each relation, whoever asks and when.

        Every training triple draws one lot, from the stream's seed alone, and the lowest lots of
        each relation are kept. So the memory of a task is a sample without replacement of what
        came before it, and needs nothing but the memory of the task before and that task's own
        triples: a reservoir.

        Args:
            rows: int64 `[n]`, positions in `graph.triples["train"]` of what may be remembered.
            per_relation: how many of each relation (6, after MSPT's 6 per class, methods.md §6).

        Returns:
            int64 `[m]`, some of `rows`, ascending.
        """
        lots = np.random.default_rng([self.order, 1]).permutation(len(self.graph.triples["train"]))
        relations = self.graph.triples["train"][rows, 1]
        by_lot = np.lexsort((lots[rows], relations))
        relations = relations[by_lot]
        place = np.arange(len(rows)) - np.searchsorted(relations, relations)
        kept: IntArray = np.sort(rows[by_lot[place < per_relation]])
        return kept


def cut_tasks(
    graph: MultimodalGraph, tasks: int, arrival: Arrival = "relation", order: int = 0
) -> TaskStream:
    """Cut a graph into tasks; the same arguments give the same stream.

    `relation`: every relation belongs to one task. Relations are dealt by their number of training
    triples, the largest first, each to the task that has fewest so far, and the order of the tasks
    is drawn from the seed. `entity`: entities arrive one by one in an order drawn from the seed; a
    triple arrives with the later of its ends, and the tasks cut that sequence into parts with as
    many training triples each. An order that leaves a task without triples of some split is drawn
    again.

    An entity, or a relation, exists from the first task on in which a training triple mentions it.
    A valid or test triple is asked in the first task, from the one it was cut into on, in which
    all that it mentions exists: nobody is asked about what no lesson has mentioned. What no
    training triple mentions at all exists in the last task.

    Args:
        graph: any graph.
        tasks: how many, at least 2.
        arrival: `relation` or `entity`.
        order: seed of the order of arrival; another one is another task order.

    Raises:
        ValueError: a bad argument, or a task would be left without triples of a split.
    """
    if isinstance(tasks, bool) or not isinstance(tasks, int) or tasks < 2:
        raise ValueError(f"tasks must be a whole number of at least 2, got {tasks!r}")
    if arrival not in ARRIVALS:
        raise unknown("arrival", arrival, ARRIVALS)
    if isinstance(order, bool) or not isinstance(order, int) or order < 0:
        raise ValueError(f"order must be a whole number of at least 0, got {order!r}")
    rng = np.random.default_rng(order)
    deal = _by_relation if arrival == "relation" else _by_entity
    for _ in range(_MOST_DRAWS):
        cut = deal(graph, tasks, rng)
        entities, relations = _first_mentions(graph, cut["train"], tasks)
        task_of = {
            split: np.maximum.reduce([task, entities[heads], entities[tails], relations[kinds]])
            for split, task in cut.items()
            for heads, kinds, tails in [graph.triples[split].T]
        }
        counts = {split: np.bincount(task_of[split], minlength=tasks) for split in SPLITS}
        if all(count.all() for count in counts.values()):
            break
    else:
        split = next(split for split, count in counts.items() if not count.all())
        raise ValueError(
            f"tasks: cut by {arrival} into {tasks}, some task of graph {graph.name!r} has no "
            f"{split} triples in any of {_MOST_DRAWS} orders; expected fewer tasks"
        )
    asked = ("valid", "test")
    put_off = sum(int((task_of[split] > cut[split]).sum()) for split in asked)
    entity_order = np.argsort(entities, kind="stable")
    relation_order = np.argsort(relations, kind="stable")
    return TaskStream(
        graph=_renumbered(graph, entity_order, relation_order),
        arrival=arrival,
        order=order,
        task_of=task_of,
        entities=_cumulative(entities, tasks),
        relations=_cumulative(relations, tasks),
        original_entities=entity_order,
        original_relations=relation_order,
        deferred=put_off / sum(len(graph.triples[split]) for split in asked),
    )


def _by_relation(
    graph: MultimodalGraph, tasks: int, rng: np.random.Generator
) -> dict[str, IntArray]:
    """The task of the relation of every triple, per split."""
    counts = np.bincount(graph.triples["train"][:, 1], minlength=graph.num_relations)
    if int((counts > 0).sum()) < tasks:
        raise ValueError(
            f"tasks: graph {graph.name!r} has training triples of {int((counts > 0).sum())} "
            f"relations, expected at least one for each of {tasks} tasks"
        )
    task_of_relation = np.zeros(graph.num_relations, dtype=np.int64)
    sizes = np.zeros(tasks, dtype=np.int64)
    for relation in np.argsort(-counts, kind="stable").tolist():
        smallest = int(sizes.argmin())
        task_of_relation[relation] = smallest
        sizes[smallest] += counts[relation]
    when = rng.permutation(tasks)
    return {split: when[task_of_relation[graph.triples[split][:, 1]]] for split in SPLITS}


def _by_entity(graph: MultimodalGraph, tasks: int, rng: np.random.Generator) -> dict[str, IntArray]:
    """The task in which the later of the two ends of every triple arrives, per split."""
    place = rng.permutation(graph.num_entities)
    last = {split: place[graph.triples[split][:, [0, 2]]].max(axis=1) for split in SPLITS}
    ascending = np.sort(last["train"])
    edges = ascending[[len(ascending) * number // tasks for number in range(1, tasks)]]
    return {split: np.searchsorted(edges, values, "right") for split, values in last.items()}


def _first_mentions(
    graph: MultimodalGraph, task_of_train: IntArray, tasks: int
) -> tuple[IntArray, IntArray]:
    """The first task with a training triple of each entity, and of each relation."""
    entities = np.full(graph.num_entities, tasks - 1)
    relations = np.full(graph.num_relations, tasks - 1)
    heads, kinds, tails = graph.triples["train"].T
    for ends in (heads, tails):
        np.minimum.at(entities, ends, task_of_train)
    np.minimum.at(relations, kinds, task_of_train)
    return entities, relations


def _cumulative(arrivals: IntArray, tasks: int) -> tuple[int, ...]:
    return tuple(np.cumsum(np.bincount(arrivals, minlength=tasks)).tolist())


def _renumbered(
    graph: MultimodalGraph, entity_order: IntArray, relation_order: IntArray
) -> MultimodalGraph:
    """The graph with entity `entity_order[i]` called `i`, and relations alike."""
    entity, relation = np.argsort(entity_order), np.argsort(relation_order)
    ids = (entity, relation, entity)
    modalities = {}
    for name, modality in graph.modalities.items():
        place = entity[modality.entities]
        ascending = np.argsort(place)
        modalities[name] = Modality(place[ascending], modality.features[ascending])
    thumbnails, pictured = graph.thumbnails, graph.thumbnail_entities
    if thumbnails is not None and pictured is not None:
        place = entity[pictured]
        ascending = np.argsort(place)
        thumbnails, pictured = thumbnails[ascending], place[ascending]
    planted = graph.planted_mask
    if planted is not None:
        planted = planted[np.concatenate([relation_order, relation_order + graph.num_relations])]
    texts = graph.entity_texts
    return replace(
        graph,
        triples={
            split: np.stack([ids[i][triples[:, i]] for i in range(3)], axis=1)
            for split, triples in graph.triples.items()
        },
        entity_labels=_picked(graph.entity_labels, entity_order),
        relation_labels=_picked(graph.relation_labels, relation_order),
        modalities=modalities,
        thumbnails=thumbnails,
        thumbnail_entities=pictured,
        planted_mask=planted,
        entity_texts=None if texts is None else tuple(texts[i] for i in entity_order.tolist()),
    )


def _picked(labels: Sequence[str], order: IntArray) -> tuple[str, ...]:
    return tuple(labels[i] for i in order.tolist())
