"""What losses need to know about rows of logits, read in one pass and differentiated in one."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class LogitReadings(NamedTuple):
    """Differentiable readings of logits `z` `[batch, entities]`.

    Attributes:
        log_normaliser: `logsumexp(z)`, `[batch]`.
        log_rest: `logsumexp(z/τ)` over the entities that are not excluded, `[batch]`.
        total: sum of `z` over all entities, `[batch]`.
        listed: `z` at the listed (row, entity) pairs, `[listed]`.
    """

    log_normaliser: Tensor
    log_rest: Tensor
    total: Tensor
    listed: Tensor


class _ReadLogits(torch.autograd.Function):
    """All readings share one gradient buffer `[batch, entities]`.

    Plain autograd would keep several buffers of that size alive and pass over each of them; on a
    CPU these passes cost as much as the matrix products around them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        rows: Tensor,
        entities: Tensor,
        excluded: Tensor,
        temperature: float,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        log_normaliser = torch.logsumexp(logits, dim=1)
        positions = rows * logits.shape[1] + entities
        listed = logits.reshape(-1)[positions]
        tempered = logits / temperature
        tempered.view(-1)[positions[excluded]] = -torch.inf
        log_rest = torch.logsumexp(tempered, dim=1)
        ctx.save_for_backward(logits, positions, excluded, log_normaliser, log_rest)
        ctx.temperature = temperature
        return log_normaliser, log_rest, logits.sum(dim=1), listed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        logits, positions, excluded, log_normaliser, log_rest = ctx.saved_tensors
        by_normaliser, by_rest, by_total, by_listed = gradients
        rest = logits.div(ctx.temperature).sub_(log_rest[:, None]).exp_()
        # A row whose every entity is excluded has log_rest = -inf and no gradient through it.
        rest.mul_(torch.where(log_rest.isfinite(), by_rest / ctx.temperature, 0.0)[:, None])
        rest.view(-1)[positions[excluded]] = 0.0
        gradient = (logits - log_normaliser[:, None]).exp_().mul_(by_normaliser[:, None])
        gradient.add_(rest.nan_to_num_(nan=0.0) if not log_rest.isfinite().all() else rest)
        gradient.add_(by_total[:, None])
        gradient.view(-1).index_add_(0, positions, by_listed)
        return gradient, None, None, None, None


def read_logits(
    logits: Tensor,
    rows: Tensor,
    entities: Tensor,
    excluded: Tensor | None = None,
    temperature: float = 1.0,
) -> LogitReadings:
    """Read `logits` `[batch, entities]` at listed places and summarise the rest.

    Args:
        logits: float `[batch, entities]`.
        rows: int64 `[listed]`, the row of each listed entity.
        entities: int64 `[listed]`; a (row, entity) pair is listed at most once.
        excluded: bool `[listed]`: which of them `log_rest` leaves out; none by default.
        temperature: `τ` of `log_rest`.
    """
    if excluded is None:
        excluded = torch.zeros_like(rows, dtype=torch.bool)
    return LogitReadings(*_ReadLogits.apply(logits, rows, entities, excluded, temperature))  # type: ignore[no-untyped-call]
