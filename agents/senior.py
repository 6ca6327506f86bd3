"""MulDE's Senior: teachers scaled per relation, and weighted by how far the Junior follows."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from agents.policies import MaskPolicy, Probe
from dsom_env.actions import Choice
from dsom_env.classroom import Classroom, Lesson, Weights, with_gradients
from graphs.numbers import is_number
from students.distillation import Candidates, segment_log_softmax, segment_logsumexp

# Scales `exp ρ` stay between an eighth and eight.
MOST_LOG_SCALE = math.log(8.0)


class Senior(MaskPolicy):
    """The soft label `q = softmax_C(Σ_k ω_k·exp(ρ_rk)·z^k / τ)` of MulDE (methods.md §4).

    Reconstruction. `z^k` are the teachers' logits over the candidates `C` of the query,
    `ρ_rk` is a learned *scaling* of teacher `k` for the relation and direction `r`, and `ω` the
    *contrast attention*, `softmax_k(−λ·KL(softmax(exp(ρ_rk)·z^k) ‖ softmax(z^S)))` over `C`: at
    first the teachers that say what the Junior can already follow, and by `λ`, which falls linearly
    to 0, at last all alike.

    This is a choice of weights and of a sharpness like any other. A product of powers of the
    teachers' probabilities with exponents `w_k = ω_k·exp(ρ_rk)` is their weighted mean of
    log-probabilities, sharpened by `Σ_k w_k`: the weights are `w` over its largest, so that every
    query is taught with all its strength, and `tempering` is `1/Σ_k w_k`. With the combination
    `log_probs` that is `q` exactly, where the store lists all entities (`top_k=None`). Elsewhere an
    entity that no teacher has among its best has their mean over such entities.

    `ρ` learns, batch by batch and after the batch was taught, by Adagrad on the cross-entropy of
    `softmax_C(Σ_k w_k·z^k)` against the answer, with `ω` held fixed. Asked are the teachers as they
    are *judged*: of in-sample answers, which they know by heart, it learns that they may shout, and
    with `judged_folds` what a relation's teacher knows of triples it has not seen.

    `C` is the Junior's (`DSoMConfig.candidates`); without, what the teachers list, and the soft
    label is about all entities.

    Args:
        scaling: whether `ρ` learns, from 0, where all teachers are as sharp as they were trained.
        attention: `λ` at the beginning; 0 weighs all teachers alike.
        decay: share of the student's budget in which `λ` falls to 0.
        scaling_rate: learning rate of `ρ`.

    Raises:
        ValueError: a value outside its domain.
    """

    preference = "weight"

    def __init__(
        self,
        scaling: bool = True,
        attention: float = 1.0,
        decay: float = 1.0,
        scaling_rate: float = 0.05,
    ) -> None:
        if not isinstance(scaling, bool):
            raise ValueError(f"scaling must be true or false, got {scaling!r}")
        if not (is_number(attention) and attention >= 0):
            raise ValueError(f"attention must be a number ≥ 0, got {attention!r}")
        for name, value in (("decay", decay), ("scaling_rate", scaling_rate)):
            if not (is_number(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value!r}")
        self.scaling, self.attention, self.decay = scaling, attention, decay
        self.scaling_rate = scaling_rate

    def prepare(self, classroom: Classroom, probe: Probe) -> None:
        """Begin with equal scales.

        Raises:
            ValueError: a soft label that is no mean of logarithms.
        """
        if classroom.config.combination != "log_probs":
            raise ValueError(
                "senior scales logits: it needs combination='log_probs', got "
                f"{classroom.config.combination!r}"
            )
        shape = (2 * classroom.graph.num_relations, len(classroom.teachers))
        self.log_scales = torch.zeros(shape, requires_grad=True, device=classroom.device)
        self._optimiser = torch.optim.Adagrad([self.log_scales], lr=self.scaling_rate)
        self._taught = 0

    @property
    def sharpness(self) -> float:
        """`λ` now."""
        spent = self._taught / max(self.decay * self.budget, 1)
        return self.attention * max(1.0 - spent, 0.0)

    def masks(self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator) -> Weights:
        """See the class; nothing is learned."""
        return self._choice(self._exponents(lesson)).weights

    @with_gradients
    def decide(self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator) -> Choice:
        """See the class; the scales learn from the batch once it is chosen for."""
        exponents = self._exponents(lesson)
        if self.scaling:
            self._learn(lesson, exponents)
        self._taught += 1
        return self._choice(exponents)

    def _choice(self, exponents: Tensor) -> Choice:
        weights = exponents / exponents.amax(dim=1, keepdim=True)
        return Choice(_array(weights), _array(1 / exponents.sum(dim=1)) if self.scaling else None)

    def _exponents(self, lesson: Lesson) -> Tensor:
        """`ω_k·exp(ρ_rk)`, `[batch, teachers]`, without gradient."""
        scales = self._log_scales_of(lesson).detach().exp()
        count = scales.shape[1]
        attention = torch.full_like(scales, 1.0 / count)
        if self.sharpness:
            divergences = contrast(lesson, scales, candidates_of(lesson))
            attention = (-self.sharpness * divergences).softmax(dim=1)
        return attention * scales

    def _log_scales_of(self, lesson: Lesson) -> Tensor:
        """`ρ` of the queries' relations, `[batch, teachers]`."""
        relations = lesson.forward.relations
        return self.log_scales.clamp(-MOST_LOG_SCALE, MOST_LOG_SCALE)[relations]

    def _learn(self, lesson: Lesson, exponents: Tensor) -> None:
        log_scales = self._log_scales_of(lesson)
        # The attention is what it was: only the scales learn.
        following = exponents * (log_scales - log_scales.detach()).exp()
        loss = mixed_cross_entropy(lesson, following, candidates_of(lesson)).mean()
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()


