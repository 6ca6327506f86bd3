"""Î(T;S) and Î(T;A) of every training query, which a co-trained teacher carries with it.

They are state features for the selector: what a teacher still shares with the student, and with
each of its own modalities, on the query at hand (ours; AMID estimates them for its objective only).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from graphs import MultimodalGraph, Queries
from graphs.csr import IntArray
from students.evaluation import by_question
from teachers.amid import Objective, Vectors
from teachers.contrast import share_an_answer

_NAME = "information"


def information_names(graph: MultimodalGraph) -> tuple[str, ...]:
    """Whom a teacher's information is about: the student, and the modalities in sorted order."""
    return ("student", *sorted(graph.modalities))


def reserve(teacher: nn.Module, graph: MultimodalGraph) -> None:
    """Make room in a teacher for the estimates that will be read from its file."""
    remember(teacher, torch.zeros(2 * len(graph.triples["train"]), len(information_names(graph))))


def remember(teacher: nn.Module, information: Tensor) -> None:
    """Let a teacher carry estimates `[queries, len(information_names)]` among its weights."""
    teacher.register_buffer(_NAME, information)


def information_of(teacher: nn.Module) -> Tensor | None:
    """Pointwise estimates of all training queries, in nats; None for who was not co-trained."""
    return dict(teacher.named_buffers(recurse=False)).get(_NAME)


def asked_information(
    graph: MultimodalGraph, teachers: Mapping[str, Sequence[nn.Module]], fold: IntArray
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """The estimates of those teachers that carry any, each query's from the model of its fold.

    Args:
        graph: gives the names.
        teachers: per name one model per fold.
        fold: int64 `[queries]`.

    Returns:
        Names such as `fused_information_student`, and float32 `[queries, names]`.
    """
    names: list[str] = []
    columns = [np.zeros((len(fold), 0), dtype=np.float32)]
    for teacher, models in teachers.items():
        parts = [part for model in models if (part := information_of(model)) is not None]
        if parts:
            names += [f"{teacher}_information_{other}" for other in information_names(graph)]
            columns.append(torch.stack(parts).cpu()[fold, np.arange(len(fold))].numpy())
    return tuple(names), np.concatenate(columns, axis=1)


def pointwise_information(
    graph: MultimodalGraph,
    vectors: Callable[[Queries], Vectors],
    objective: Objective,
    batch_size: int,
    seed: int = 0,
) -> Tensor:
    """The estimates of all training queries, each among about `batch_size` random questions.

    Equal questions have equal vectors, so they are asked once and share their estimate, which
    therefore does not depend on which of their answers is looked at. Negatives share no training
    answer with the question.

    Args:
        graph: gives the queries.
        vectors: everybody's vectors of distinct questions.
        objective: critics that have learned.
        batch_size: questions that are contrasted with each other; the last batch is no smaller
            than half of it, as the estimates' limit is the logarithm of their number.
        seed: of the order in which questions meet.

    Returns:
        `[queries, 1 + modalities]` in nats, in the order of `queries("train")`.
    """
    queries = graph.queries("train")
    keys = graph.query_keys(queries.entities, queries.relations)
    order, starts = by_question(keys)
    questions = len(starts) - 1
    information = torch.empty(len(queries), len(information_names(graph)))
    shuffled = np.random.default_rng(seed).permutation(questions)
    for picked in np.array_split(shuffled, max(round(questions / batch_size), 1)):
        asked = order[starts[picked]]
        # Every training query of these questions, to know all their answers and to tell them.
        counts = starts[picked + 1] - starts[picked]
        place = np.repeat(np.arange(len(picked)), counts)
        within = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = order[starts[picked][place] + within]
        excluded = share_an_answer(place, queries.answers[rows], len(picked))
        estimates = objective.estimates(vectors(queries[asked]), excluded).cpu()
        information[torch.from_numpy(rows)] = estimates[torch.from_numpy(place)]
    return information
