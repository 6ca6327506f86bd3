"""MulDE's Junior: which entities the student asks its teachers about."""

from __future__ import annotations

import torch
from torch import Tensor

from students.distillation import Candidates
from students.forward import Forward
from teachers.questioning import best_columns


def junior_candidates(
    forward: Forward, top: int, others: int, generator: torch.Generator
) -> Candidates:
    """`topK(z^S) ∪ {t} ∪ random` for every query of a batch (methods.md §4, reconstruction).

    The answer's rivals as the student sees them now, and some that it does not think of. Known
    answers of the query stay in: nobody tells the Junior which these are. Random entities are drawn
    with replacement, so that a query may have fewer of them.

    Args:
        forward: the batch as the student scores it now; its logits are kept for the update. If it
            is about a sample, the candidates are of the sample.
        top: `K`, at most all entities count.
        others: random entities of each query.
        generator: the only source of randomness.
    """
    batch, width = len(forward), len(forward.table)
    parts = [forward.columns.cpu()[:, None]]
    if top:
        best = _best(forward.logits, min(top, width)).cpu()
        parts.append(best[forward.row_of.cpu()])
    if others:
        parts.append(torch.randint(width, (batch, others), generator=generator))
    columns = torch.cat(parts, dim=1).sort(dim=1).values
    distinct = torch.ones_like(columns, dtype=torch.bool)
    distinct[:, 1:] = columns[:, 1:] != columns[:, :-1]
    rows = torch.arange(batch).repeat_interleave(distinct.sum(1))
    device = forward.answers.device
    entities = columns[distinct].to(device)
    if forward.sample is not None:
        entities = forward.sample.entities[entities]
    return Candidates(rows.to(device), entities)


def _best(logits: Tensor, top: int) -> Tensor:
    """The columns of the `top` highest logits of each row, int64 `[rows, top]`, in any order."""
    if logits.device.type == "cpu":
        # Several times as fast as torch is there.
        return torch.from_numpy(best_columns(logits.numpy(), top).copy())
    return logits.topk(top, dim=1, sorted=False).indices
