"""Policies that know what no agent may know: they bound what choosing can be worth.

An oracle of a query's own answer is no bound on what a student can gain: an ensemble's
probability of the answer is largest for its single best teacher, while students learn from the
other entities too (findings.md 3). So there are several, and the best one is the bound.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.policies import MaskPolicy, Probe
from dsom_env.classroom import Classroom, Lesson, Weights
from dsom_env.competence import filtered_log_probs
from dsom_env.config import DSoMConfig
from graphs import Queries
from graphs.csr import IntArray
from graphs.true_masks import true_masks
from students.forward import BLOCK_ELEMENTS
from teachers.pretraining import load_teachers
from teachers.store import Combination, Opinions, TeacherStore

# Of more teachers than these there are too many subsets to try them all for every query.
MOST_TEACHERS = 10
# Of the store that oracles judge by, where the environment has in-sample ones only.
_FOLDS = DSoMConfig.judged_folds or 3
_CHUNK = 2048


def judged_by(classroom: Classroom) -> Combination:
    """How sets are judged; `per_teacher` has no single label, and means of logs stand in."""
    combination = classroom.config.combination
    return "log_probs" if combination == "per_teacher" else combination


def strangers_folds(config: DSoMConfig) -> int:
    """Folds of the store that takes memory out: the environment's, or as many as are usual."""
    folds = config.judged_folds or config.folds
    return folds if folds > 1 else _FOLDS


def strangers(classroom: Classroom) -> TeacherStore:
    """Opinions of teachers that did not train on what they are asked."""
    return classroom.open_store(strangers_folds(classroom.config))


def told_by_strangers(
    classroom: Classroom, subsets: Tensor
) -> Iterator[tuple[IntArray, NDArray[np.float64]]]:
    """What subsets of teachers that did not train on the taught queries give their answers.

    Args:
        classroom: teachers and queries; its student is not asked.
        subsets: float32 `[subsets, teachers]` of 0 and 1.

    Yields:
        Relations `[queries]` and filtered log-probabilities `[queries, subsets]`, part by part.
    """
    store, taught = strangers(classroom), classroom.taught_rows
    subsets = subsets.to(classroom.device)
    for start in range(0, len(taught), _CHUNK):
        rows = taught[start : start + _CHUNK]
        part, opinions = classroom.queries[rows], classroom.opinions(rows, store)
        values = []
        for subset in subsets:
            (label,) = opinions.soft_labels(subset.repeat(len(rows), 1), judged_by(classroom))
            label = label.tempered(classroom.config.tempering)
            values.append(filtered_log_probs(label, part, classroom.taught_graph).double())
        yield part.relations, torch.stack(values, dim=1).cpu().numpy()


class GreedyOracle(MaskPolicy):
    """Sees the answer: adds teachers while the soft label gives the answer more probability.

    Args:
        cross_fitted: judge by cross-fitted opinions, and by *filtered* probabilities: other known
            answers of the query are removed before they are normalised, or queries with many
            answers punish the teacher that knows the others. Without, by what teaches, raw: for an
            in-sample store that is memory.
    """

    def __init__(self, cross_fitted: bool = False) -> None:
        self.cross_fitted = cross_fitted

    def prepare(self, classroom: Classroom, probe: Probe) -> None:
        """Open the store to judge by."""
        if self.cross_fitted:
            self.store = strangers(classroom)

    def masks(self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator) -> Weights:
        """See the class."""
        device = lesson.forward.answers.device
        opinions = lesson.opinions
        if self.cross_fitted:
            opinions = classroom.opinions(lesson.rows, self.store)
        batch, teachers = opinions.log_tail.shape
        rows = torch.arange(batch, device=device)

        def worth(mask: Tensor) -> Tensor:
            return self._worth(classroom, lesson.queries, opinions, mask)

        one_each = torch.eye(teachers, device=device)
        alone = torch.stack([worth(one.repeat(batch, 1)) for one in one_each], dim=1)
        mask = one_each[alone.argmax(1)]
        best = alone.max(1).values
        for _ in range(teachers - 1):
            gains = torch.stack([worth(torch.maximum(mask, one)) for one in one_each])
            value, addition = gains.max(0)
            better = value > best + 1e-6
            if not bool(better.any()):
                break
            mask[rows[better], addition[better]] = 1.0
            best = torch.where(better, value, best)
        chosen: Weights = mask.cpu().numpy()
        return chosen

    def would_choose(
        self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator
    ) -> Weights | None:
        """Strangers were asked about the training queries only."""
        return None if self.cross_fitted else self.masks(classroom, lesson, rng)

    def _worth(
        self, classroom: Classroom, queries: Queries, opinions: Opinions, mask: Tensor
    ) -> Tensor:
        """Log-probability that the soft label of the masks gives the answers, `[batch]`."""
        (label,) = opinions.soft_labels(mask, judged_by(classroom))
        label = label.tempered(classroom.config.tempering)
        answers = torch.from_numpy(queries.answers).to(mask.device)
        if self.cross_fitted:
            return filtered_log_probs(label, queries, classroom.taught_graph)
        return label.log_probs[label.entities == answers[label.rows]]


