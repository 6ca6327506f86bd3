"""Training a teacher together with a small student and one model per auxiliary modality.

Source: AMID (methods.md §5, reconstruction for knowledge graphs): everybody learns to predict links
by the one training step, and `teachers.amid` pulls at the query vectors in the same update.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from graphs import MultimodalGraph, Queries
from graphs.csr import IntArray
from students.checkpoints import Checkpoints
from students.complex import ComplEx
from students.evaluation import evaluate_ranking
from students.scorer import Scorer
from students.snapshots import Snapshot
from students.training import Trainer, TrainingConfig
from teachers.adversary import adversary_state, unexplained_share
from teachers.amid import CotrainingConfig, Figures, Objective, Vectors
from teachers.contrast import share_an_answer
from teachers.fitting import fit
from teachers.information import information_names, pointwise_information, remember
from teachers.split import SplitModality

if TYPE_CHECKING:
    from teachers.pretraining import PretrainingConfig

# One epoch as JSON types; docs/amid.md says what is in it.
Record = dict[str, Any]
Note = Callable[[Record], None]
# Teachers that the objective is for: those that hear all modalities at once.
COTRAINED = ("fused",)
# Questions from which `unexplained_share` is worked out, half of them to fit.
_EXPLAINED = 2048


@dataclass(frozen=True)
class Cotrained:
    """What co-training leaves behind.

    Attributes:
        teacher: at its best look on valid, with the estimates of that moment
            (`teachers.information`).
        student: at its own best look on valid.
        history: one record per epoch.
    """

    teacher: Scorer
    student: Scorer
    history: list[Record]


class Cotraining:
    """Everybody who learns, and one update of them all per batch.

    Args:
        graph: what is learned; test triples are not read.
        teacher: freshly made.
        name: of the teacher.
        pretraining: optimiser settings and sizes; the auxiliary models have the teacher's rank.
        config: weights and sizes of the objective.
        rows: int64 `[n]`, positions of the training queries that are learned from.

    Attributes:
        trainers: of teacher, student and, in sorted order, the auxiliary models.
        objective: critics and adversary.
        history: one record per look.
    """

    def __init__(
        self,
        graph: MultimodalGraph,
        teacher: Scorer,
        name: str,
        pretraining: PretrainingConfig,
        config: CotrainingConfig,
        rows: IntArray,
    ) -> None:
        self.graph, self.config = graph, config
        self.names = information_names(graph)
        # Apart from the teacher's own, so that its initial values and the order of its batches
        # are those of a teacher that is trained alone.
        entropy = np.random.SeedSequence([pretraining.seed, *b"partners"]).generate_state(1)
        generator = torch.Generator().manual_seed(int(entropy[0]))
        sizes = graph.num_entities, graph.num_relations, config.student_rank
        device = next(teacher.parameters()).device
        student = ComplEx(*sizes, generator=generator).to(device)
        # As the students of the environment: their λ, not the teachers'.
        as_student = TrainingConfig(pretraining.learning_rate)
        self.trainers = [
            Trainer(teacher, graph, pretraining.of(name)),
            Trainer(student, graph, as_student),
        ]
        for modality in sorted(graph.modalities):
            model = SplitModality(graph, modality, pretraining.rank, generator).to(device)
            self.trainers.append(Trainer(model, graph, pretraining.of(modality)))
        probe = graph.queries("train")[rows[:1]]
        widths = [trainer.forward(probe).vectors.shape[1] for trainer in self.trainers]
        self.objective = Objective(widths[0], widths[1], widths[2:], config, generator).to(device)
        self._sample = _some_questions(graph, rows, generator)
        self._warmup = config.warmup * max(len(rows), 1)
        self._seen = 0
        self.history: list[Record] = []
        self._figures: list[Figures] = []
        self._losses: list[list[float]] = []
        self._best = (-1.0, self._copy(1))

    def learn(self, queries: Queries) -> float:
        """One update of everybody; returns the teacher's own loss.

        Raises:
            DivergedError: a loss or a pull is not finite.
        """
        forwards = [trainer.forward(queries) for trainer in self.trainers]
        # The questions are the same for everybody; equal ones have equal vectors and count once.
        rows = forwards[0].row_of.cpu().numpy()
        excluded = share_an_answer(rows, queries.answers, len(forwards[0].firsts))
        teacher, student, *auxiliary = (forward.vectors for forward in forwards)
        scale = min(self._seen / self._warmup, 1.0) if self._warmup else 1.0
        step = self.objective.step(Vectors(teacher, student, tuple(auxiliary)), excluded, scale)
        losses = [
            trainer.update(forward, pull=pull).loss
            for trainer, forward, pull in zip(self.trainers, forwards, step.pulls, strict=True)
        ]
        self._seen += len(queries)
        self._figures.append(step.figures)
        self._losses.append(losses)
        return losses[0]

    def look(self, epoch: int) -> Record:
        """Evaluate teacher and student on valid, and close the record of the epochs since."""
        teacher, student = (
            evaluate_ranking(trainer.score, self.graph, "valid")["mrr"]
            for trainer in self.trainers[:2]
        )
        if student > self._best[0]:
            self._best = (student, self._copy(1))
        vectors = self.vectors(self._sample)
        unexplained = unexplained_share(vectors.teacher, vectors.student)
        figures = Figures.mean(self._figures)
        losses = np.mean(self._losses, axis=0).tolist()
        record: Record = {
            "epoch": epoch,
            "teacher": {"valid_mrr": teacher, "loss": losses[0]},
            "student": {"valid_mrr": student, "loss": losses[1]},
            "auxiliary_loss": dict(zip(self.names[1:], losses[2:], strict=True)),
            "information": dict(zip(self.names, figures.information, strict=True)),
            "information_limit": figures.limit,
            "unexplained": unexplained,
            "adversary": {
                "loss": figures.adversary_loss,
                "accuracy": figures.adversary_accuracy,
                "state": adversary_state(figures.adversary_accuracy, unexplained),
            },
        }
        self.history.append(record)
        self._figures, self._losses = [], []
        return record

    @torch.no_grad()
    def vectors(self, queries: Queries) -> Vectors:
        """Everybody's vectors of distinct questions."""
        entities, relations = (
            torch.from_numpy(ids).to(self.trainers[0].device)
            for ids in (queries.entities, queries.relations)
        )
        scorers = [trainer.scorer for trainer in self.trainers]
        teacher, student, *auxiliary = (
            scorer.query_vectors(scorer.entity_vectors(), entities, relations) for scorer in scorers
        )
        return Vectors(teacher, student, tuple(auxiliary))

    def parameters(self) -> list[dict[str, Tensor]]:
        """Copies of all parameters, those of the objective last."""
        states = [self._copy(number) for number in range(len(self.trainers))]
        return [*states, _copied(self.objective.state_dict())]

    def take(self, parameters: Sequence[dict[str, Tensor]]) -> None:
        """Take over what `parameters` returned."""
        modules = [*(trainer.scorer for trainer in self.trainers), self.objective]
        for module, state in zip(modules, parameters, strict=True):
            module.load_state_dict(state)

    def snapshot(self) -> Snapshot:
        """Everything, right after a look; for `restore`."""
        return {
            "trainers": [trainer.state_dict() for trainer in self.trainers],
            "objective": self.objective.snapshot(),
            "seen": self._seen,
            "history": list(self.history),
            "best": self._best,
        }

    def restore(self, snapshot: Snapshot) -> None:
        """Take over what `snapshot` returned."""
        for trainer, state in zip(self.trainers, snapshot["trainers"], strict=True):
            trainer.load_state_dict(state)
        self.objective.restore(snapshot["objective"])
        self._seen, self._best = snapshot["seen"], snapshot["best"]
        self.history[:] = snapshot["history"]

    def best_student(self) -> Scorer:
        """The student as it was at its own best look on valid."""
        student = self.trainers[1].scorer
        student.load_state_dict(self._best[1])
        return student.requires_grad_(False)

    def _copy(self, number: int) -> dict[str, Tensor]:
        return _copied(self.trainers[number].scorer.state_dict())


