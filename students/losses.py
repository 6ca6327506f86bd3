"""Cross-entropy and NDKD of rows of logits, with their gradient written out by hand.

A soft label lists the probabilities of a few entities per query and spreads the rest evenly
(`students.distillation.SoftLabel`), so everything but a handful of passes over the logits is
sparse. Plain autograd would keep several arrays `[rows, entities]` alive and pass over each of
them; on a CPU these passes cost as much as the matrix products around them. Here the logits are
read once, in two exponentials, and the gradient is one array.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphs.csr import IntArray
from students.distillation import (
    Candidates,
    DistillationConfig,
    SoftLabel,
    distribution_normaliser,
    find,
    segment_logsumexp,
)
from students.within import Within

# Below this exponent a probability is nothing beside rounding, but its product with a small weight
# would be a denormal number, and matrix products of denormals are 100 times slower on some
# processors. exp(-60) = 9e-27.
_LOWEST_EXPONENT = -60.0


# (queries, entities, values), `[n]` each: values that a sparse gradient has at these places.
Correction = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Near:
    """The neighbors of a batch, the answers among them, each (row, entity) once.

    Attributes:
        rows: int64 `[near]`, ascending.
        entities: int64 `[near]`.
        answer: bool `[near]`, whether it is the row's answer.
    """

    rows: Tensor
    entities: Tensor
    answer: Tensor

    @classmethod
    def of(cls, neighbors: tuple[IntArray, IntArray], answers: Tensor) -> Near:
        """Add the answers to (positions, entities) of neighbors, as `CSR.gather` gives them."""
        rows = torch.from_numpy(neighbors[0]).to(answers.device)
        entities = torch.from_numpy(neighbors[1]).to(answers.device)
        answer = entities == answers[rows]
        absent = torch.ones(len(answers), dtype=torch.bool, device=answers.device)
        absent[rows[answer]] = False
        # A training query's answer is a neighbor already; only others need sorting in.
        if bool(absent.any()):
            missing = absent.nonzero()[:, 0]
            rows, order = torch.cat([rows, missing]).sort(stable=True)
            entities = torch.cat([entities, answers[missing]])[order]
            answer = entities == answers[rows]
        return cls(rows, entities, answer)


class RowLosses:
    """Losses of a block of rows, and on demand their gradient.

    `cross_entropy` is `−log softmax(z)_t`; `divergence` is the sum over labels of weight·NDKD
    (methods.md §1.1, reconstruction):
    `τ²·[KL(b^T‖b^S) + α·KL(p̂^T_N‖p̂^S_N) + β·KL(p̂^T_N̄‖p̂^S_N̄)]`, with `b` the masses of the parts.
    With α = b^T_N and β = b^T_N̄ it is exactly `τ²·KL(p^T‖p^S)`, and no neighbor is looked at;
    with N = {t} it is DKD (exact). Labels about a few entities only have a divergence of their own,
    see `Within`.

    Training queries with the same entity and relation have the same logits, and share a row of
    them. (The parts of such queries must be the same too: their neighbors, the answers among
    them.)

    Args:
        logits: `[rows, entities]`; left as they are.
        row_of: int64 `[queries]`, ascending; the row of each query's logits.
        answers: int64 `[queries]`.
        labels: soft labels of the queries, at temperature 1.
        neighbors: (positions, entities) of the queries' neighbors; not read where they do not
            matter.
        config: switches of NDKD.
        beta_scale: factor on β (its warm-up).

    Attributes:
        cross_entropy: `[queries]`.
        divergence: `[queries]`; 0 where a query is not taught.
    """

    def __init__(
        self,
        logits: Tensor,
        row_of: Tensor,
        answers: Tensor,
        labels: Sequence[SoftLabel],
        neighbors: tuple[IntArray, IntArray],
        config: DistillationConfig,
        beta_scale: float = 1.0,
    ) -> None:
        self.logits, self.row_of, self.answers, self.config = logits, row_of, answers, config
        own = logits[row_of, answers]
        top = logits.amax(1)
        self.labels = [label for label in labels if bool(label.weight.any())]
        dense = not all(label.only_listed for label in self.labels)
        temperature = config.temperature if dense else 1.0
        # Not normalised: dividing by the row's sum is left to the weights of the gradient.
        self.soft = _exponentials(logits, top, temperature)
        self.soft_sum = self.soft.sum(1)
        if temperature == 1.0:
            self.hard, self.hard_sum = self.soft, self.soft_sum
        else:
            squares = temperature == 2.0
            self.hard = self.soft.square() if squares else _exponentials(logits, top, 1.0)
            self.hard_sum = self.hard.sum(1)
        self.cross_entropy = (self.hard_sum.log() + top)[row_of] - own
        self.divergence = torch.zeros_like(own)
        self._parts: Sequence[_Plain | _Decoupled | Within] = []
        if not self.labels:
            return
        tempered = [label.tempered(config.temperature) for label in self.labels]
        if not dense:
            self._parts = [Within(self, label) for label in tempered]
            self._add_up()
            return
        self.log_normaliser = (self.soft_sum.log() + top / temperature)[row_of]
        total = (logits.sum(1) / temperature)[row_of]
        if config.is_plain and beta_scale == 1.0:
            self._parts = [_Plain(self, label, total) for label in tempered]
        else:
            near = Near.of(neighbors, answers)
            student = _StudentParts(self, near, total)
            self._parts = [_Decoupled(self, label, student, beta_scale) for label in tempered]
        self._add_up()

    def _add_up(self) -> None:
        for part in self._parts:
            weighted = part.label.weight * self.config.temperature**2 * part.divergence
            self.divergence += torch.where(part.label.weight > 0, weighted, 0.0)

    def gradient(self, by_cross_entropy: Tensor, by_divergence: Tensor) -> Tensor:
        """`Σ_i by_cross_entropy_i·∂CE_i/∂z + by_divergence_i·∂divergence_i/∂z`, once only.

        Args:
            by_cross_entropy: `[queries]`.
            by_divergence: `[queries]`.

        Returns:
            `[rows, entities]`; the buffers behind it are used up.
        """
        hard_scale = self._by_row(by_cross_entropy) / self.hard_sum
        if not self._parts:
            gradient = self.hard.mul_(hard_scale[:, None])
        else:
            factor = by_divergence * self.config.temperature
            weights = [factor * part.label.weight for part in self._parts]
            soft_scale = torch.zeros_like(factor)
            constant = torch.zeros_like(factor)
            for part, weight in zip(self._parts, weights, strict=True):
                soft_scale += weight * part.rest_scale
                constant += weight * part.rest_constant
            row_scale = self._by_row(soft_scale) / self.soft_sum
            if self.hard is self.soft:
                gradient = self.soft.mul_((hard_scale + row_scale)[:, None])
            else:
                gradient = self.soft.mul_(row_scale[:, None])
                gradient.addcmul_(self.hard, hard_scale[:, None])
            gradient.sub_(self._by_row(constant)[:, None])
            for part, weight in zip(self._parts, weights, strict=True):
                for queries, entities, values in part.corrections():
                    self._add(gradient, queries, entities, weight.index_select(0, queries) * values)
        queries = torch.arange(len(self.answers), device=self.answers.device)
        self._add(gradient, queries, self.answers, -by_cross_entropy)
        return gradient

    def divergence_along(self, direction: Tensor) -> Tensor:
        """Derivative of each query's divergence along a direction of its logits, `[queries]`.

        Args:
            direction: `[rows, entities]`.
        """
        derivative = torch.zeros_like(self.divergence)
        if not self._parts:
            return derivative
        dense = ((self.soft * direction).sum(1) / self.soft_sum)[self.row_of]
        total = direction.sum(1)[self.row_of]
        for part in self._parts:
            slope = part.rest_scale * dense - part.rest_constant * total
            for queries, entities, values in part.corrections():
                moved = direction[self.row_of[queries], entities] * values
                slope = slope + _sum_rows(queries, moved, len(slope))
            derivative += self.config.temperature * part.label.weight * slope
        return derivative

    def listed(self, queries: Tensor, entities: Tensor) -> Tensor:
        """Logits of (query, entity) pairs, `[n]`."""
        # index_select, here and below: it is two to three times as fast as an index.
        places = self.row_of.index_select(0, queries) * self.logits.shape[1] + entities
        return self.logits.view(-1).index_select(0, places)

    def _add(self, gradient: Tensor, queries: Tensor, entities: Tensor, values: Tensor) -> None:
        """Add values `[n]` at (query, entity) pairs; queries that share a row add up."""
        places = self.row_of.index_select(0, queries) * gradient.shape[1] + entities
        gradient.view(-1).index_add_(0, places, values)

    def _by_row(self, values: Tensor) -> Tensor:
        """Sum of the queries' values over each row, `[rows]`."""
        return _sum_rows(self.row_of, values, len(self.logits))