def candidates_of(lesson: Lesson) -> Candidates:
    """The Junior's candidates; without any, the entities that the store lists."""
    if lesson.candidates is not None:
        return lesson.candidates
    # The answers that judge may list others than those that teach; an answer is in both.
    return Candidates(lesson.judged.rows, lesson.judged.entities)


def contrast(lesson: Lesson, scales: Tensor, candidates: Candidates) -> Tensor:
    """`KL(softmax(scale_k·z^k) ‖ softmax(z^S))` over the candidates, `[batch, teachers]`.

    Args:
        lesson: the batch as the student scores it now, and what the teachers that teach say.
        scales: `[batch, teachers]`, factors on the teachers' logits.
        candidates: of every query at least one.
    """
    rows, entities = candidates
    batch = len(lesson.rows)
    student = segment_log_softmax(rows, lesson.learned.listed(rows, entities), batch)
    said = lesson.opinions.among(candidates) * scales[rows]
    divergences = []
    for column in said.unbind(dim=1):
        column = segment_log_softmax(rows, column, batch)
        gaps = column.exp() * (column - student)
        divergences.append(torch.zeros_like(scales[:, 0]).index_add(0, rows, gaps))
    return torch.stack(divergences, dim=1)


def mixed_cross_entropy(lesson: Lesson, exponents: Tensor, candidates: Candidates) -> Tensor:
    """`−log q_t` of `q = softmax_C(Σ_k w_k·z^k)`, by the answers that judge, `[batch]`.

    Args:
        lesson: the batch.
        exponents: `w`, `[batch, teachers]`; the result is differentiable in it.
        candidates: of every query, with its answer.
    """
    rows, entities = candidates
    mixed = (lesson.judged.among(candidates) * exponents[rows]).sum(dim=1)
    own = mixed[entities == lesson.forward.answers[rows]]
    return segment_logsumexp(rows, mixed, len(lesson.rows)) - own


def _array(values: Tensor) -> Weights:
    array: Weights = values.cpu().numpy().astype(np.float32)
    return array