def cotrain(
    graph: MultimodalGraph,
    teacher: Scorer,
    name: str,
    pretraining: PretrainingConfig,
    config: CotrainingConfig,
    rows: IntArray,
    generator: torch.Generator,
    report: Callable[[str], None] | None = None,
    note: Note | None = None,
    patience: int | None = None,
    checkpoints: Checkpoints | None = None,
) -> Cotrained:
    """Train a teacher with its student and auxiliary models; valid ends it and decides.

    Args:
        graph: what they learn; test triples are not read.
        teacher: freshly made; it is trained in place.
        name: of the teacher.
        pretraining: sizes, optimiser settings, batch size and budget.
        config: weights and sizes of the objective.
        rows: int64 `[n]`, positions of the training queries that are learned from.
        generator: of the order of the batches.
        report: called with a line per epoch.
        note: called with the record of each epoch.
        patience: epochs without a better valid MRR of the teacher before training stops; None
            spends the whole budget.
        checkpoints: where it goes on if it was killed; records of epochs before are noted again.

    Raises:
        ValueError: the graph has no modalities, and so nothing auxiliary.
        DivergedError: somebody's numbers are not finite.
    """
    if not graph.modalities:
        raise ValueError(f"graph {graph.name!r} has no modalities: there is nothing to co-train")
    world = Cotraining(graph, teacher, name, pretraining, config, rows)
    noted = 0

    def note_new() -> None:
        nonlocal noted
        for record in world.history[noted:]:
            if note:
                note(record)
        noted = len(world.history)

    def look(epoch: int, _: float) -> float:
        record = world.look(epoch)
        note_new()
        if report:
            report(f"{name} co-trained, {in_words(record)}")
        mrr: float = record["teacher"]["valid_mrr"]
        return mrr

    kept = fit(
        graph.queries("train"),
        rows,
        pretraining.batch_size,
        pretraining.max_epochs,
        generator,
        world.learn,
        look,
        world.parameters,
        patience=patience,
        checkpoints=checkpoints,
        learner=world,
    )
    # It may have been killed when nothing was left to learn.
    note_new()
    world.take(kept)
    information = pointwise_information(
        graph, world.vectors, world.objective, pretraining.batch_size
    )
    remember(teacher, information)
    return Cotrained(teacher, world.best_student(), world.history)


def in_words(record: Record) -> str:
    """One line about an epoch."""
    adversary = record["adversary"]
    information = " ".join(f"{name} {nats:.2f}" for name, nats in record["information"].items())
    return (
        f"epoch {record['epoch']} valid teacher {record['teacher']['valid_mrr']:.4f} student "
        f"{record['student']['valid_mrr']:.4f}; nats of {record['information_limit']:.2f}: "
        f"{information}; unexplained {record['unexplained']:.2f}; adversary "
        f"{adversary['state']} (accuracy {adversary['accuracy']:.2f})"
    )


def _some_questions(graph: MultimodalGraph, rows: IntArray, generator: torch.Generator) -> Queries:
    """Distinct questions of the training queries at `rows`, in random order."""
    queries = graph.queries("train")[rows]
    _, firsts = np.unique(graph.query_keys(queries.entities, queries.relations), return_index=True)
    order = torch.randperm(len(firsts), generator=generator).numpy()
    return queries[firsts[order][:_EXPLAINED]]


def _copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.items()}
