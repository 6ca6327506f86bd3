"""Filtered probabilities: what an answer gets once the other known answers are out of the way.

A query with forty known answers gives each of them a fortieth at best. Whoever has memorised the
other thirty-nine then looks worse on the fortieth than who knows none, so competence is judged as
ranks are: against what is not known.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dsom_env.classroom import Lesson
from graphs import MultimodalGraph, Queries
from students.distillation import SoftLabel


def filtered_log_probs(label: SoftLabel, queries: Queries, graph: MultimodalGraph) -> Tensor:
    """Log-probability of each answer among the entities that are no other known answer, `[batch]`.

    Args:
        label: of the queries, listing every query's answer, as those of the store do; a row of
            weight 0 has none and gets a value that means nothing.
        queries: training queries.
        graph: whose training answers are known.
    """
    answers = torch.from_numpy(queries.answers).to(label.rows.device)
    own = label.log_probs[label.entities == answers[label.rows]]
    rows, others = _known_others(queries, graph)
    if not len(rows):
        return own
    rows, others = rows.to(own.device), others.to(own.device)
    listed = label.rows * label.num_entities + label.entities
    wanted = rows * label.num_entities + others
    places = torch.searchsorted(listed, wanted).clamp_max(len(listed) - 1)
    log_probs = torch.where(listed[places] == wanted, label.log_probs[places], label.log_tail[rows])
    return _among_the_rest(own, rows, log_probs)


def student_filtered_log_probs(lesson: Lesson, graph: MultimodalGraph) -> Tensor:
    """The student's `filtered_log_probs` of the lesson as it was put before it, `[batch]`."""
    forward = lesson.forward
    own = forward.answer_log_probs().detach()
    rows, others = _known_others(lesson.queries, graph)
    rows, others = rows.to(own.device), others.to(own.device)
    normaliser = forward.statistics.log_normaliser[forward.row_of[rows]]
    return _among_the_rest(own, rows, forward.listed(rows, others) - normaliser)


def _known_others(queries: Queries, graph: MultimodalGraph) -> tuple[Tensor, Tensor]:
    """(row, entity) of every known answer of the queries that is not the query's own."""
    keys = graph.query_keys(queries.entities, queries.relations)
    rows, entities = graph.train_answers.gather(keys)
    other = entities != queries.answers[rows]
    return torch.from_numpy(rows[other]), torch.from_numpy(entities[other])


def _among_the_rest(own: Tensor, rows: Tensor, known: Tensor) -> Tensor:
    """`own` `[batch]`, renormalised without the mass that `known` `[n]` has in each row."""
    mass = torch.zeros_like(own).index_add_(0, rows, known.exp())
    # The answer is part of the rest, which rounding must not make smaller than it.
    return own - torch.log((1.0 - mass).clamp_min(own.exp()).clamp_min(1e-30))
