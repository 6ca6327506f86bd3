"""A batch of queries in front of a scorer: its logits, what is read off them, the way back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from graphs import Queries
from students.devices import elements_at_once
from students.distillation import SoftLabel
from students.sampling import Sample
from students.scorer import Scorer

# Logits of a block of rows: 16 MiB, which stay in a cache between the passes over them.
BLOCK_ELEMENTS = 2**22


class Block(NamedTuple):
    """A range of rows of logits, and the range of queries that look at them."""

    start: int
    stop: int
    first: int
    last: int


class Statistics(NamedTuple):
    """Summaries of rows of logits `z`, `[rows]` each.

    Attributes:
        log_normaliser: `logsumexp(z)`.
        entropy: of `softmax(z)`, in nats.
        total: sum of `z`.
    """

    log_normaliser: Tensor
    entropy: Tensor
    total: Tensor


def _statistics(logits: Tensor) -> Statistics:
    top = logits.amax(1)
    exponentials = (logits - top[:, None]).exp_()
    sums = exponentials.sum(1)
    log_normaliser = sums.log() + top
    mean = exponentials.mul_(logits).sum(1) / sums
    return Statistics(log_normaliser, log_normaliser - mean, logits.sum(1))


class Forward:
    """A batch of queries in front of a scorer, at its present parameters.

    Queries beside each other that ask the same (entity, relation) share a row of logits. The rows
    are computed when somebody looks at them; a training loop that nobody watches computes them
    block by block and never holds them all.

    Args:
        scorer: who answers.
        queries: the batch.
        device: of the scorer.
        share: whether queries may share rows.
        sample: the entities among which it learns; None for all. Its weights are part of the
            logits then.

    Attributes:
        queries: the batch, as arrays.
        entities: int64 `[batch]`, on the scorer's device.
        relations: the same.
        answers: the same.
        columns: int64 `[batch]`, where the answers are among the logits.
        row_of: int64 `[batch]`, ascending; the row of each query's logits.
        firsts: int64 `[rows]`, the first query of each row.
        table: vectors of all entities, or of the sample, without gradient, `[entities, width]`.
        sample: the same.
    """

    def __init__(
        self,
        scorer: Scorer,
        queries: Queries,
        device: torch.device,
        share: bool = True,
        sample: Sample | None = None,
    ) -> None:
        self.scorer, self.queries, self.sample = scorer, queries, sample
        self.entities = torch.from_numpy(queries.entities).to(device)
        self.relations = torch.from_numpy(queries.relations).to(device)
        self.answers = torch.from_numpy(queries.answers).to(device)
        self._source = scorer.entity_vectors()
        vectors = self.table = self._source.detach()
        self.columns = self.answers
        if sample is not None:
            self.table, self.columns = vectors[sample.entities], sample.columns(self.answers)
        entities, relations = queries.entities, queries.relations
        new = (entities[1:] != entities[:-1]) | (relations[1:] != relations[:-1])
        if not share:
            new[:] = True
        self._starts = np.concatenate([[0], np.flatnonzero(new) + 1, [len(queries)]])
        self.row_of = torch.from_numpy(np.cumsum(np.concatenate([[0], new]))).to(device)
        # Only rows that occur as themselves are gathered and differentiated as such: a gradient
        # `[entities, width]` for each lookup would cost as much as the softmax.
        both = torch.cat([self.entities, self.answers])
        self._used, places = torch.unique(both, return_inverse=True)
        self._rows = vectors[self._used]
        if torch.is_grad_enabled():
            self._rows.requires_grad_()
        self._places = places.chunk(2)
        self.firsts = torch.from_numpy(self._starts[:-1]).to(device)
        self._vectors = scorer.query_vectors(
            self._rows, self._places[0][self.firsts], self.relations[self.firsts]
        )
        self._logits: Tensor | None = None
        self._statistics: Statistics | None = None

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.queries)

    @property
    def logits(self) -> Tensor:
        """`[rows, entities]`, without gradient; kept once they were asked for."""
        if self._logits is None:
            self._logits = self.block(Block(0, len(self._vectors), 0, len(self)))
        return self._logits

    @property
    def statistics(self) -> Statistics:
        """Summaries of the logits; kept once they were asked for."""
        if self._statistics is None:
            parts = [_statistics(self.logits[b.start : b.stop]) for b in self.blocks()]
            self._statistics = Statistics(*map(torch.cat, zip(*parts, strict=True)))
        return self._statistics

    @property
    def vectors(self) -> Tensor:
        """Query vectors of the distinct questions, `[rows, width]`, without gradient."""
        return self._vectors.detach()

    def answer_log_probs(self) -> Tensor:
        """Log-probability of each query's answer, `[batch]`."""
        own = self.logits[self.row_of, self.columns]
        return own - self.statistics.log_normaliser[self.row_of]

    def blocks(self) -> Iterator[Block]:
        """Ranges of rows whose logits fit a processor's cache, or a good part of a GPU's memory."""
        rows = len(self._vectors)
        most = elements_at_once(self.table.device, BLOCK_ELEMENTS)
        # Blocks of equal size: a small last one would run the products at a fraction of the speed.
        count = -(-rows // max(most // len(self.table), 1))
        edges = [rows * number // count for number in range(count + 1)]
        for start, stop in itertools.pairwise(edges):
            yield Block(start, stop, int(self._starts[start]), int(self._starts[stop]))

    @torch.no_grad()
    def block(self, block: Block) -> Tensor:
        """Logits of a block's rows."""
        if self._logits is not None:
            return self._logits[block.start : block.stop]
        logits = self.scorer.compare(self._vectors[block.start : block.stop].detach(), self.table)
        return logits if self.sample is None else logits.add_(self.sample.log_weights)

    def listed(self, queries: Tensor, entities: Tensor) -> Tensor:
        """Scores of (query, entity) pairs, `[n]`; of a sample, only of those that are in it."""
        if self.sample is None:
            return self.logits[self.row_of[queries], entities]
        columns = self.sample.columns(entities)
        return self.logits[self.row_of[queries], columns] - self.sample.log_weights[columns]

    def among_columns(self, labels: Sequence[SoftLabel]) -> Sequence[SoftLabel]:
        """Soft labels about entities as soft labels about columns of the logits."""
        if self.sample is None:
            return labels
        return [self.sample.label(label) for label in labels]

    def regulariser(self) -> Tensor:
        """N3: cubed moduli of head, relation and tail, summed over factors, batch mean."""
        moduli = self.scorer.factor_moduli(
            self._rows, self._places[0], self.relations, self._places[1]
        )
        cubes = [(part**3).sum() for part in moduli]
        return torch.stack(cubes).sum() / len(self) if cubes else torch.zeros(())

    def pull_back(
        self,
        slopes: Callable[[Block], Tensor],
        regularisation: float,
        pull: Tensor | None = None,
    ) -> Tensor:
        """Add the gradient of a loss to the scorer's parameters.

        Args:
            slopes: gives the loss's gradient with respect to the logits of a block.
            regularisation: weight of N3.
            pull: `[rows, width]`, the gradient of a further term with respect to `vectors`.

        Returns:
            N3, a number without gradient.
        """
        total = torch.empty_like(self.table)
        by_vectors = torch.empty_like(self._vectors)
        vectors = self._vectors.detach()
        for block in self.blocks():
            rows = slice(block.start, block.stop)
            by_vectors[rows] = self.scorer.pull_back(
                vectors[rows], self.table, slopes(block), total, block.start == 0
            )
        if pull is not None:
            by_vectors += pull
        roots, gradients = [self._vectors], [by_vectors]
        cubes = torch.zeros(())
        if regularisation:
            cubes = self.regulariser()
            if cubes.requires_grad:
                roots.append(cubes)
                gradients.append(torch.full_like(cubes, regularisation))
        torch.autograd.backward(roots, gradients)
        if self.sample is not None:
            among, total = total, torch.zeros_like(self._source)
            total[self.sample.entities] = among
        if self._rows.grad is not None:
            total.index_add_(0, self._used, self._rows.grad)
        if self._source.is_leaf:
            self._source.grad = total if self._source.grad is None else self._source.grad + total
        else:
            self._source.backward(total)  # type: ignore[no-untyped-call]
        return cubes.detach()
