"""The observation: what the selector sees of a query, column by named column."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from dsom_env.columns import (
    STUDENT_COLUMNS,
    SUMMARY_COLUMNS,
    TEACHER_COLUMNS,
    observation_columns,
)
from graphs import MultimodalGraph
from graphs.csr import IntArray
from students.evaluation import filtered_ranks
from students.forward import Forward
from students.training import Trainer
from teachers.store import FEATURES, Opinions, TeacherStore


def relation_codes(num_relations: int, width: int) -> NDArray[np.float32]:
    """A fixed random code per relation, reciprocals included, float32 `[2R, width]`, of length 1.

    It lets a network tell relations apart: its first layer turns codes into what an embedding of
    that rank would be.
    """
    code = np.random.default_rng(0).standard_normal((2 * num_relations, width))
    codes: NDArray[np.float32] = code / np.linalg.norm(code, axis=1, keepdims=True)
    return codes.astype(np.float32)


class Observer:
    """Turns a scored batch of queries into observations `[batch, columns]`.

    The features see the answer: they exist at training time only, and the environment never
    asks about validation or test queries.

    Args:
        graph: degrees, presence of modalities, training answers.
        store: what the teachers said.
        codes: float32 `[2R, relation_code]`, of the relations.
        hide: groups of columns to leave out.
    """

    def __init__(
        self,
        graph: MultimodalGraph,
        store: TeacherStore,
        codes: NDArray[np.float32],
        hide: Sequence[str] = (),
    ) -> None:
        self.graph = graph
        self.log_entities = math.log(graph.num_entities)
        modalities = tuple(sorted(graph.modalities))
        self.columns = observation_columns(
            modalities, store.teachers, codes.shape[1], hide, store.information_names
        )
        shown = set(self.columns.names)
        # The student's logits are what an observation costs: who does not see them need not pay.
        self._shows_summary = not shown.isdisjoint(SUMMARY_COLUMNS)
        self._shows_student = not shown.isdisjoint(name for name, *_ in STUDENT_COLUMNS)
        kl_columns = (f"{teacher}_kl_to_student" for teacher in store.teachers)
        self._shows_divergences = not shown.isdisjoint(kl_columns)
        self._static = self._static_columns(store)
        self._information = store.information
        degrees = np.log1p(graph.degrees)
        self._degrees = (degrees / max(degrees.max(), 1e-9)).astype(np.float32)
        counts = np.log1p(graph.relation_counts)
        self._counts = (counts / max(counts.max(), 1e-9)).astype(np.float32)
        presence = [m.presence(graph.num_entities) for _, m in sorted(graph.modalities.items())]
        empty = np.zeros((0, graph.num_entities), dtype=np.bool_)
        self._presence = np.stack(presence or list(empty)).T if presence else empty.T
        self._presence = self._presence.astype(np.float32)
        self._codes = codes

    def _static_columns(self, store: TeacherStore) -> NDArray[np.float32]:
        """The teachers' features of all queries, scaled to the bounds, `[queries, M, 6]`."""
        scale = np.ones(len(FEATURES), dtype=np.float32)
        for name in ("log_p_answer", "log_rank", "entropy", "max_log_p", "margin"):
            scale[FEATURES.index(name)] = self.log_entities
        bounds = {name: (low, high) for name, low, high in TEACHER_COLUMNS}
        low, high = (np.array([bounds[name][i] for name in FEATURES]) for i in (0, 1))
        scaled: NDArray[np.float32] = np.clip(store.features / scale, low, high).astype(np.float32)
        return scaled

    @torch.no_grad()
    def observe(
        self, rows: IntArray, forward: Forward, trainer: Trainer, opinions: Opinions
    ) -> NDArray[np.float32]:
        """Observations of a batch.

        Args:
            rows: int64 `[batch]`, positions of the queries in the store.
            forward: the batch as the student scores it now.
            trainer: the student.
            opinions: what the teachers said about the batch.

        Returns:
            float32 `[batch, columns]`, finite and inside the bounds.
        """
        queries, batch = forward.queries, len(rows)
        summary = np.zeros((batch, len(SUMMARY_COLUMNS)), dtype=np.float32)
        if self._shows_summary:
            asked = forward.entities, forward.relations
            summary = trainer.scorer.summary(forward.table, *asked).cpu().numpy()
        divergences = np.zeros(opinions.log_tail.shape, dtype=np.float32)
        if self._shows_divergences:
            divergences = self.divergences(forward, opinions)
        student = np.zeros((batch, len(STUDENT_COLUMNS)), dtype=np.float32)
        if self._shows_student:
            student = self._student(forward)
        teachers = np.concatenate([self._static[rows], divergences[:, :, None]], axis=2)
        observation = np.concatenate(
            [
                summary,
                self._degrees[queries.entities, None],
                self._degrees[queries.answers, None],
                self._counts[queries.relations, None],
                (queries.relations >= self.graph.num_relations)[:, None],
                self._presence[queries.entities],
                self._presence[queries.answers],
                self._codes[queries.relations],
                teachers.reshape(batch, -1),
                student,
                self._information[rows] / self.log_entities,
            ],
            axis=1,
            dtype=np.float32,
        )
        shown = observation[:, self.columns.shown]
        clipped: NDArray[np.float32] = np.clip(shown, self.columns.low, self.columns.high)
        return clipped

    def divergences(self, forward: Forward, opinions: Opinions) -> NDArray[np.float32]:
        """`KL(p_teacher ‖ p_student)` in units of log E, float32 `[batch, teachers]`.

        Args:
            forward: the batch as the student scores it now; its logits are kept for the update.
            opinions: what the teachers said about the batch.
        """
        row_of, statistics = forward.row_of, forward.statistics
        listed = forward.listed(opinions.rows, opinions.entities)
        log_normaliser = statistics.log_normaliser[row_of]
        student = (listed - log_normaliser[opinions.rows])[:, None]
        gaps = opinions.log_probs.exp() * (opinions.log_probs - student)
        divergence = torch.zeros_like(opinions.log_tail).index_add_(0, opinions.rows, gaps)
        counts = torch.bincount(opinions.rows, minlength=len(forward))
        listed_total = torch.zeros_like(log_normaliser).index_add_(0, opinions.rows, listed)
        tail_sizes = (forward.logits.shape[1] - counts).to(listed.dtype)
        tail_total = statistics.total[row_of] - listed_total - tail_sizes * log_normaliser
        tail = tail_sizes[:, None] * opinions.log_tail - tail_total[:, None]
        divergence = divergence + torch.where(
            tail_sizes[:, None] > 0, opinions.log_tail.exp() * tail, 0.0
        )
        scaled: NDArray[np.float32] = (divergence / self.log_entities).cpu().numpy()
        return scaled

    def _student(self, forward: Forward) -> NDArray[np.float32]:
        """The student's own columns, `[batch, 3]`."""
        queries = forward.queries
        keys = self.graph.query_keys(queries.entities, queries.relations)
        ranks = filtered_ranks(
            forward.logits, keys, forward.answers, self.graph.train_answers, forward.row_of
        )
        log_p = forward.answer_log_probs().cpu().numpy()
        entropy = forward.statistics.entropy[forward.row_of].cpu().numpy()
        columns = [log_p, entropy, np.log(ranks)]
        stacked: NDArray[np.float32] = np.stack(columns, axis=1).astype(np.float32)
        return stacked / np.float32(self.log_entities)
