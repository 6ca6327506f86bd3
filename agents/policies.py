"""Agents that do not learn: the controls that every learner must beat."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from dsom_env.actions import Choice
from dsom_env.classroom import Classroom, Lesson, Weights
from graphs import MultimodalGraph
from graphs.csr import IntArray
from students.evaluation import evaluate_ranking, filtered_ranks
from students.snapshots import Snapshot, attributes_of, restore_attributes
from teachers.pretraining import load_teachers
from teachers.store import TeacherStore

Probe = Callable[[NDArray[np.bool_], int], float]


class MaskPolicy(ABC):
    """Chooses masks for a batch of queries.

    Attributes:
        search_epochs: student epochs spent beyond the common budget to prepare the policy.
        budget: student updates that the policy will be asked for, known before `prepare`.
        preference: what it returns, as `calibration` calls it: `mask`, or `weight` for weights.
    """

    search_epochs: float = 0.0
    budget: int = 0
    preference: str = "mask"

    def prepare(self, classroom: Classroom, probe: Probe) -> None:  # noqa: B027 - most need nothing
        """Called once, before the student starts.

        Args:
            classroom: graph, store and configuration; its student is not touched.
            probe: `probe(mask, epochs)` trains a fresh student under one mask for some epochs
                and returns its valid MRR.
        """

    def snapshot(self) -> Snapshot:
        """All that may have changed since it was prepared, for `restore`.

        Raises:
            UnrecordableError: an attribute is of a kind that `students.snapshots` cannot record.
        """
        return attributes_of(self, (TeacherStore, Classroom, MultimodalGraph), (MaskPolicy,))

    def restore(self, snapshot: Snapshot) -> None:
        """Go to where `snapshot` was taken, once it is prepared."""
        restore_attributes(self, snapshot)

    @abstractmethod
    def masks(self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator) -> Weights:
        """Masks of 0 and 1, or weights between, float32 `[batch, teachers]`."""

    def would_choose(
        self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator
    ) -> Weights | None:
        """`masks` for queries that are not taught (`Classroom.asking`): for people who look.

        None of a policy that decides by which of the training queries it is.
        """
        return self.masks(classroom, lesson, rng)

    def decide(self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator) -> Choice:
        """What the batch is really taught by: once for every update of the student.

        `masks`, unless a policy learns from the batch, or says how sharp its soft labels are.
        """
        return Choice(self.masks(classroom, lesson, rng))


class Constant(MaskPolicy):
    """The same mask for every query: `none`, `all`, `single:<teacher>`.

    Args:
        choose: the mask, bool `[teachers]`, from the teachers' names.
    """

    def __init__(self, choose: Callable[[tuple[str, ...]], NDArray[np.bool_]]) -> None:
        self.choose = choose

    def masks(self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator) -> Weights:
        """See the class."""
        mask = self.choose(classroom.teachers).astype(np.float32)
        return np.tile(mask, (len(lesson.rows), 1))


class BestTeacher(MaskPolicy):
    """`single:best`: for every query the one teacher that has the best filtered MRR on valid."""

    def prepare(self, classroom: Classroom, probe: Probe) -> None:
        """Rank the teachers."""
        graph, names = classroom.graph, classroom.teachers
        models = load_teachers(classroom.taught_graph, names, classroom.config.pretraining)
        scores = [evaluate_ranking(models[name][0], graph, "valid")["mrr"] for name in names]
        self.mask = np.arange(len(names)) == int(np.argmax(scores))

    def masks(self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator) -> Weights:
        """See the class."""
        return np.tile(self.mask.astype(np.float32), (len(lesson.rows), 1))


def tossed(classroom: Classroom, count: int, rng: np.random.Generator) -> Weights:
    """A coin for every teacher, `count` times; nobody is everybody unless `allow_empty`."""
    masks = rng.integers(0, 2, (count, len(classroom.teachers))).astype(np.float32)
    if not classroom.config.allow_empty:
        masks[~masks.any(axis=1)] = 1.0
    return masks


class RandomMask(MaskPolicy):
    """Every teacher with probability one half, the empty mask included."""

    def masks(self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator) -> Weights:
        """See the class."""
        return tossed(classroom, len(lesson.rows), rng)


class RandomOnce(MaskPolicy):
    """Every teacher with probability one half, drawn once for a query and kept through all epochs.

    `random` draws anew whenever a query comes back: the two differ by what re-deciding is worth.
    """

    def prepare(self, classroom: Classroom, probe: Probe) -> None:
        """Forget what was drawn."""
        self._drawn: Weights | None = None

    def masks(self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator) -> Weights:
        """See the class; the first call draws all masks."""
        if self._drawn is None:
            self._drawn = tossed(classroom, self._groups(classroom), rng)
        kept: Weights = self._drawn[self._group_of(classroom, lesson)]
        return kept

    def would_choose(
        self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator
    ) -> Weights | None:
        """Nothing was drawn for a query that is not taught."""
        return None

    def _groups(self, classroom: Classroom) -> int:
        return len(classroom.queries)

    def _group_of(self, classroom: Classroom, lesson: Lesson) -> IntArray:
        return lesson.rows


class RandomRelation(RandomOnce):
    """Every teacher with probability one half, drawn once for a relation, both its directions.

    A randomised experiment: students that were taught by this policy differ by chance alone in who
    taught which relation, and so tell what a teacher is worth to a relation (`agents.effects`).
    """

    def would_choose(
        self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator
    ) -> Weights | None:
        """What was drawn for its relation."""
        return self.masks(classroom, lesson, rng)

    def _groups(self, classroom: Classroom) -> int:
        return classroom.graph.num_relations

    def _group_of(self, classroom: Classroom, lesson: Lesson) -> IntArray:
        return lesson.queries.relations % classroom.graph.num_relations


class Cycle(MaskPolicy):
    """One teacher per visit, each in its turn: diversity without chance, and without choice.

    A query that has been taught `v` times is taught next by teacher `(phase + v) mod teachers`,
    so that after any number of rounds it has met every teacher equally often. Phases are dealt out
    evenly by a fixed shuffle of the queries: in every batch all teachers are at work.
    """

    def prepare(self, classroom: Classroom, probe: Probe) -> None:
        """Deal the phases out."""
        shuffled = np.random.default_rng(0).permutation(len(classroom.queries))
        self._turns: IntArray = shuffled % len(classroom.teachers)

    def masks(self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator) -> Weights:
        """See the class; every call counts as a visit."""
        rows, count = lesson.rows, len(classroom.teachers)
        # A batch in which one epoch ends and the next begins may hold a query twice.
        order = np.argsort(rows, kind="stable")
        earlier = np.empty_like(rows)
        earlier[order] = np.arange(len(rows)) - np.searchsorted(rows[order], rows[order])
        turns = (self._turns[rows] + earlier) % count
        np.add.at(self._turns, rows, 1)
        chosen: Weights = np.eye(count, dtype=np.float32)[turns]
        return chosen

    def would_choose(
        self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator
    ) -> Weights | None:
        """A query that is not taught is never visited."""
        return None


class Complement(MaskPolicy):
    """The teachers that say what this student does not say now: those that disagree with it most.

    The disagreement of a teacher on a query is `KL(p_teacher ‖ p_student)` over all entities, at
    temperature 1: what the state shows as `kl_to_student`, but of the answers that teach. Chosen
    are the teachers with at least the mean of their disagreements, so that nobody is left without
    one. Whether what they add is true is not asked. Ours, no published rule.
    """

    def masks(self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator) -> Weights:
        """See the class."""
        divergences = classroom.observer.divergences(lesson.forward, lesson.opinions)
        # In double precision the mean of equal values is no larger than these.
        exact = divergences.astype(np.float64)
        chosen: Weights = (exact >= exact.mean(axis=1, keepdims=True)).astype(np.float32)
        return chosen


class Then(MaskPolicy):
    """One policy for the first half of the student's budget, another for the second.

    Args:
        first: the early one.
        second: the late one.
    """

    def __init__(self, first: MaskPolicy, second: MaskPolicy) -> None:
        self.first, self.second = first, second
        # It is asked for its preferences at the end.
        self.preference = second.preference

    def prepare(self, classroom: Classroom, probe: Probe) -> None:
        """Prepare both."""
        for policy in (self.first, self.second):
            policy.budget = self.budget
            policy.prepare(classroom, probe)
        self.search_epochs = self.first.search_epochs + self.second.search_epochs
        self._asked = 0

    def masks(self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator) -> Weights:
        """See the class."""
        return self._turn().masks(classroom, lesson, rng)

    def decide(self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator) -> Choice:
        """See the class."""
        return self._turn().decide(classroom, lesson, rng)

    def would_choose(
        self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator
    ) -> Weights | None:
        """As the late one would: it is asked at the end."""
        return self.second.would_choose(classroom, lesson, rng)

    def _turn(self) -> MaskPolicy:
        """Whose turn it is; every call counts as an update."""
        early = 2 * self._asked < self.budget
        self._asked += 1
        return self.first if early else self.second


class FixedMask(MaskPolicy):
    """The one mask that teaches best, found on valid by successive halving over all masks.

    Masks are compared by the students that they teach and not by their own ranks: the teachers
    that rank best are not those that teach best (findings.md 4). Every mask teaches a probe
    student for `first_epochs`; the best quarter goes on from scratch with twice as many.

    Args:
        first_epochs: length of the first round.
    """

    # More masks than this cannot be probed one by one.
    most_masks = 64

    def __init__(self, first_epochs: int = 2) -> None:
        self.first_epochs = first_epochs

    def prepare(self, classroom: Classroom, probe: Probe) -> None:
        """Search; see the class."""
        count = len(classroom.teachers)
        if 2**count <= self.most_masks:
            bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
            candidates = list(bits.astype(np.bool_))
        else:
            # Of many teachers: all, none, each alone, each left out.
            eye = np.eye(count, dtype=np.bool_)
            ends = [np.zeros(count, dtype=np.bool_), np.ones(count, dtype=np.bool_)]
            candidates = [*ends, *eye, *~eye]
        epochs = self.first_epochs
        while len(candidates) > 1:
            scores = [probe(mask, epochs) for mask in candidates]
            self.search_epochs += epochs * len(candidates)
            kept = np.argsort(scores, kind="stable")[::-1][: max(len(candidates) // 4, 1)]
            candidates = [candidates[index] for index in kept]
            epochs *= 2
        self.mask = candidates[0]

    def masks(self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator) -> Weights:
        """See the class."""
        return np.tile(self.mask.astype(np.float32), (len(lesson.rows), 1))


class RelationMask(MaskPolicy):
    """MoSE's boosted weights per relation, thresholded to masks (methods.md §2).

    Reconstruction of MoSE-BI: on the validation queries of a relation, teachers are boosted in
    turn, the one with the least weighted error first, with `w = ½·ln(Σ_right D/Σ_wrong D)` and
    `D ← D·exp(−w·p)`; a teacher is right (`p = 1`) where it ranks the answer first, filtered,
    else `p = −1`. Teachers with `w > 0` are chosen, or the best one when there are none.
    Relations with fewer than 10 validation triples use all teachers.
    """

    least_triples = 10

    def prepare(self, classroom: Classroom, probe: Probe) -> None:
        """Rank the validation answers by every teacher and boost."""
        graph = classroom.graph
        queries = graph.queries("valid")
        pretraining = classroom.config.pretraining
        models = load_teachers(classroom.taught_graph, classroom.teachers, pretraining)
        entities, relations = (
            torch.from_numpy(queries.entities),
            torch.from_numpy(queries.relations),
        )
        keys = graph.query_keys(queries.entities, queries.relations)
        answers, known = torch.from_numpy(queries.answers), graph.evaluation_filter("valid")
        right = np.empty((len(queries), len(classroom.teachers)), dtype=np.bool_)
        for column, name in enumerate(classroom.teachers):
            with torch.no_grad():
                scores = models[name][0](entities, relations)
            right[:, column] = filtered_ranks(scores, keys, answers, known) <= 1
        self.by_relation = np.ones((2 * graph.num_relations, right.shape[1]), dtype=np.bool_)
        for relation in np.unique(queries.relations).tolist():
            rows = queries.relations == relation
            if rows.sum() >= self.least_triples:
                weights = boosted_weights(right[rows])
                mask = weights > 0
                mask[weights.argmax()] = True
                self.by_relation[relation] = mask

    def masks(self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator) -> Weights:
        """See the class."""
        return self.by_relation[lesson.queries.relations].astype(np.float32)


def boosted_weights(right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Boosted weights of teachers, `[teachers]`, from who was right where `[queries, teachers]`."""
    queries, teachers = right.shape
    signs = np.where(right, 1.0, -1.0)
    importance = np.full(queries, 1.0 / queries)
    weights = np.zeros(teachers)
    waiting = list(range(teachers))
    while waiting:
        shares = {k: importance[right[:, k]].sum() / importance.sum() for k in waiting}
        best = max(waiting, key=lambda k: shares[k])
        waiting.remove(best)
        # A teacher that is always right must not get an infinite weight.
        share = np.clip(shares[best], 1e-3, 1 - 1e-3)
        weights[best] = 0.5 * np.log(share / (1 - share))
        importance = importance * np.exp(-weights[best] * signs[:, best])
    return weights
