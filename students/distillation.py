"""Soft labels and the decoupled distillation loss NDKD (methods.md §1.1, reconstruction).

A soft label lists the probabilities of a few entities per query and spreads the rest evenly, so
no function here touches an array `[batch, entities]` but through `read_logits`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from graphs.csr import IntArray
from students.logits import LogitReadings, read_logits


@dataclass(frozen=True)
class SoftLabel:
    """A distribution over all entities for each row of a batch, listed where it matters.

    Attributes:
        rows: int64 `[listed]`, ascending; the row of each listed entity.
        entities: int64 `[listed]`, ascending and distinct within a row.
        log_probs: float32 `[listed]`, log-probability of each listed entity.
        log_tail: float32 `[batch]`, log-probability of *each* entity that is not listed.
        weight: float32 `[batch]`, how strongly a row is taught beside `γ`; rows of weight 0 learn
            from the hard label alone.
        num_entities: `E`.
    """

    rows: Tensor
    entities: Tensor
    log_probs: Tensor
    log_tail: Tensor
    weight: Tensor
    num_entities: int

    def __len__(self) -> int:
        """Number of rows of the batch."""
        return len(self.log_tail)

    def tail_sizes(self) -> Tensor:
        """How many entities each row does not list, float32 `[batch]`."""
        listed = torch.bincount(self.rows, minlength=len(self))
        return (self.num_entities - listed).to(self.log_tail.dtype)

    def tempered(self, temperature: float) -> SoftLabel:
        """The distribution `p^(1/τ)`, renormalised."""
        if temperature == 1.0:
            return self
        log_probs, log_tail = self.log_probs / temperature, self.log_tail / temperature
        normaliser = distribution_normaliser(self.rows, log_probs, log_tail, self.tail_sizes())
        return SoftLabel(
            self.rows,
            self.entities,
            log_probs - normaliser[self.rows],
            log_tail - normaliser,
            self.weight,
            self.num_entities,
        )

    def dense(self) -> Tensor:
        """The whole distribution, `[batch, entities]`; for tests and for rendering."""
        probabilities = self.log_tail.exp()[:, None].repeat(1, self.num_entities)
        probabilities[self.rows, self.entities] = self.log_probs.exp()
        return probabilities

    @classmethod
    def uniform(cls, batch: int, num_entities: int, device: torch.device) -> SoftLabel:
        """Every entity equally likely: the control for mere regularisation (`smooth`)."""
        empty = torch.zeros(0, dtype=torch.int64, device=device)
        tail = torch.full((batch,), -float(torch.log(torch.tensor(float(num_entities)))))
        weight = torch.ones(batch, device=device)
        none = torch.zeros(0, device=device)
        return cls(empty, empty, none, tail.to(device), weight, num_entities)


def segment_logsumexp(rows: Tensor, values: Tensor, batch: int) -> Tensor:
    """`logsumexp` of the `values` `[n]` of each row; `-inf` for rows without any, `[batch]`."""
    highest = torch.full((batch,), -torch.inf, dtype=values.dtype, device=values.device)
    highest.scatter_reduce_(0, rows, values.detach(), "amax")
    base = torch.where(highest.isfinite(), highest, 0.0)
    sums = torch.zeros(batch, dtype=values.dtype, device=values.device)
    sums = sums.index_add(0, rows, (values - base[rows]).exp())
    return torch.where(sums > 0, sums.clamp_min(torch.finfo(sums.dtype).tiny).log() + base, highest)


def distribution_normaliser(
    rows: Tensor, log_probs: Tensor, log_tail: Tensor, tail_sizes: Tensor
) -> Tensor:
    """Log of the total mass of unnormalised listed and tail log-probabilities, `[batch]`."""
    listed = segment_logsumexp(rows, log_probs, len(log_tail))
    tail = torch.where(tail_sizes > 0, log_tail + tail_sizes.clamp_min(1).log(), -torch.inf)
    return torch.logaddexp(listed, tail)


@dataclass(frozen=True)
class DistillationConfig:
    """The switches of NDKD.

    Attributes:
        gamma: weight of the distillation term beside the cross-entropy.
        alpha: weight of the divergence inside the neighbors; `mass` is the teacher's own mass
            there, with which (and `beta="mass"`) NDKD is plain KD.
        beta: the same for the non-neighbors.
        temperature: `τ`.
        neighbors: `one_hop`, the training neighbors of the entity by any relation; or
            `same_relation`, the known training answers of the query; or `answer`, as in DKD.
            The answer always counts as a neighbor.
        partition: `two_way`, or `three_way` with the answer apart.
        beta_warmup: epochs over which `beta` grows linearly from 0.
    """

    gamma: float = 1.0
    alpha: float | Literal["mass"] = "mass"
    beta: float | Literal["mass"] = "mass"
    temperature: float = 2.0
    neighbors: Literal["one_hop", "same_relation", "answer"] = "one_hop"
    partition: Literal["two_way", "three_way"] = "two_way"
    beta_warmup: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values outside their domain."""
        for name, value in (("alpha", self.alpha), ("beta", self.beta)):
            if value != "mass" and (isinstance(value, str) or value < 0):
                raise ValueError(f"{name} must be a number ≥ 0 or 'mass', got {value!r}")
        if self.gamma < 0 or self.beta_warmup < 0:
            raise ValueError("gamma and beta_warmup must be ≥ 0")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature!r}")
        choices: dict[str, tuple[str, ...]] = {
            "neighbors": ("one_hop", "same_relation", "answer"),
            "partition": ("two_way", "three_way"),
        }
        for name, valid in choices.items():
            if getattr(self, name) not in valid:
                raise ValueError(
                    f"{name} must be one of {', '.join(valid)}, got {getattr(self, name)!r}"
                )


