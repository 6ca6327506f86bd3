"""The one training step: every student and every teacher learns through it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from graphs import MultimodalGraph
from graphs.csr import IntArray
from graphs.graph import Queries
from students.distillation import DistillationConfig, SoftLabel, distillation_loss
from students.scorer import Scorer


@dataclass(frozen=True)
class TrainingConfig:
    """How tables are fitted.

    Attributes:
        learning_rate: of Adagrad (MoSE: 0.1, exact).
        regularisation: λ of N3, the cubed moduli of head, relation and tail, averaged over the
            batch (MoSE: 0.01, exact).
    """

    learning_rate: float = 0.1
    regularisation: float = 0.01

    def __post_init__(self) -> None:
        """Refuse values outside their domain."""
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate!r}")
        if self.regularisation < 0:
            raise ValueError(f"regularisation must be ≥ 0, got {self.regularisation!r}")


@dataclass
class Forward:
    """A batch of queries and the logits that the scorer gave them, with their autograd graph.

    Attributes:
        queries: the batch, as arrays.
        entities, relations, answers: int64 `[batch]` each, on the scorer's device.
        table: entity vectors that the logits were computed with.
        logits: `[batch, entities]`.
    """

    queries: Queries
    entities: Tensor
    relations: Tensor
    answers: Tensor
    table: Tensor
    logits: Tensor


@dataclass(frozen=True)
class StepReport:
    """What one update did.

    Attributes:
        loss: mean total loss, N3 included.
        cross_entropy: `[batch]`, before the update.
        divergence: `[batch]`, before the update, weights and β's warm-up included, γ not.
    """

    loss: float
    cross_entropy: Tensor
    divergence: Tensor


class DivergedError(RuntimeError):
    """The loss is no longer finite; the update was not made."""


@dataclass
class Trainer:
    """A scorer, its optimiser, and the one step that updates them.

    `L = mean(CE + γ·Σ_labels w·L_NDKD) + λ·N3` (methods.md §1.1).

    Attributes:
        scorer: what is trained.
        graph: source of neighbor sets; training triples only.
        training: optimiser settings.
        distillation: switches of NDKD.
        steps: updates made so far.
        queries_per_epoch: to turn β's warm-up from epochs into queries.
    """

    scorer: Scorer
    graph: MultimodalGraph
    training: TrainingConfig = field(default_factory=TrainingConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    queries_per_epoch: int = 0
    steps: int = 0
    seen_queries: int = 0

    def __post_init__(self) -> None:
        """Create the optimiser."""
        self.optimiser = torch.optim.Adagrad(
            self.scorer.parameters(), lr=self.training.learning_rate
        )
        if not self.queries_per_epoch:
            self.queries_per_epoch = 2 * len(self.graph.triples["train"])

    @property
    def device(self) -> torch.device:
        """Where the scorer's parameters are."""
        return next(self.scorer.parameters()).device

    @property
    def beta_scale(self) -> float:
        """Factor on β now: its linear warm-up."""
        warmup = self.distillation.beta_warmup * self.queries_per_epoch
        return min(self.seen_queries / warmup, 1.0) if warmup else 1.0

    def neighbor_lists(self, queries: Queries) -> tuple[IntArray, IntArray]:
        """(positions, entities) of the batch's neighbors, as the distillation config wants them."""
        if self.distillation.neighbors == "one_hop":
            return self.graph.neighbors.gather(queries.entities)
        if self.distillation.neighbors == "same_relation":
            keys = self.graph.query_keys(queries.entities, queries.relations)
            return self.graph.train_answers.gather(keys)
        none: IntArray = queries.entities[:0]
        return none, none

    def forward(self, queries: Queries) -> Forward:
        """Logits of a batch, with the graph that `update` goes back through."""
        entities = torch.from_numpy(queries.entities).to(self.device)
        relations = torch.from_numpy(queries.relations).to(self.device)
        answers = torch.from_numpy(queries.answers).to(self.device)
        table = self.scorer.entity_vectors()
        logits = self.scorer.compare(self.scorer.query_vectors(table, entities, relations), table)
        return Forward(queries, entities, relations, answers, table, logits)

    def losses(self, forward: Forward, labels: Sequence[SoftLabel]) -> tuple[Tensor, Tensor]:
        """Cross-entropy and divergence of each row, differentiable, `[batch]` each."""
        return distillation_loss(
            forward.logits,
            forward.answers,
            labels,
            self.neighbor_lists(forward.queries),
            self.distillation,
            self.beta_scale,
        )

    def update(self, forward: Forward, labels: Sequence[SoftLabel] = ()) -> StepReport:
        """Make one update from a batch that `forward` scored with the present parameters.

        Raises:
            DivergedError: the loss is not finite; parameters are as before.
        """
        cross_entropy, divergence = self.losses(forward, labels)
        loss = (cross_entropy + self.distillation.gamma * divergence).mean()
        if self.training.regularisation:
            moduli = self.scorer.factor_moduli(
                forward.table, forward.entities, forward.relations, forward.answers
            )
            cubes = sum((part**3).sum() for part in moduli)
            loss = loss + self.training.regularisation * cubes / len(forward.queries)
        value = float(loss.detach())
        if not torch.isfinite(loss.detach()):
            raise DivergedError(f"loss is {value} at step {self.steps}")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.steps += 1
        self.seen_queries += len(forward.queries)
        return StepReport(value, cross_entropy.detach(), divergence.detach())

    @torch.no_grad()
    def cross_entropy(self, forward: Forward) -> Tensor:
        """Cross-entropy of the batch under the *present* parameters, `[batch]`."""
        logits: Tensor = self.scorer(forward.entities, forward.relations)
        return logits.logsumexp(1) - logits.gather(1, forward.answers[:, None])[:, 0]

    def score(self, entities: Tensor, relations: Tensor) -> Tensor:
        """Logits `[batch, entities]` on the CPU, for `students.evaluation`."""
        with torch.no_grad():
            logits: Tensor = self.scorer(entities.to(self.device), relations.to(self.device))
        return logits.cpu()

    def state_dict(self) -> dict[str, Any]:
        """Parameters, optimiser state and counters, copied."""
        state = {
            "scorer": self.scorer.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "steps": self.steps,
            "seen_queries": self.seen_queries,
        }
        return copy.deepcopy(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.scorer.load_state_dict(state["scorer"])
        self.optimiser.load_state_dict(copy.deepcopy(state["optimiser"]))
        self.steps, self.seen_queries = state["steps"], state["seen_queries"]

    def fork(self) -> Trainer:
        """An independent copy, to ask what another update would have done."""
        twin = Trainer(
            copy.deepcopy(self.scorer),
            self.graph,
            self.training,
            self.distillation,
            self.queries_per_epoch,
        )
        twin.load_state_dict(self.state_dict())
        return twin


def shuffled_batches(
    rows: IntArray, batch_size: int, generator: torch.Generator
) -> Sequence[IntArray]:
    """One epoch: `rows` in random order, in batches of `batch_size` (the last may be smaller)."""
    order = rows[torch.randperm(len(rows), generator=generator).numpy()]
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
