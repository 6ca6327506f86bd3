"""The world behind the environments: one student, its teachers, and a batch of queries."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dsom_env.config import DSoMConfig
from dsom_env.junior import junior_candidates
from dsom_env.state import Observer, relation_codes
from dsom_env.stream import QueryStream, reward_split, taught_graph
from graphs import MultimodalGraph, Queries
from graphs.csr import IntArray
from students.devices import resolve_device
from students.distillation import Candidates, DistillationConfig, SoftLabel
from students.evaluation import evaluate_ranking, filtered_ranks, ranking_metrics
from students.forward import Forward
from students.registry import make_student
from students.scorer import Scorer
from students.snapshots import Snapshot
from students.training import StepReport, Trainer, TrainingConfig
from teachers.cached_store import open_store
from teachers.pretraining import load_teachers
from teachers.questioning import build_store
from teachers.registry import TEACHERS
from teachers.store import Combination, Opinions, TeacherStore

Weights = NDArray[np.float32]
P = ParamSpec("P")
R = TypeVar("R")


def with_gradients(method: Callable[P, R]) -> Callable[P, R]:
    """Let the student learn also where the caller acts under `no_grad` or `inference_mode`."""

    @wraps(method)
    def own_mode(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.inference_mode(False), torch.enable_grad():
            return method(*args, **kwargs)

    return own_mode


def derived_seed(seed: int, purpose: str) -> int:
    """A seed for one purpose, so that streams of randomness do not run in step."""
    entropy = [seed, *purpose.encode()]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint32)[0])


@dataclass
class Lesson:
    """A batch of queries in front of the student, before and while it is taught.

    Attributes:
        rows: int64 `[batch]`, positions among the training queries.
        queries: the queries.
        forward: the student's logits of them, to look at.
        learned: what it will learn from: `forward`, or the same among a sample of the entities.
        opinions: the teachers' answers to them, which teach.
        judged: their answers by which they are judged; `opinions` again unless they differ.
        envs: int64 `[batch]`, the sub-environments that hold them.
        candidates: the entities that soft labels are about; None for all. See `dsom_env.junior`.
        tempering: what becomes of each query's soft label `p`: `p^(1/tempering)`, renormalised,
            before `DSoMConfig.temperature` flattens student and teachers alike (ours). So the
            teachers' temperature is the product of the two, while the student's and the loss's
            factor `τ²` keep the configured one. `DSoMConfig.tempering`, or float32 `[batch]` where
            choices temper it further.
    """

    rows: IntArray
    queries: Queries
    forward: Forward
    learned: Forward
    opinions: Opinions
    judged: Opinions
    envs: IntArray
    tempering: Tensor | float = 1.0
    candidates: Candidates | None = None

    def soft_labels(
        self, opinions: Opinions, weights: Tensor, combination: Combination
    ) -> list[SoftLabel]:
        """Soft labels of the chosen teachers, about the candidates, tempered; prices look at these.

        Args:
            opinions: of the lesson, those that teach or those that judge.
            weights: float32 `[batch, teachers]`, 0 for not chosen.
            combination: see `Opinions.soft_labels`.
        """
        labels = opinions.soft_labels(weights, combination)
        if self.candidates is not None:
            labels = [label.among(self.candidates) for label in labels]
        return [label.tempered(self.tempering) for label in labels]


class Classroom:
    """One shared student, the store of its teachers' opinions, and the stream of queries.

    Everything heavy is done here, at the first `reset`, so that constructing an environment is
    cheap.

    Args:
        config: arguments of the environment.
        graph: already loaded.
        teachers: names, in the order of the action.

    Attributes:
        taught_graph: what student and teachers learn from: `graph` without the reward split.
        queries: all training queries of `graph`; rows everywhere are positions among them.
        taught_rows: int64 `[taught]`, rows that are taught.
        withheld_rows: int64 `[withheld]`, rows of the reward split.
        store: what the teachers that teach said.
        judged_store: what those said by whom they are judged.
        trainer: the student.
        stream: the order of the queries.
        task: of a stream of tasks (`dsom_env.course`); None here, where there is no other.
    """

    trainer: Trainer
    stream: QueryStream
    task: int | None = None

    @with_gradients
    def __init__(
        self, config: DSoMConfig, graph: MultimodalGraph, teachers: tuple[str, ...]
    ) -> None:
        self.config, self.graph, self.teachers = config, graph, teachers
        self.device = resolve_device(config.device)
        own = self.own_triples(graph)
        self.taught_graph = taught_graph(graph, config.withheld, own)
        self.queries = graph.queries("train")
        triples = len(graph.triples["train"])
        withheld = reward_split(own, config.withheld)
        taught = np.setdiff1d(np.arange(triples), withheld)
        # Both directions of a triple are withheld together.
        self.taught_rows: IntArray = np.concatenate([taught, taught + triples])
        self.withheld_rows: IntArray = np.concatenate([withheld, withheld + triples])
        self._places = np.full(len(self.queries), -1)
        self._places[self.taught_rows] = np.arange(len(self.taught_rows))
        self.store = self.open_store(config.folds)
        self.judged_store = self.open_store(config.judged_folds or config.folds)
        self.observer = Observer(self.taught_graph, self.judged_store, self.codes(), config.hide)

    def own_triples(self, graph: MultimodalGraph) -> int:
        """How many of the training triples, the first ones, may be in the reward split."""
        return len(graph.triples["train"])

    def codes(self) -> NDArray[np.float32]:
        """Codes of the relations, `[2R, relation_code]`."""
        return relation_codes(self.graph.num_relations, self.config.relation_code)

    def first(self) -> Classroom:
        """Where a new student begins: here."""
        return self

    def successor(self) -> Classroom:
        """Where the student goes on, asked after every step: here."""
        return self

    def open_store(self, folds: int) -> TeacherStore:
        """The teachers' answers to the queries at `taught_rows`, in their order."""
        config = self.config
        return open_store(
            self.taught_graph,
            self.teachers,
            config.pretraining,
            folds,
            config.top_k,
            report=say if config.verbose else None,
        )

    def asking(self, queries: Queries) -> Classroom:
        """This classroom with other queries in the place of the training ones, to be looked at.

        Student, teachers and observations are the same; rows are positions among `queries`. Nobody
        must be taught there: these are queries, of valid say, that students are judged by.
        """
        other = copy.copy(self)
        other.queries, rows = queries, np.arange(len(queries))
        other.taught_rows, other.withheld_rows, other._places = rows, rows[:0], rows

        def questioned(folds: int) -> TeacherStore:
            names, config = self.teachers, self.config
            models = load_teachers(self.taught_graph, names, config.pretraining, folds)
            return build_store(self.taught_graph, models, config.top_k, queries=queries)

        folds = self.config.folds
        judged_folds = self.config.judged_folds or folds
        other.store = other.judged_store = questioned(folds)
        if judged_folds != folds:
            other.judged_store = questioned(judged_folds)
        other.observer = Observer(
            self.taught_graph, other.judged_store, self.codes(), self.config.hide
        )
        other.candidate_generator = torch.Generator().manual_seed(0)
        return other

    def opinions(
        self,
        rows: IntArray,
        store: TeacherStore | None = None,
        on: torch.device | None = None,
    ) -> Opinions:
        """What the teachers said of the queries at `rows`, which are among the taught ones.

        Args:
            rows: int64 `[batch]`, positions among the training queries.
            store: of `open_store`; None for the one that teaches.
            on: where they are wanted; None for where the student is.
        """
        return (store or self.store).opinions(self._places[rows], on or self.device)

    def new_student(self, seed: int) -> Scorer:
        """A student that has learned nothing, from `seed` alone."""
        config, graph = self.config, self.graph
        generator = torch.Generator().manual_seed(derived_seed(seed, "student"))
        sizes = (graph.num_entities, graph.num_relations, config.rank)
        return make_student(config.student, *sizes, generator).to(self.device)

    def start_student(self, seed: int) -> None:
        """A new student and a new order of queries, from `seed` alone."""
        config = self.config
        self.trainer = Trainer(
            self.new_student(seed),
            self.taught_graph,
            TrainingConfig(config.learning_rate, config.regularisation),
            DistillationConfig(
                gamma=config.gamma,
                alpha=config.alpha,
                beta=config.beta,
                temperature=config.temperature,
                neighbors=config.neighbors,
                partition=config.partition,
                beta_warmup=config.beta_warmup,
            ),
            queries_per_epoch=len(self.taught_rows),
        )
        self.stream = QueryStream(self.queries, self.taught_rows, derived_seed(seed, "stream"))
        self.generator = torch.Generator().manual_seed(derived_seed(seed, "control"))
        purpose = derived_seed(seed, "candidates")
        self.candidate_generator = torch.Generator().manual_seed(purpose)

    def lesson(self, rows: IntArray, envs: IntArray | None = None) -> Lesson:
        """Put the queries at `rows` in front of the student as it is now.

        Args:
            rows: int64 `[batch]`, positions among the training queries.
            envs: int64 `[batch]`, whose they are; None when every sub-environment has one.
        """
        queries = self.queries[rows]
        with torch.set_grad_enabled(self.config.cotrain):
            learned = forward = self.trainer.forward(queries)
            if self.config.sampled is not None:
                drawn = self.trainer.sample(queries, self.config.sampled, self.candidate_generator)
                learned = self.trainer.forward(queries, drawn)
        opinions = judged = self.opinions(rows)
        if self.judged_store is not self.store:
            judged = self.opinions(rows, self.judged_store)
        envs = np.arange(len(rows)) if envs is None else envs
        tempering = self.config.tempering
        candidates = None
        if self.config.candidates is not None:
            candidates = junior_candidates(
                learned,
                self.config.candidates,
                self.config.random_candidates,
                self.candidate_generator,
            )
        return Lesson(
            rows, queries, forward, learned, opinions, judged, envs, tempering, candidates
        )

    def observe(self, lesson: Lesson) -> NDArray[np.float32]:
        """Observations of the lesson, `[batch, columns]`."""
        return self.observer.observe(
            self._places[lesson.rows], lesson.forward, self.trainer, lesson.judged
        )

    def allowed(self, queries: Queries) -> NDArray[np.bool_]:
        """Teachers that have something to go by, bool `[batch, teachers]`.

        The teacher of a modality has not where the query's entity lacks the modality; others,
        `fused` among them, know the triples, too. Where nobody would remain, everybody does.
        """
        seen = [m for m in self.teachers if m in self.graph.modalities and m not in TEACHERS]
        allowed = np.ones((len(queries), len(self.teachers)), dtype=np.bool_)
        for name in seen:
            presence = self.graph.modalities[name].presence(self.graph.num_entities)
            allowed[:, self.teachers.index(name)] = presence[queries.entities]
        allowed[~allowed.any(axis=1)] = True
        return allowed

    def soft_labels(self, lesson: Lesson, weights: Weights) -> list[SoftLabel]:
        """Soft labels of the chosen teachers; `weights` `[batch, teachers]`, 0 for not chosen."""
        chosen = torch.from_numpy(weights).to(self.device)
        return lesson.soft_labels(lesson.opinions, chosen, self.config.combination)

    def teach(self, lesson: Lesson, labels: list[SoftLabel]) -> StepReport:
        """Make the one student update of this batch."""
        return self.trainer.update(lesson.learned, labels)

    def withheld_queries(self, count: int) -> Queries:
        """A random sample of the reward split."""
        picked = torch.randint(len(self.withheld_rows), (count,), generator=self.generator)
        return self.queries[self.withheld_rows[picked.numpy()]]

    def withheld_mrr(self, most: int = 1024) -> float:
        """Filtered MRR of the student on (the first queries of) the reward split."""
        queries = self.queries[self.withheld_rows[:most]]
        scores = self.trainer.score(
            torch.from_numpy(queries.entities), torch.from_numpy(queries.relations)
        )
        keys = self.graph.query_keys(queries.entities, queries.relations)
        answers = torch.from_numpy(queries.answers)
        ranks = filtered_ranks(scores, keys, answers, self.graph.train_answers)
        return ranking_metrics(ranks)["mrr"]

    def evaluate(self, split: str) -> dict[str, float]:
        """Filtered ranking metrics of the student, which is left as it is."""
        return evaluate_ranking(self.trainer.score, self.graph, split)

    def rank_of(self, queries: Queries) -> NDArray[np.float64]:
        """The student's filtered ranks of training queries now, `[batch]`."""
        scores = self.trainer.score(
            torch.from_numpy(queries.entities), torch.from_numpy(queries.relations)
        )
        keys = self.graph.query_keys(queries.entities, queries.relations)
        answers = torch.from_numpy(queries.answers)
        return filtered_ranks(scores, keys, answers, self.graph.train_answers)

    def state_dict(self) -> dict[str, Any]:
        """The student's state, see `Trainer.state_dict`."""
        return self.trainer.state_dict()

    def at(self, snapshot: Snapshot) -> Classroom:
        """The classroom that a snapshot is of, with a new student: this one."""
        return self

    def snapshot(self) -> Snapshot:
        """The student and all that is random, for `restore`."""
        generators = [self.generator.get_state(), self.candidate_generator.get_state()]
        return {
            "student": self.trainer.state_dict(),
            "stream": self.stream.snapshot(),
            "generators": generators,
        }

    def restore(self, snapshot: Snapshot) -> None:
        """Take over what `snapshot` returned; a student was started before."""
        self.trainer.load_state_dict(snapshot["student"])
        self.stream.restore(snapshot["stream"])
        control, candidates = snapshot["generators"]
        self.generator.set_state(control)
        self.candidate_generator.set_state(candidates)


def say(line: str) -> None:
    """Report slow work on stderr."""
    print(line, file=sys.stderr, flush=True)
