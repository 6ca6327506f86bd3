"""A trial in a worker that is killed; apart from the tests, whose imports take a worker long."""

from pathlib import Path
from typing import Any

import agents.comparison
from agents.trial_config import TrialConfig
from tests.agents.calls import die_once

VICTIM = ("ppo", 101)


def killed_once(trial: TrialConfig, folder: Path) -> dict[str, Any] | str:
    """A trial; the victim's process is killed after its first epoch, once."""
    comparison: Any = agents.comparison
    tell = comparison.tell_progress

    def tell_and_die() -> None:
        tell()
        if (trial.agent, trial.seed) == VICTIM:
            die_once(folder.parents[2] / "killed", None)

    comparison.tell_progress = tell_and_die
    try:
        return agents.comparison._run_in_worker(trial, folder)
    finally:
        comparison.tell_progress = tell
