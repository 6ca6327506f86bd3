"""The divergence of a soft label that is about a few entities only (MulDE's candidates)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from students.distillation import SoftLabel, segment_log_softmax

if TYPE_CHECKING:
    from students.losses import RowLosses


class Within:
    """`KL(q ‖ softmax(z_C/τ))` over the listed entities `C` of each row (methods.md §4).

    One part of NDKD alone: what student and label say of all of `C`, and of the rest, is left out,
    so `α`, `β` and the neighbors have no say. Its gradient touches `C` and nothing else.

    Attributes:
        rest_scale: factor on the student's probabilities in the gradient: 0.
        rest_constant: what the gradient of every entity that is not listed loses, `[rows]`: 0.
    """

    rest_scale: float = 0.0

    def __init__(self, losses: RowLosses, label: SoftLabel) -> None:
        self.label = label
        listed = losses.listed(label.rows, label.entities) / losses.config.temperature
        log_student = segment_log_softmax(label.rows, listed, len(label))
        probabilities = label.log_probs.exp()
        gaps = probabilities * (label.log_probs - log_student)
        self.rest_constant = torch.zeros_like(label.log_tail)
        self.divergence = self.rest_constant.index_add(0, label.rows, gaps)
        self._slope = log_student.exp() - probabilities

    def corrections(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The whole gradient, as (queries, entities, values)."""
        yield self.label.rows, self.label.entities, self._slope
