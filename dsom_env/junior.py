"""MulDE's Junior: which entities the student asks its teachers about."""

from __future__ import annotations

import torch

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
        forward: the batch as the student scores it now; its logits are kept for the update.
        top: `K`, at most all entities count.
        others: random entities of each query.
        generator: the only source of randomness.
    """
    batch, width = len(forward), len(forward.table)
    parts = [forward.answers.cpu()[:, None]]
    if top:
        best = best_columns(forward.logits.cpu().numpy(), min(top, width))
        parts.append(torch.from_numpy(best.copy())[forward.row_of.cpu()])
    if others:
        parts.append(torch.randint(width, (batch, others), generator=generator))
    entities = torch.cat(parts, dim=1).sort(dim=1).values
    distinct = torch.ones_like(entities, dtype=torch.bool)
    distinct[:, 1:] = entities[:, 1:] != entities[:, :-1]
    rows = torch.arange(batch).repeat_interleave(distinct.sum(1))
    device = forward.answers.device
    return Candidates(rows.to(device), entities[distinct].to(device))
