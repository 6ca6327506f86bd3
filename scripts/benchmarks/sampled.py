"""Updates among a sample of the entities beside updates among all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from graphs import MultimodalGraph
from students.batching import shuffled_batches
from students.registry import make_student
from students.training import Trainer, TrainingConfig

from .measuring import Settings, interleaved, ratio, scaled, seconds

STUDENTS = ("complex", "roth")
SAMPLED = 1024


class Epoch:
    """A few updates from hard labels, scaled to an epoch.

    Args:
        graph: what is learned.
        student: name of the scorer.
        settings: sizes, and how many updates.
        sampled: entities beside the answers of a batch; None for all.
    """

    def __init__(
        self, graph: MultimodalGraph, student: str, settings: Settings, sampled: int | None
    ) -> None:
        self.generator = torch.Generator().manual_seed(settings.seed)
        sizes = graph.num_entities, graph.num_relations, settings.rank
        scorer = make_student(student, *sizes, self.generator)
        self.trainer = Trainer(scorer, graph, TrainingConfig(0.1, 0.0))
        self.queries, self.settings, self.sampled = graph.queries("train"), settings, sampled

    def __call__(self) -> float:
        """Seconds of an epoch."""
        every = np.arange(len(self.queries))
        batches = list(shuffled_batches(self.queries, every, self.settings.batch, self.generator))[
            : self.settings.steps
        ]
        measured = seconds(lambda: [self._update(batch) for batch in batches])
        return scaled(measured, sum(map(len, batches)), len(every))

    def _update(self, rows: np.ndarray) -> None:
        queries, sample = self.queries[rows], None
        if self.sampled is not None:
            sample = self.trainer.sample(queries, self.sampled, self.generator)
        self.trainer.update(self.trainer.forward(queries, sample))


def measure(graph: MultimodalGraph, settings: Settings) -> tuple[dict[str, Any], list[Any]]:
    """Seconds of an epoch by student, among a sample and among all, and their ratio."""
    found: dict[str, Any] = {"sampled": SAMPLED, "entities": graph.num_entities, "students": {}}
    for student in STUDENTS:
        contenders: dict[str, Callable[[], float]] = {
            "sample": Epoch(graph, student, settings, SAMPLED),
            "all": Epoch(graph, student, settings, None),
        }
        times = interleaved(contenders, settings.repetitions, f"sampled, {student}")
        found["students"][student] = {"seconds_per_epoch": times} | {
            "ratio": ratio(times["sample"], times["all"])
        }
    return found, []
