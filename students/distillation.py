"""Soft labels, and the switches of the decoupled distillation loss NDKD (methods.md §1.1).

A soft label lists the probabilities of a few entities per query and spreads the rest evenly, so
no function here touches an array `[batch, entities]`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from graphs.numbers import is_number


class Candidates(NamedTuple):
    """Some entities for each row of a batch.

    Attributes:
        rows: int64 `[listed]`, ascending.
        entities: int64 `[listed]`, ascending and distinct within a row.
    """

    rows: Tensor
    entities: Tensor


def find(lists: Candidates, wanted: Candidates, num_entities: int) -> tuple[Tensor, Tensor]:
    """Where some entities are in the lists of their rows.

    Args:
        lists: where to look; not empty.
        wanted: what to look for, in any order.
        num_entities: `E`.

    Returns:
        Places in `lists`, int64 `[wanted]`, which mean something where the second, bool
        `[wanted]`, is true.
    """
    listed = lists.rows * num_entities + lists.entities
    keys = wanted.rows * num_entities + wanted.entities
    places = torch.searchsorted(listed, keys).clamp_max(len(listed) - 1)
    return places, listed[places] == keys


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
        only_listed: whether the label is about the listed entities and says nothing of the others
            (`log_tail` is then `-inf`): the student's distribution is renormalised over these too.
    """

    rows: Tensor
    entities: Tensor
    log_probs: Tensor
    log_tail: Tensor
    weight: Tensor
    num_entities: int
    only_listed: bool = False

    def __len__(self) -> int:
        """Number of rows of the batch."""
        return len(self.log_tail)

    def tail_sizes(self) -> Tensor:
        """How many entities each row does not list, float32 `[batch]`."""
        # Rows ascend, so their ends are found without looking at all that is listed.
        edges = torch.arange(len(self) + 1, device=self.rows.device)
        listed = torch.searchsorted(self.rows, edges).diff()
        return (self.num_entities - listed).to(self.log_tail.dtype)

    def tempered(self, temperature: float | Tensor) -> SoftLabel:
        """The distribution `p^(1/τ)`, renormalised.

        Args:
            temperature: `τ` of all rows, or float32 `[batch]`, one for each; a row at 1 stays as it
                is, to the bit.
        """
        of_listed = temperature
        if isinstance(temperature, Tensor):
            of_listed = temperature.index_select(0, self.rows)
        elif temperature == 1.0:
            return self
        log_probs, log_tail = self.log_probs / of_listed, self.log_tail / temperature
        normaliser = distribution_normaliser(self.rows, log_probs, log_tail, self.tail_sizes())
        if isinstance(temperature, Tensor):
            # What sums to one does so but for rounding, which would move a row at 1.
            normaliser = torch.where(temperature == 1.0, 0.0, normaliser)
        return replace(
            self,
            log_probs=log_probs - normaliser.index_select(0, self.rows),
            log_tail=log_tail - normaliser,
        )

    def among(self, candidates: Candidates) -> SoftLabel:
        """The distribution renormalised over some entities of each row, and about no others.

        Args:
            candidates: at least one in every row.
        """
        rows, entities = candidates
        log_probs = self.log_tail.index_select(0, rows)
        if len(self.rows):
            lists = Candidates(self.rows, self.entities)
            places, listed = find(lists, candidates, self.num_entities)
            log_probs = torch.where(listed, self.log_probs[places], log_probs)
        nothing = torch.full_like(self.log_tail, -torch.inf)
        return replace(
            self,
            rows=rows,
            entities=entities,
            log_probs=segment_log_softmax(rows, log_probs, len(self)),
            log_tail=nothing,
            only_listed=True,
        )

    def block(self, start: int, stop: int) -> SoftLabel:
        """The rows from `start` to `stop`."""
        if start == 0 and stop >= len(self):
            return self
        edges = torch.tensor([start, stop], device=self.rows.device)
        first, last = torch.searchsorted(self.rows, edges).tolist()
        return replace(
            self,
            rows=self.rows[first:last] - start,
            entities=self.entities[first:last],
            log_probs=self.log_probs[first:last],
            log_tail=self.log_tail[start:stop],
            weight=self.weight[start:stop],
        )

    def dense(self) -> Tensor:
        """The whole distribution, `[batch, entities]`; for tests and for rendering."""
        probabilities = self.log_tail.exp()[:, None].repeat(1, self.num_entities)
        probabilities[self.rows, self.entities] = self.log_probs.exp()
        return probabilities


def segment_logsumexp(rows: Tensor, values: Tensor, batch: int) -> Tensor:
    """`logsumexp` of the `values` `[n]` of each row; `-inf` for rows without any, `[batch]`."""
    highest = torch.full((batch,), -torch.inf, dtype=values.dtype, device=values.device)
    highest.scatter_reduce_(0, rows, values.detach(), "amax")
    base = torch.where(highest.isfinite(), highest, 0.0)
    sums = torch.zeros(batch, dtype=values.dtype, device=values.device)
    sums = sums.index_add(0, rows, (values - base.index_select(0, rows)).exp())
    return torch.where(sums > 0, sums.clamp_min(torch.finfo(sums.dtype).tiny).log() + base, highest)


def segment_log_softmax(rows: Tensor, values: Tensor, batch: int) -> Tensor:
    """`log_softmax` of the `values` `[n]` of each row, `[n]`."""
    return values - segment_logsumexp(rows, values, batch).index_select(0, rows)


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

    @property
    def is_plain(self) -> bool:
        """Whether both weights are the teacher's masses, so that NDKD is plain KD."""
        return self.alpha == "mass" and self.beta == "mass"

    def __post_init__(self) -> None:
        """Refuse values outside their domain."""
        for name in ("gamma", "beta_warmup", "alpha", "beta"):
            value = getattr(self, name)
            mass = name in ("alpha", "beta")
            if not (mass and value == "mass") and not (is_number(value) and value >= 0):
                wanted = "a number ≥ 0 or 'mass'" if mass else "a number ≥ 0"
                raise ValueError(f"{name} must be {wanted}, got {value!r}")
        if not (is_number(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature must be a positive number, got {self.temperature!r}")
        choices: dict[str, tuple[str, ...]] = {
            "neighbors": ("one_hop", "same_relation", "answer"),
            "partition": ("two_way", "three_way"),
        }
        for name, valid in choices.items():
            if getattr(self, name) not in valid:
                raise ValueError(
                    f"{name} must be one of {', '.join(valid)}, got {getattr(self, name)!r}"
                )
