"""What the teachers said about every training query, kept small and read fast.

Per query the store lists the union of the teachers' top-K entities and the answer, *every*
teacher's log-probability on that union, each teacher's tail mass, and features for the selector's
state. Distillation then costs a gather of a few hundred numbers per query instead of a product
with each teacher's entity table, and memory is independent of the number of entities.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphs.csr import IntArray
from students.distillation import Candidates, SoftLabel, distribution_normaliser, find

Combination = Literal["log_probs", "probs", "per_teacher"]
COMBINATIONS: tuple[str, ...] = ("log_probs", "probs", "per_teacher")

FEATURES = ("log_p_answer", "log_rank", "entropy", "max_log_p", "margin", "neighbor_mass")


@dataclass(frozen=True)
class Opinions:
    """What all teachers said about a batch of queries.

    Attributes:
        rows: int64 `[listed]`, ascending; the row of each listed entity.
        entities: int64 `[listed]`, ascending within a row.
        log_probs: float32 `[listed, teachers]`.
        log_tail: float32 `[batch, teachers]`, log-probability of *each* entity not listed.
        num_entities: `E`.
    """

    rows: Tensor
    entities: Tensor
    log_probs: Tensor
    log_tail: Tensor
    num_entities: int

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.log_tail)

    def soft_labels(
        self, weights: Tensor, combination: Combination = "log_probs"
    ) -> list[SoftLabel]:
        """Soft labels of the chosen teachers (methods.md §1.2, reconstruction).

        Args:
            weights: float32 `[batch, teachers]`, from 0 to 1; a mask is the special case of 0
                and 1. Proportions say who is heard how much, and the largest one how strongly
                the row is taught: a row of zeros is not taught, a mask with all its strength.
            combination: `log_probs`, the renormalised weighted mean of log-probabilities;
                `probs`, the weighted mean of probabilities; `per_teacher`, one label per
                teacher, whose divergences are summed with the weights (RL-KD's form).

        Returns:
            One label, or one per teacher.
        """
        strength = weights.amax(dim=1)
        taught = strength > 0
        shares = weights / weights.sum(dim=1).clamp_min(1e-12)[:, None]
        if combination == "per_teacher":
            return [
                self._label(self.log_probs[:, k], self.log_tail[:, k], strength * shares[:, k])
                for k in range(weights.shape[1])
            ]
        row_shares = shares.index_select(0, self.rows)
        if combination == "log_probs":
            log_probs = torch.einsum("ij,ij->i", row_shares, self.log_probs)
            log_tail = (shares * self.log_tail).sum(1)
        else:
            log_probs = torch.logsumexp(self.log_probs + row_shares.log(), dim=1)
            log_tail = torch.logsumexp(self.log_tail + shares.log(), dim=1)
        # Untaught rows have no distribution; any finite one keeps the arithmetic clean.
        log_probs = torch.where(taught.index_select(0, self.rows), log_probs, 0.0)
        log_tail = torch.where(taught, log_tail, 0.0)
        return [self._label(log_probs, log_tail, strength)]

    def among(self, candidates: Candidates) -> Tensor:
        """Every teacher's log-probabilities of some entities, float32 `[candidates, teachers]`.

        An entity that the store does not list for a query has each teacher's mean over those that
        it does not list (`log_tail`).

        Args:
            candidates: entities of the batch's rows.
        """
        log_probs = self.log_tail.index_select(0, candidates.rows)
        if not len(self.rows):
            return log_probs
        lists = Candidates(self.rows, self.entities)
        places, listed = find(lists, candidates, self.num_entities)
        return torch.where(listed[:, None], self.log_probs[places], log_probs)

    def _label(self, log_probs: Tensor, log_tail: Tensor, weight: Tensor) -> SoftLabel:
        """A label that sums to one, which means do not, nor values stored in half precision."""
        label = SoftLabel(self.rows, self.entities, log_probs, log_tail, weight, self.num_entities)
        normaliser = distribution_normaliser(self.rows, log_probs, log_tail, label.tail_sizes())
        return SoftLabel(
            self.rows,
            self.entities,
            log_probs - normaliser.index_select(0, self.rows),
            log_tail - normaliser,
            weight,
            self.num_entities,
        )


@dataclass(frozen=True)
class TeacherStore:
    """Opinions and state features for every training query, in the order of `queries("train")`.

    Attributes:
        teachers: names, the order of every teacher axis.
        starts: int64 `[queries]`, where each query's list begins in `entities` and `log_probs`.
            Lists are in the order in which they were asked for, whatever that was.
        counts: int64 `[queries]`, length of each query's list.
        entities: int32 `[listed]`, ascending and distinct within a list.
        log_probs: float16 `[listed, teachers]`.
        log_tail: float32 `[queries, teachers]`, log-probability of each entity not listed.
        tail_mass: float32 `[queries, teachers]`, the mass on the entities not listed: what the
            uniform tail may get wrong.
        features: float32 `[queries, teachers, len(FEATURES)]`.
        num_entities: `E`.
        information_names: columns of `information`, as `fused_information_student`; none unless a
            teacher was co-trained.
        information: float32 `[queries, len(information_names)]`, Î(T;S) and Î(T;A) in nats
            (`teachers.information`).
    """

    teachers: tuple[str, ...]
    starts: IntArray
    counts: IntArray
    entities: NDArray[np.int32]
    log_probs: NDArray[np.float16]
    log_tail: NDArray[np.float32]
    tail_mass: NDArray[np.float32]
    features: NDArray[np.float32]
    num_entities: int
    information_names: tuple[str, ...] = ()
    information: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def __post_init__(self) -> None:
        """Give every query its row, also where there is nothing to say.

        Raises:
            ValueError: the information has another shape than the queries and the names.
        """
        wanted = (len(self), len(self.information_names))
        if not self.information_names:
            object.__setattr__(self, "information", np.zeros(wanted, dtype=np.float32))
        if self.information.shape != wanted:
            raise ValueError(f"information must be {wanted}, got {self.information.shape}")

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.log_tail)

    def opinions(self, queries: IntArray, device: torch.device | None = None) -> Opinions:
        """What the teachers said about `queries` (int64 `[batch]`, positions in the store)."""
        counts = self.counts[queries]
        rows = np.repeat(np.arange(len(queries)), counts)
        places = (self.starts[queries] - (np.cumsum(counts) - counts)).take(rows)
        places += np.arange(len(places))
        return Opinions(
            torch.from_numpy(rows).to(device),
            torch.from_numpy(self.entities.take(places)).to(device, torch.int64),
            torch.from_numpy(self.log_probs.take(places, axis=0)).to(device, torch.float32),
            torch.from_numpy(self.log_tail[queries]).to(device),
            self.num_entities,
        )