@dataclass(frozen=True)
class Listing:
    """The entities of a batch that losses look at one by one: a soft label's and the neighbors.

    Attributes:
        rows: int64 `[listed]`, ascending.
        entities: int64 `[listed]`, ascending and distinct within a row.
        log_probs: float32 `[listed]`, the soft label's log-probability of each.
        neighbor: bool `[listed]`, whether it is a neighbor (the answer always is).
        answer: bool `[listed]`, whether it is the answer.
    """

    rows: Tensor
    entities: Tensor
    log_probs: Tensor
    neighbor: Tensor
    answer: Tensor


def list_entities(
    label: SoftLabel, neighbors: tuple[IntArray, IntArray], answers: Tensor
) -> Listing:
    """Merge a soft label's entities, the neighbors and the answers of a batch.

    Args:
        label: soft label of the batch.
        neighbors: (positions, entities) of the neighbors, as `CSR.gather` gives them.
        answers: int64 `[batch]`.
    """
    device, batch, width = answers.device, len(answers), label.num_entities
    answer_keys = torch.arange(batch, device=device) * width + answers
    near = torch.from_numpy(neighbors[0] * width + neighbors[1]).to(device)
    label_keys = label.rows * width + label.entities
    # One flag per (row, entity) merges and sorts in linear time; the logits are as large anyway.
    listed = torch.zeros(batch * width, dtype=torch.bool, device=device)
    for part in (label_keys, near, answer_keys):
        listed[part] = True
    keys = listed.nonzero()[:, 0]
    positions = torch.empty(batch * width, dtype=torch.int64, device=device)
    positions[keys] = torch.arange(len(keys), device=device)
    rows = torch.div(keys, width, rounding_mode="floor")
    log_probs = label.log_tail[rows]
    log_probs[positions[label_keys]] = label.log_probs
    neighbor = torch.zeros_like(keys, dtype=torch.bool)
    neighbor[positions[near]] = True
    answer = torch.zeros_like(neighbor)
    answer[positions[answer_keys]] = True
    return Listing(rows, keys - rows * width, log_probs, neighbor | answer, answer)


