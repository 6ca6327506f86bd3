"""A small comparison's settings."""

from typing import Any

import pytest

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
