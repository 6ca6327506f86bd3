"""A small comparison's settings."""

from typing import Any

import numpy as np
import pytest
import torch

from agents.trial import run_trial
from agents.trial_config import TrialConfig
from dsom_env.classroom import Classroom

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
