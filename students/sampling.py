"""Learning among a sample of the entities: what a softmax over all of them is estimated from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from students.distillation import SoftLabel, segment_log_softmax


@dataclass(frozen=True)
class Sample:
    """The answers of a batch, and entities drawn evenly from the others.

    An entity that was drawn stands for as many as were not: with `w_j` how many, `Σ_j w_j·exp(z_j)`
    over the sample is an unbiased estimate of the sum over all entities. So `log w_j` is added to
    scores and to soft labels alike, and what is learned from a sample is an estimate of what would
    be learned from everybody (importance sampling, Bengio and Senécal 2003; that answers stand for
    themselves is ours). A softmax over a plain sample would learn to score entities that are often
    answers too low, since they are in every sample.

    Attributes:
        entities: int64 `[sampled]`, ascending and distinct.
        log_weights: float32 `[sampled]`, 0 for the answers.
    """

    entities: Tensor
    log_weights: Tensor

    @classmethod
    def draw(
        cls, answers: Tensor, num_entities: int, count: int, generator: torch.Generator
    ) -> Sample:
        """The answers and `count` others, or all others where there are not as many.

        Args:
            answers: int64 `[batch]`; where they are the sample will be.
            num_entities: `E`.
            count: how many are drawn.
            generator: the only source of randomness, on the CPU.
        """
        stands_for = torch.zeros(num_entities)
        stands_for[answers.cpu()] = 1.0
        order = torch.randperm(num_entities, generator=generator)
        others = order[stands_for[order] == 0]
        drawn = others[:count]
        stands_for[drawn] = len(others) / max(len(drawn), 1)
        entities = stands_for.nonzero()[:, 0]
        device = answers.device
        return cls(entities.to(device), stands_for[entities].log().to(device))

    def columns(self, entities: Tensor) -> Tensor:
        """Where some entities of the sample are in it, int64 in the shape of `entities`."""
        return torch.searchsorted(self.entities, entities)

    def label(self, label: SoftLabel) -> SoftLabel:
        """A soft label about columns of the sample in place of entities, weighted as the scores.

        Args:
            label: about listed entities only, all of them in the sample.

        Raises:
            ValueError: it is about all entities.
        """
        if not label.only_listed:
            raise ValueError("a soft label about all entities cannot be learned from a sample")
        columns = self.columns(label.entities)
        log_probs = label.log_probs + self.log_weights[columns]
        return replace(
            label,
            entities=columns,
            log_probs=segment_log_softmax(label.rows, log_probs, len(label)),
            num_entities=len(self.entities),
        )