def _exponentials(logits: Tensor, top: Tensor, temperature: float) -> Tensor:
    """`exp((z − top)/τ)`, floored where nothing but denormal numbers would follow."""
    scaled = torch.add(-top[:, None] / temperature, logits, alpha=1.0 / temperature)
    return scaled.clamp_min_(_LOWEST_EXPONENT).exp_()


def _sum_rows(rows: Tensor, values: Tensor, count: int) -> Tensor:
    """Sum of the values `[n]` of each row, `[count]`."""
    return values.new_zeros(count).index_add_(0, rows, values)


class _Plain:
    """KL of the whole distributions: NDKD with the masses as weights, at temperature `τ`.

    Attributes:
        rest_scale: factor on the student's probabilities in the gradient, `[rows]` or 1.
        rest_constant: what the gradient of every entity that is not listed loses, `[rows]`.
    """

    rest_scale: Tensor | float = 1.0

    def __init__(self, losses: RowLosses, label: SoftLabel, total: Tensor) -> None:
        self.label = label
        count = len(label)
        listed = losses.listed(label.rows, label.entities) / losses.config.temperature
        probabilities = label.log_probs.exp()
        log_student = listed - losses.log_normaliser.index_select(0, label.rows)
        gaps = probabilities * (label.log_probs - log_student)
        sizes = label.tail_sizes()
        tail_total = total - _sum_rows(label.rows, listed, count)
        tail = label.log_tail.exp()
        tail_gap = sizes * (label.log_tail + losses.log_normaliser) - tail_total
        self.divergence = _sum_rows(label.rows, gaps, count)
        self.divergence += torch.where(sizes > 0, tail * tail_gap, 0.0)
        self.rest_constant = tail
        self._excess = probabilities - tail.index_select(0, label.rows)

    def corrections(self) -> Iterator[Correction]:
        """The listed entities, from which the dense part took the tail's probability only."""
        yield self.label.rows, self.label.entities, -self._excess