def ndkd(
    readings: LogitReadings,
    listing: Listing,
    label: SoftLabel,
    config: DistillationConfig,
    beta_scale: float = 1.0,
) -> Tensor:
    """Neighbor-decoupled divergence of the student from a (tempered) soft label, `[batch]`.

    `τ²·[KL(b^T‖b^S) + α·KL(p̂^T_N‖p̂^S_N) + β·KL(p̂^T_N̄‖p̂^S_N̄)]`, with `b` the masses of the parts.
    Source: methods.md §1.1, reconstruction; with α = b^T_N and β = b^T_N̄ it is exactly
    `τ²·KL(p^T‖p^S)`, with N = {t} it is DKD (exact).

    Args:
        readings: of the student's logits at `listing`, with the neighbors excluded from
            `log_rest`, at temperature `τ`.
        listing: the entities that either side lists.
        label: the soft label at temperature `τ`.
        config: switches.
        beta_scale: factor on β (its warm-up).
    """
    batch, temperature = len(label), config.temperature
    student = readings.listed / temperature

    def mass(where: Tensor, log_values: Tensor) -> Tensor:
        return segment_logsumexp(listing.rows[where], log_values[where], batch)

    def inside(where: Tensor, log_teacher: Tensor, log_student: Tensor) -> Tensor:
        """KL within a part whose entities are all listed."""
        rows = listing.rows[where]
        teacher_part = listing.log_probs[where] - log_teacher[rows]
        gaps = teacher_part.exp() * (teacher_part - student[where] + log_student[rows])
        return gaps.new_zeros(batch).index_add(0, rows, gaps)

    near = listing.neighbor & ~listing.answer if config.partition == "three_way" else None
    parts = [listing.neighbor] if near is None else [listing.answer, near]
    teacher_parts = [mass(part, listing.log_probs) for part in parts]
    student_parts = [mass(part, student) for part in parts]

    rest = ~listing.neighbor
    tail_sizes = label.num_entities - torch.bincount(listing.rows, minlength=batch)
    tail_sizes = tail_sizes.to(label.log_tail.dtype)
    log_rest_teacher = distribution_normaliser(
        listing.rows[rest], listing.log_probs[rest], label.log_tail, tail_sizes
    )
    teacher = torch.stack([*teacher_parts, log_rest_teacher])
    apart = torch.stack([*student_parts, readings.log_rest])
    apart = apart - torch.logsumexp(apart, dim=0)
    # A part without entities has mass zero on both sides and takes no part.
    between = (teacher.exp() * (teacher - apart).nan_to_num(0.0, 0.0, 0.0)).sum(0)

    within_near = inside(parts[-1], teacher_parts[-1], student_parts[-1])
    listed_rest = torch.zeros_like(readings.total).index_add(
        0, listing.rows[rest], readings.listed[rest]
    )
    near_total = torch.zeros_like(readings.total).index_add(
        0, listing.rows[~rest], readings.listed[~rest]
    )
    tail_logits = (readings.total - listed_rest - near_total) / temperature
    has_rest = log_rest_teacher.isfinite() & readings.log_rest.isfinite()
    log_rest_student = torch.where(has_rest, readings.log_rest, 0.0)
    log_rest_teacher = torch.where(has_rest, log_rest_teacher, 0.0)
    tail = label.log_tail - log_rest_teacher
    tail_gap = tail_sizes * (tail + log_rest_student) - tail_logits
    # The tail's entities are all equally likely to the teacher: their sum needs no list.
    within_rest = inside(rest, log_rest_teacher, log_rest_student)
    within_rest = within_rest + torch.where(tail_sizes > 0, tail.exp() * tail_gap, 0.0)
    within_rest = torch.where(has_rest, within_rest, 0.0)

    alpha = teacher_parts[-1].exp() if config.alpha == "mass" else config.alpha
    beta = (
        torch.where(has_rest, log_rest_teacher.exp(), 0.0) if config.beta == "mass" else config.beta
    )
    return temperature**2 * (between + alpha * within_near + beta_scale * beta * within_rest)


def distillation_loss(
    logits: Tensor,
    answers: Tensor,
    labels: Sequence[SoftLabel],
    neighbors: tuple[IntArray, IntArray],
    config: DistillationConfig,
    beta_scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and weighted NDKD of each row.

    Args:
        logits: student's, `[batch, entities]`.
        answers: int64 `[batch]`.
        labels: soft labels whose weighted divergences are summed (one per teacher in RL-KD's
            form); none for hard labels only.
        neighbors: as for `list_entities`.
        config: switches of NDKD.
        beta_scale: factor on β (its warm-up).

    Returns:
        `(cross_entropy, divergence)`, float `[batch]` each; the divergence is 0 where a row is
        not taught.
    """
    rows = torch.arange(len(answers), device=answers.device)
    divergence = torch.zeros_like(logits[:, 0])
    cross_entropy = None
    for label in labels:
        if not bool(label.weight.any()):
            continue
        tempered = label.tempered(config.temperature)
        listing = list_entities(tempered, neighbors, answers)
        readings = read_logits(
            logits, listing.rows, listing.entities, listing.neighbor, config.temperature
        )
        cross_entropy = readings.log_normaliser - readings.listed[listing.answer]
        apart = ndkd(readings, listing, tempered, config, beta_scale)
        divergence = divergence + torch.where(label.weight > 0, label.weight * apart, 0.0)
    if cross_entropy is None:
        readings = read_logits(logits, rows, answers)
        cross_entropy = readings.log_normaliser - readings.listed
    return cross_entropy, divergence