class SubsetPerRelation(MaskPolicy):
    """For every relation and direction the subset whose soft label predicts best.

    All subsets are judged by the mean filtered log-probability of the answer over the queries of a
    relation. An average over many answers, it cannot pick with hindsight as `GreedyOracle` does;
    and unlike `RelationMask` it prices sets, not teachers, and by what they say of every answer,
    not by whether it ranks first. Every teacher of a set is paid the `bonus`, as learners are.

    Raises:
        ValueError: more than ten teachers, of which there are too many subsets.
    """

    least_queries = 10

    def prepare(self, classroom: Classroom, probe: Probe) -> None:
        """Judge all subsets; relations with fewer than ten queries take all teachers."""
        count = len(classroom.teachers)
        if count > MOST_TEACHERS:
            raise ValueError(
                f"every subset is tried: at most {MOST_TEACHERS} teachers, got {count}"
            )
        subsets = ((np.arange(1, 2**count)[:, None] >> np.arange(count)) & 1).astype(np.float32)
        worth = np.zeros((len(subsets), 2 * classroom.graph.num_relations))
        counts = np.zeros(worth.shape[1])
        for relations, values in self._judge(classroom, torch.from_numpy(subsets)):
            np.add.at(worth.T, relations, values)
            np.add.at(counts, relations, 1)
        # As learners are paid it, whose unit of the log-score is the log of all entities.
        bonus = (classroom.config.bonus or 0.0) * classroom.observer.log_entities
        worth += bonus * subsets.sum(axis=1, keepdims=True) * counts
        best = np.where(counts < self.least_queries, len(subsets) - 1, worth.argmax(0))
        self.by_relation: Weights = subsets[best]

    @abstractmethod
    def _judge(
        self, classroom: Classroom, subsets: Tensor
    ) -> Iterator[tuple[IntArray, NDArray[np.float64]]]:
        """Relations `[queries]` and worth of all subsets `[queries, subsets]`, part by part."""

    def masks(self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator) -> Weights:
        """See the class."""
        return self.by_relation[lesson.queries.relations]


class Tabular(SubsetPerRelation):
    """`SubsetPerRelation` from training queries, told by teachers that did not train on them.

    No oracle: it knows what every agent may know. It is what a learner that sees no more of a
    query than its relation converges to under the reward `filtered_log_score`, without learning.
    """

    def _judge(
        self, classroom: Classroom, subsets: Tensor
    ) -> Iterator[tuple[IntArray, NDArray[np.float64]]]:
        return told_by_strangers(classroom, subsets)


class RelationOracle(SubsetPerRelation):
    """`SubsetPerRelation` from the valid queries, which no agent may learn from."""

    def _judge(
        self, classroom: Classroom, subsets: Tensor
    ) -> Iterator[tuple[IntArray, NDArray[np.float64]]]:
        graph, config = classroom.graph, classroom.config
        queries = graph.queries("valid")
        models = load_teachers(classroom.taught_graph, classroom.teachers, config.pretraining)
        chunk = max(BLOCK_ELEMENTS // graph.num_entities, 1)
        for start in range(0, len(queries), chunk):
            part = queries[start : start + chunk]
            asked = torch.from_numpy(part.entities), torch.from_numpy(part.relations)
            rows, known = graph.evaluation_filter("valid").gather(
                graph.query_keys(part.entities, part.relations)
            )
            other = known != part.answers[rows]
            places = torch.from_numpy(rows[other]), torch.from_numpy(known[other])
            with torch.no_grad():
                models_said = (models[name][0](*asked) for name in classroom.teachers)
                said = [logits.cpu().log_softmax(1) for logits in models_said]
            values = []
            for subset in subsets:
                chosen = torch.stack([said[k] for k in subset.nonzero()[:, 0].tolist()])
                label = chosen.mean(0)
                if judged_by(classroom) == "probs":
                    label = chosen.logsumexp(0)
                label /= config.tempering
                label[places] = -torch.inf
                answers = torch.from_numpy(part.answers)[:, None]
                values.append(label.log_softmax(1).gather(1, answers)[:, 0].double())
            yield part.relations, torch.stack(values, dim=1).numpy()


class PlantedOracle(MaskPolicy):
    """The true mask of a planted graph: the modalities that are competent on the relation.

    `structure` and `fused` follow from the triples and from all modalities, misleading ones
    included, and what they add is not planted.

    Args:
        with_others: whether they teach, too: everybody but the teachers of misleading modalities.
            Where soft labels are nearly all that a student learns from (a large γ), it misses what
            `structure` remembers, and the true mask alone is no bound.

    Raises:
        ValueError: the graph is not planted, or no teacher of one of its modalities takes part.
    """

    def __init__(self, with_others: bool = False) -> None:
        self.with_others = with_others

    def prepare(self, classroom: Classroom, probe: Probe) -> None:
        """Look the masks up."""
        graph, names = classroom.graph, classroom.teachers
        if graph.planted_mask is None:
            raise ValueError(f"the true mask needs a planted graph, and {graph.name!r} is not one")
        truth = true_masks(graph, names)
        if truth is None:
            modalities = ", ".join(sorted(graph.modalities))
            raise ValueError(
                f"the true mask needs a teacher of {modalities}; got {', '.join(names)}"
            )
        shape = (2 * graph.num_relations, len(names))
        self.by_relation = np.full(shape, float(self.with_others), dtype=np.float32)
        self.by_relation[:, truth.scored] = truth.by_relation

    def masks(self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator) -> Weights:
        """See the class."""
        return self.by_relation[lesson.queries.relations]
