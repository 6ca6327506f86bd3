"""What scorers answer to a sample of the valid queries, and what an agent would choose for them.

For people to look at (`agents.explorer`): nothing is learned, selected or judged by these answers,
and no test triple is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dsom_env.classroom import Classroom, Lesson, with_gradients
from graphs import MultimodalGraph, Queries
from graphs.csr import IntArray
from graphs.files import atomic_write
from students.evaluation import filtered_ranks
from students.scorer import Scorer

FILE = "answers.json"
FORMAT = 1
SAMPLED = 240
TOP = 5
# Queries scored at a time: their logits are held densely.
_CHUNK = 128

# Preferences `[batch, teachers]` for a lesson in `Classroom.asking`; None where there are none.
WouldChoose = Callable[[Classroom, Lesson], NDArray[np.floating[Any]] | None]


def sample_valid(graph: MultimodalGraph, count: int = SAMPLED) -> Queries:
    """Valid queries to look at, the same for every agent and seed: every relation has its turn.

    Relations, each direction by itself, are dealt one query after the other until there are
    `count`, so that rare ones are not lost; within a relation queries are drawn at random.

    Returns:
        By relation, then entity, then answer.
    """
    queries = graph.queries("valid")
    order = np.random.default_rng(0).permutation(len(queries))
    relations = queries.relations[order]
    by_relation = np.argsort(relations, kind="stable")
    first = np.searchsorted(relations[by_relation], relations)
    turn = np.empty_like(order)
    turn[by_relation] = np.arange(len(order)) - first[by_relation]
    picked = order[np.lexsort((np.arange(len(order)), turn))[:count]]
    sampled = queries[picked]
    return sampled[np.lexsort((sampled.answers, sampled.entities, sampled.relations))]


@torch.no_grad()
def answers_of(scorer: Scorer, graph: MultimodalGraph, queries: Queries) -> dict[str, Any]:
    """Filtered ranks of the answers, and the entities that a scorer puts first.

    Other known answers of train and valid are left out of both, as in evaluation.

    Args:
        scorer: a teacher or a student.
        graph: of the queries.
        queries: of the valid split.

    Returns:
        `ranks`, one per query, and `top`: per query pairs of an entity and its probability among
        the entities that are ranked, in thousandths. JSON types.
    """
    device = next((p.device for p in scorer.parameters()), torch.device("cpu"))
    known = graph.evaluation_filter("valid")
    keys = graph.query_keys(queries.entities, queries.relations)
    ranks, top = [], []
    for start in range(0, len(queries), _CHUNK):
        part = slice(start, start + _CHUNK)
        asked = queries[part]
        scores: Tensor = scorer(
            torch.from_numpy(asked.entities).to(device),
            torch.from_numpy(asked.relations).to(device),
        ).cpu()
        answers = torch.from_numpy(asked.answers)
        ranks += filtered_ranks(scores, keys[part], answers, known).tolist()
        rows, others = known.gather(keys[part])
        beside = others != asked.answers[rows]
        left = scores.clone()
        left[torch.from_numpy(rows[beside]), torch.from_numpy(others[beside])] = -torch.inf
        best = left.softmax(1).topk(min(TOP, left.shape[1]))
        top += [
            # A graph may have fewer entities to rank than are asked for.
            [[e, round(1000 * p)] for e, p in zip(entities, shares, strict=True) if p > 0]
            for entities, shares in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]
    return {"ranks": ranks, "top": top}


@with_gradients
def chosen_for(
    classroom: Classroom, queries: Queries, would_choose: WouldChoose
) -> list[list[float]] | None:
    """Preferences of an agent for queries that are not taught, with the student as it is."""
    asked = classroom.asking(queries)
    found = []
    for start in range(0, len(queries), _CHUNK):
        rows: IntArray = np.arange(start, min(start + _CHUNK, len(queries)))
        preferences = would_choose(asked, asked.lesson(rows))
        if preferences is None:
            return None
        found += np.round(preferences.astype(np.float64), 3).tolist()
    return found


def trial_answers(
    classroom: Classroom, seed: int, best: dict[str, Tensor], would_choose: WouldChoose, kind: str
) -> dict[str, Any]:
    """The record of a trial.

    Args:
        classroom: at the end of training.
        seed: of the trial.
        best: the state of the student that valid selected.
        would_choose: the agent's preferences.
        kind: of the preferences, as in `calibration`.
    """
    graph = classroom.graph
    queries = sample_valid(graph)
    student = classroom.new_student(seed)
    before = answers_of(student, graph, queries)
    student.load_state_dict(best)
    return {
        "seed": seed,
        "teachers": list(classroom.teachers),
        "kind": kind,
        "chosen": chosen_for(classroom, queries, would_choose),
        "before": before,
        "after": answers_of(student, graph, queries),
    }


def write_answers(folder: Path, key: str, record: dict[str, Any]) -> None:
    """Write the record of a trial; `key` is that of its configuration."""
    document = json.dumps({"format": FORMAT, "key": key, **record}, separators=(",", ":"))
    atomic_write(folder / FILE, document.encode())


def read_answers(folder: Path, key: str) -> dict[str, Any] | None:
    """The record of a finished trial; None where none was made, as by versions before there were.

    Args:
        folder: of the trial.
        key: of its configuration; a record of another one is none.
    """
    try:
        document = json.loads((folder / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or (document.get("format"), document.get("key")) != (
        FORMAT,
        key,
    ):
        return None
    return document
