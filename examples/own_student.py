"""Your own student: one class and one line.

    python examples/own_student.py

A student is a `Scorer`, made from `(num_entities, num_relations, rank, generator=...)`. This one is
ComplEx that starts from larger values. One with tables of its own also says whose their rows are
(`row_owners`), if it is to grow with a graph (docs/mspt.md). Prints what it answers after being
taught by all teachers, beside the ComplEx that ships.
"""

from __future__ import annotations

from typing import Any

import torch

from agents.trial import run_trial
from agents.trial_config import TrialConfig
from students.complex import ComplEx
from students.registry import STUDENTS


class WarmComplEx(ComplEx):
    """ComplEx that starts from larger values."""

    def __init__(
        self, num_entities: int, num_relations: int, rank: int, *, generator: torch.Generator
    ) -> None:
        super().__init__(num_entities, num_relations, rank, generator=generator, init_scale=0.1)


STUDENTS["warm-complex"] = WarmComplEx


def main(
    dataset: str = "emoji", epochs: int = 6, batch: int = 512, **settings: Any
) -> dict[str, Any]:
    """Train two students, print and return their results; `settings` are of the environment."""
    results = {}
    for student in ("complex", "warm-complex"):
        named = {**settings, "student": student}
        trial = TrialConfig("all", 0, dataset, None, epochs, batch, named)
        results[student] = run_trial(trial)
        first = results[student]["curves"]["valid_mrr"][0]
        print(
            f"{student:>12}: valid MRR {first:.4f} after the first epoch, "
            f"test MRR {results[student]['test']['mrr']:.4f}"
        )
    return results


if __name__ == "__main__":
    main()