class _StudentParts:
    """The student's masses of the parts, at temperature `τ`; takes the neighbors out of `soft`."""

    def __init__(self, losses: RowLosses, near: Near, total: Tensor) -> None:
        self.near, self.total = near, total
        count = len(losses.answers)
        self.logits = losses.listed(near.rows, near.entities) / losses.config.temperature
        self.log_probs = self.logits - losses.log_normaliser[near.rows]
        if losses.soft is losses.hard:
            losses.soft = losses.soft.clone()
        losses.soft[losses.row_of[near.rows], near.entities] = 0.0
        # Summed over what is left, not one minus the others: no cancellation near zero.
        rest = losses.soft.sum(1) / losses.soft_sum
        self.rest = rest.clamp_min(torch.finfo(rest.dtype).tiny)[losses.row_of]
        three_way = losses.config.partition == "three_way"
        inner = ~near.answer if three_way else torch.ones_like(near.answer)
        self.parts = [inner, near.answer] if three_way else [inner]
        self.log_masses = [
            segment_logsumexp(near.rows[part], self.log_probs[part], count) for part in self.parts
        ]


class _Decoupled:
    """NDKD proper: masses between the parts, and a weighted KL inside each of two.

    Attributes: those of `_Plain`.
    """

    def __init__(
        self, losses: RowLosses, label: SoftLabel, student: _StudentParts, beta_scale: float
    ) -> None:
        self.label, self.student = label, student
        config, near, count = losses.config, student.near, len(label)
        width = label.num_entities
        hit = torch.zeros_like(near.answer)
        self.log_teacher = label.log_tail[near.rows]
        self.far = torch.ones_like(label.rows, dtype=torch.bool)
        if len(label.rows):
            lists = Candidates(label.rows, label.entities)
            places, hit = find(lists, Candidates(near.rows, near.entities), width)
            self.log_teacher = torch.where(hit, label.log_probs[places], self.log_teacher)
            self.far[places[hit]] = False
        rows = label.rows[self.far]
        log_probs = label.log_probs[self.far]
        sizes = label.tail_sizes() - _sum_rows(near.rows, (~hit).to(label.log_tail.dtype), count)

        # Masses of the parts, and the divergence between them.
        teacher_masses = [
            segment_logsumexp(near.rows[part], self.log_teacher[part], count)
            for part in student.parts
        ]
        log_rest = distribution_normaliser(rows, log_probs, label.log_tail, sizes)
        has_rest = log_rest.isfinite()
        teacher = torch.stack([*teacher_masses, log_rest])
        apart = torch.stack([*student.log_masses, student.rest.log()])
        # A part without entities has mass zero on both sides and takes no part.
        between = (teacher.exp() * (teacher - apart).nan_to_num(0.0, 0.0, 0.0)).sum(0)

        # Inside the neighbors.
        inner = student.parts[0]
        inner_rows = near.rows[inner]
        self.log_inner = self.log_teacher[inner] - teacher_masses[0][inner_rows]
        student_inner = student.log_probs[inner] - student.log_masses[0][inner_rows]
        within_near = _sum_rows(
            inner_rows, self.log_inner.exp() * (self.log_inner - student_inner), count
        )

        # Inside the rest: what is listed one by one, the even tail by its sum.
        log_rest = torch.where(has_rest, log_rest, 0.0)
        to_rest = losses.log_normaliser + student.rest.log()
        listed = losses.listed(rows, label.entities[self.far]) / config.temperature
        self.log_far = log_probs - log_rest[rows]
        gaps = self.log_far.exp() * (self.log_far - listed + to_rest[rows])
        tail = label.log_tail - log_rest
        tail_total = student.total - _sum_rows(rows, listed, count)
        tail_total = tail_total - _sum_rows(near.rows, student.logits, count)
        within_rest = _sum_rows(rows, gaps, count)
        tail_gap = sizes * (tail + to_rest) - tail_total
        within_rest = within_rest + torch.where(sizes > 0, tail.exp() * tail_gap, 0.0)
        within_rest = torch.where(has_rest, within_rest, 0.0)

        mass_near, mass_rest = teacher_masses[0].exp(), torch.where(has_rest, log_rest.exp(), 0.0)
        self.alpha = (
            mass_near if config.alpha == "mass" else torch.full_like(mass_near, config.alpha)
        )
        beta = mass_rest if config.beta == "mass" else torch.full_like(mass_rest, config.beta)
        beta = beta * beta_scale
        self.divergence = between + self.alpha * within_near + beta * within_rest

        # ∂/∂z_j of a part G: p̂^S_j·(b^S_G − b^T_G + w_G) − w_G·p̂^T_j, times τ.
        self.teacher_masses = teacher_masses
        self.rest_scale = torch.where(
            has_rest, (student.rest - mass_rest + beta) / student.rest, 0.0
        )
        self.beta = torch.where(has_rest, beta, 0.0)
        self.rest_constant = torch.where(sizes > 0, self.beta * tail.exp(), 0.0)

    def corrections(self) -> Iterator[Correction]:
        """The listed entities, and the neighbors, which the dense part left out."""
        rows, entities = self.label.rows[self.far], self.label.entities[self.far]
        yield rows, entities, self.rest_constant[rows] - self.beta[rows] * self.log_far.exp()
        near, student = self.student.near, self.student
        for number, part in enumerate(student.parts):
            rows, entities = near.rows[part], near.entities[part]
            mass = student.log_masses[number].exp()
            moved = (mass - self.teacher_masses[number].exp())[rows]
            if number == 0:
                moved = moved + self.alpha[rows]
            slope = (student.log_probs[part] - student.log_masses[number][rows]).exp() * moved
            if number == 0:
                slope = slope - self.alpha[rows] * self.log_inner.exp()
            yield rows, entities, slope + self.rest_constant[rows]


class _Losses(torch.autograd.Function):
    """`RowLosses` for autograd, whose gradient is computed when it is asked for."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, arguments: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        row_of = torch.arange(len(logits), device=logits.device)
        losses = RowLosses(logits, row_of, *arguments)
        ctx.save_for_backward(logits)
        ctx.arguments = arguments
        return losses.cross_entropy, losses.divergence

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (logits,) = ctx.saved_tensors
        row_of = torch.arange(len(logits), device=logits.device)
        return RowLosses(logits, row_of, *ctx.arguments).gradient(*gradients), None


def distillation_loss(
    logits: Tensor,
    answers: Tensor,
    labels: Sequence[SoftLabel],
    neighbors: tuple[IntArray, IntArray],
    config: DistillationConfig,
    beta_scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and weighted NDKD of each row of logits, differentiable; see `RowLosses`.

    Returns:
        `(cross_entropy, divergence)`, float `[rows]` each; the divergence is 0 where a row is
        not taught.
    """
    arguments = (answers, labels, neighbors, config, beta_scale)
    losses: tuple[Tensor, Tensor] = _Losses.apply(logits, arguments)  # type: ignore[no-untyped-call]
    return losses
