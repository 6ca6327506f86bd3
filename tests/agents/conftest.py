"""A small comparison's settings, a small environment, and dense answers to check by."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import dsom_env as _registration  # noqa: F401
from agents.trial import run_trial
from agents.trial_config import TrialConfig
from dsom_env.classroom import Classroom
from graphs import MultimodalGraph, Queries

SMALL = "planted:entities=160,relations=4,blocks=2,tails_per_head=3"


@pytest.fixture(scope="session")
def small_trial() -> dict[str, Any]:
    """Arguments of a trial of a second or less."""
    return {
        "dataset": SMALL,
        "epochs": 2,
        "batch": 64,
        "environment": {"rank": 8, "teacher_rank": 8},
    }


def make_env(**kwargs: Any) -> Any:
    """A vector environment whose student has had five lessons from everybody."""
    arguments: dict[str, Any] = {"dataset": SMALL, "rank": 8, "teacher_rank": 8, "reward": "gate"}
    arguments |= {"judged_folds": None}
    made = gym.make_vec("DSoM-v0", num_envs=64, **(arguments | kwargs))
    made.reset(seed=0)
    for _ in range(5):
        made.step(made.action_space.sample() * 0 + 1)
    return made.unwrapped


def dense_filtered(
    store: Any,
    rows: np.ndarray,
    queries: Queries,
    graph: MultimodalGraph,
    mask: np.ndarray,
    tempering: float = 1.0,
) -> np.ndarray:
    """Filtered log-probability of the answers under the tempered mean of dense logarithms."""
    opinions = store.opinions(rows)
    dense = opinions.log_probs.reshape(len(rows), graph.num_entities, -1).double()
    logits = dense[:, :, mask.astype(bool)].mean(2) / tempering
    known = set(map(tuple, graph.triples["train"].tolist()))
    half = graph.num_relations
    values = []
    for row, (e, r, a) in enumerate(
        zip(queries.entities, queries.relations, queries.answers, strict=True)
    ):
        kept = [
            t
            for t in range(graph.num_entities)
            if t == a or ((e, r, t) if r < half else (t, r - half, e)) not in known
        ]
        values.append(float(logits[row][kept].log_softmax(0)[kept.index(a)]))
    return np.array(values)


def assert_alike_in_class(trials: list[TrialConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    """All trials see the same initial student and the same queries in the same order."""
    seen: dict[str, list[Any]] = {}
    original = Classroom.teach

    def spy(self: Classroom, lesson: Any, labels: Any) -> Any:
        trace = seen.setdefault(current, [])
        if not trace:
            trace.append([p.detach().clone() for p in self.trainer.scorer.parameters()])
        trace.append(lesson.rows.copy())
        return original(self, lesson, labels)

    monkeypatch.setattr(Classroom, "teach", spy)
    for trial in trials:
        current = trial.agent
        run_trial(trial)
    reference = seen.pop(trials[0].agent)
    assert len(seen) == len(trials) - 1
    for agent, trace in seen.items():
        for one, other in zip(reference[0], trace[0], strict=True):
            assert torch.equal(one, other), agent
        np.testing.assert_array_equal(np.stack(reference[1:]), np.stack(trace[1:]), agent)
