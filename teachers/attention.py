"""Attention distillation: a teacher that learns a new task must not forget where it looked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from graphs.numbers import is_number
from students.forward import Forward
from students.hooks import StepHook
from students.training import Trainer
from teachers.fused import Fused

FORMS = ("asymmetric", "symmetric")


def attention_loss(
    old: Tensor, new: Tensor, form: Literal["asymmetric", "symmetric"] = "asymmetric"
) -> Tensor:
    """How much attention has moved, a number.

    `asymmetric`: `mean_e Σ_m ReLU(A_old − A_new)²`, so that only attention that was lost is
    penalised; `symmetric`, the ablation: `mean_e Σ_m (A_old − A_new)²`. MSPT (methods.md §6): the
    ReLU of the difference is exact, the square is ours. Their code L2-normalises the difference,
    whose size then says nothing. Without the square the two forms would be one: rows of attention
    sum to one, so what some parts lose the others gain, and `Σ ReLU(A_old − A_new)` is half of
    `Σ |A_old − A_new|`. With it they still are (a half, exactly) for entities with two parts, and
    differ from three on: symmetric also asks that what was lost be spread over the others.

    Args:
        old: `[entities, parts]`, of the model before.
        new: `[entities, parts]`, of the model that learns.
        form: see above.
    """
    moved = old - new
    if form == "asymmetric":
        moved = moved.relu()
    return moved.square().sum(dim=1).mean()


@dataclass(frozen=True)
class AttentionKeeping:
    """How strongly a teacher is held to where it looked before.

    Attributes:
        form: see `attention_loss`.
        weight: of the loss, beside the cross-entropy (MSPT: 1 or 0.1).
    """

    form: Literal["asymmetric", "symmetric"] = "asymmetric"
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values outside their domain."""
        if self.form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, got {self.form!r}")
        if not (is_number(self.weight) and self.weight >= 0):
            raise ValueError(f"weight must be a number ≥ 0, got {self.weight!r}")


class AttentionDistillation(StepHook):
    """Adds `attention_loss` over the entities of each batch that existed before.

    Args:
        previous: the teacher as it was when the task before ended.
        keeping: form and weight.
    """

    def __init__(self, previous: Fused, keeping: AttentionKeeping) -> None:
        self.keeping = keeping
        self.old = previous.gates().detach()

    def before_step(self, trainer: Trainer, forward: Forward) -> None:
        """Add the loss's gradient to the one that is there."""
        scorer = trainer.scorer
        assert isinstance(scorer, Fused)  # noqa: S101 - it has a predecessor with gates
        entities = torch.unique(torch.cat([forward.entities, forward.answers]))
        entities = entities[entities < len(self.old)]
        if len(entities):
            new = scorer.gates(entities)
            loss = attention_loss(self.old[entities], new, self.keeping.form)
            (self.keeping.weight * loss).backward()  # type: ignore[no-untyped-call]
