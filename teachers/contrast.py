"""Mutual information by contrast: InfoNCE with in-batch negatives, and the critic that it trains.

Source: van den Oord et al. 2018 for the bound (exact); its use between teacher, student and
auxiliary modalities is AMID's (methods.md §5, reconstruction).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphs.csr import IntArray
from teachers.layers import Dense, unit_size

# Largest factor on a cosine: sharper critics only add noise (CLIP's limit).
_SHARPEST = 100.0


def info_nce(scores: Tensor, excluded: Tensor | None = None) -> Tensor:
    """InfoNCE's estimate of the mutual information, in nats, for each pair of a batch.

    `½·Σ over both directions of [f_ii − ln mean_{j allowed} exp f_ij]`; its mean over the batch
    is the estimate. As the pair itself is among those it is contrasted with, no value exceeds
    `ln N`, so that `N` pairs cannot show more than that. With nothing excluded the mean is a lower
    bound of the information in expectation. With exclusions it is none: negatives then come from
    other answers only, which makes pairs easier to tell apart.

    Args:
        scores: `[n, n]`, the critic's `f` of every left with every right vector; pairs that belong
            together are on the diagonal.
        excluded: bool `[n, n]`, symmetric, pairs that are no negatives of each other (same answer,
            or same class); the diagonal is false. None for none.

    Returns:
        `[n]`; 0 for a pair that is left without negatives.
    """
    count = torch.full_like(scores[0], len(scores))
    if excluded is not None:
        scores = scores.masked_fill(excluded, -torch.inf)
        count = (~excluded).sum(dim=1).to(scores.dtype)
    own = scores.diagonal()
    contrast = (scores.logsumexp(dim=0) + scores.logsumexp(dim=1)) / 2
    return own - contrast + count.log()


def share_an_answer(questions: IntArray, answers: IntArray, count: int) -> Tensor:
    """Which questions have an answer in common, so that they are no negatives of each other.

    Args:
        questions: int64 `[n]`, from 0 to `count - 1`.
        answers: int64 `[n]`, an answer of each.
        count: number of questions.

    Returns:
        Bool `[count, count]`, symmetric, false on the diagonal.
    """
    _, answer, times = np.unique(answers, return_inverse=True, return_counts=True)
    # Answers that occur once are shared by nobody, and they are most of all answers.
    columns = np.cumsum(times > 1) - 1
    shared = times[answer] > 1
    has = torch.zeros(count, int((times > 1).sum()))
    has[torch.from_numpy(questions[shared]), torch.from_numpy(columns[answer[shared]])] = 1.0
    return (has @ has.T > 0).fill_diagonal_(False)


class Critic(nn.Module):
    """Scores pairs by the cosine of their linear images, times a learned sharpness.

    A cosine, so that no side can raise the estimate by growing; that makes the estimate bounded
    and the bound a little less tight.

    Args:
        left: width of the left vectors.
        right: width of the right vectors.
        width: of the space where they are compared.
        temperature: one over the initial sharpness.
        generator: the only source of randomness.
    """

    def __init__(
        self, left: int, right: int, width: int, temperature: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.left = Dense(left, width, generator)
        self.right = Dense(right, width, generator)
        self.log_sharpness = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Scores `[n, n]` of left vectors `[n, left]` with right vectors `[n, right]`."""
        left = F.normalize(self.left(unit_size(left)), dim=1)
        right = F.normalize(self.right(unit_size(right)), dim=1)
        return self.log_sharpness.exp().clamp_max(_SHARPEST) * (left @ right.T)
