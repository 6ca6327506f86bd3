"""The one training step: every student and every teacher learns through it."""

from __future__ import annotations

import copy
import functools
import importlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from graphs import MultimodalGraph
from graphs.csr import IntArray
from graphs.graph import Queries
from graphs.numbers import DivergedError, is_number
from students.distillation import DistillationConfig, SoftLabel
from students.forward import Block, Forward
from students.hooks import StepHook
from students.losses import RowLosses
from students.sampling import Sample
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
        if not (is_number(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be a positive number, got {self.learning_rate!r}")
        if not (is_number(self.regularisation) and self.regularisation >= 0):
            raise ValueError(f"regularisation must be a number ≥ 0, got {self.regularisation!r}")


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
        hooks: what happens around each update beside it; `fork` leaves them out.
    """

    scorer: Scorer
    graph: MultimodalGraph
    training: TrainingConfig = field(default_factory=TrainingConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    queries_per_epoch: int = 0
    steps: int = 0
    seen_queries: int = 0
    hooks: Sequence[StepHook] = ()

    def __post_init__(self) -> None:
        """Create the optimiser."""
        # Fused, one pass over the tables; not every supported torch has it on other devices.
        self.optimiser = torch.optim.Adagrad(
            self.scorer.parameters(),
            lr=self.training.learning_rate,
            fused=self.device.type == "cpu",
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

    def forward(self, queries: Queries, sample: Sample | None = None) -> Forward:
        """Put a batch in front of the scorer; `update` and all who look share its logits.

        Args:
            queries: the batch.
            sample: the entities that it is about, the batch's answers among them; None for all.
        """
        # With the answer as the only neighbor no two queries have the same parts, which matters
        # unless the divergence is that of the whole distributions all along.
        config = self.distillation
        plain = config.is_plain and not config.beta_warmup
        share = plain or config.neighbors != "answer"
        return Forward(self.scorer, queries, self.device, share, sample)

    def sample(self, queries: Queries, count: int, generator: torch.Generator) -> Sample:
        """The answers of a batch and `count` other entities, for `forward`."""
        answers = torch.from_numpy(queries.answers).to(self.device)
        return Sample.draw(answers, self.scorer.num_entities, count, generator)

    def block_losses(
        self, forward: Forward, labels: Sequence[SoftLabel], block: Block
    ) -> RowLosses:
        """Losses of a block, and on demand their gradient; labels are about columns of logits."""
        plain = self.distillation.is_plain and self.beta_scale == 1.0
        plain = plain or all(label.only_listed for label in labels)
        first, last = block.first, block.last
        nobody = forward.queries.entities[:0]
        neighbors = (nobody, nobody)
        if not plain:
            neighbors = self.neighbor_lists(forward.queries[slice(first, last)])
        return RowLosses(
            forward.block(block),
            forward.row_of[first:last] - block.start,
            forward.columns[first:last],
            [label.block(first, last) for label in labels],
            neighbors,
            self.distillation,
            self.beta_scale,
        )

    def losses(self, forward: Forward, labels: Sequence[SoftLabel]) -> tuple[Tensor, Tensor]:
        """Cross-entropy and divergence of each query, `[batch]` each, without gradient."""
        labels = forward.among_columns(labels)
        parts = [self.block_losses(forward, labels, block) for block in forward.blocks()]
        cross_entropy = torch.cat([part.cross_entropy for part in parts])
        return cross_entropy, torch.cat([part.divergence for part in parts])

    def pull_back(
        self,
        forward: Forward,
        labels: Sequence[SoftLabel] = (),
        regularised: bool = True,
        pull: Tensor | None = None,
    ) -> StepReport:
        """Fill the parameters' `grad` with the gradient of the loss; nothing is updated.

        Args:
            forward: the batch; among a sample, losses and gradient are estimates.
            labels: soft labels, about entities.
            regularised: whether N3 counts.
            pull: see `Forward.pull_back`; its term is no part of the reported loss.
        """
        gamma, size = self.distillation.gamma, len(forward)
        labels = forward.among_columns(labels)
        penalty = self.training.regularisation if regularised else 0.0
        cross_entropy = forward.table.new_empty(size)
        divergence = forward.table.new_empty(size)
        shares = forward.table.new_full((size,), 1.0 / size)

        def slopes(block: Block) -> Tensor:
            losses = self.block_losses(forward, labels if gamma else (), block)
            part = slice(block.first, block.last)
            cross_entropy[part], divergence[part] = losses.cross_entropy, losses.divergence
            return losses.gradient(shares[part], gamma * shares[part])

        self.optimiser.zero_grad(set_to_none=True)
        cubes = forward.pull_back(slopes, penalty, pull)
        loss = (cross_entropy + gamma * divergence).mean() + penalty * cubes
        return StepReport(float(loss), cross_entropy, divergence)

    def gradient(self, queries: Queries) -> dict[str, Tensor]:
        """Gradient of the mean cross-entropy of `queries`, by parameter; nothing is updated."""
        self.pull_back(self.forward(queries), regularised=False)
        gradients = {
            name: torch.zeros_like(value) if value.grad is None else value.grad
            for name, value in self.scorer.named_parameters()
        }
        self.optimiser.zero_grad(set_to_none=True)
        return gradients

    def logit_direction(self, forward: Forward, gradients: dict[str, Tensor]) -> Tensor:
        """Derivative of a batch's logits along a direction of the parameters.

        Args:
            forward: the batch, scored at the present parameters.
            gradients: the direction by parameter, as `gradient` gives it.

        Returns:
            `[rows, entities]`, a row for each distinct pair of entity and relation.
        """
        _load_forward_mode()
        parameters = {name: value.detach() for name, value in self.scorer.named_parameters()}
        asked = forward.entities[forward.firsts], forward.relations[forward.firsts]

        def logits_at(values: dict[str, Tensor]) -> Tensor:
            logits: Tensor = torch.func.functional_call(self.scorer, values, asked)
            return logits

        tangent: Tensor = torch.func.jvp(logits_at, (parameters,), (gradients,))[1]
        return tangent.detach()

    def preconditioned(self, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
        """`gradients` by parameter, each coordinate over Adagrad's root of summed squares so far.

        Coordinates without a step so far keep their gradient: nothing scales them yet.
        """
        scaled = {}
        for name, value in self.scorer.named_parameters():
            squares = self.optimiser.state[value].get("sum")
            root = torch.ones_like(value) if squares is None else squares.sqrt()
            scaled[name] = gradients[name] / torch.where(root > 0, root, 1.0)
        return scaled

    def update(
        self,
        forward: Forward,
        labels: Sequence[SoftLabel] = (),
        pull: Tensor | None = None,
    ) -> StepReport:
        """Make one update from a batch that `forward` took at the present parameters.

        Args:
            forward: the batch.
            labels: soft labels.
            pull: `[rows, width]`, the gradient with respect to `forward.vectors` of a further term
                that is minimised together with the loss, as in co-training.

        Raises:
            DivergedError: the loss, or the pull, is not finite; parameters are as before.
        """
        if pull is not None and not bool(pull.isfinite().all()):
            raise DivergedError(f"the pull on the query vectors is not finite at step {self.steps}")
        report = self.pull_back(forward, labels, pull=pull)
        if not math.isfinite(report.loss):
            raise DivergedError(
                f"loss is {report.loss} at step {self.steps}: {self._cause(report)}"
            )
        for hook in self.hooks:
            hook.before_step(self, forward)
        self.optimiser.step()
        for hook in self.hooks:
            hook.after_step(self)
        self.steps += 1
        self.seen_queries += len(forward)
        return report

    def _cause(self, report: StepReport) -> str:
        """Which part of a loss that is not finite is to blame."""
        self.check_finite()
        parts = {"cross-entropy": report.cross_entropy, "divergence": report.divergence}
        for name, values in parts.items():
            if not bool(values.isfinite().all()):
                return f"the {name} of {int((~values.isfinite()).sum())} queries is not finite"
        return "the regularisation is not finite"

    def check_finite(self) -> None:
        """Refuse parameters that an update has spoilt; one look at all of them.

        Raises:
            DivergedError: a parameter is not finite.
        """
        for name, values in self.scorer.named_parameters():
            if not bool(values.isfinite().all()):
                raise DivergedError(
                    f"{name} is not finite at step {self.steps}: an update has spoilt it, and a "
                    "smaller learning_rate may not"
                )

    @torch.no_grad()
    def cross_entropy(self, queries: Queries) -> Tensor:
        """Cross-entropy of a batch under the *present* parameters, `[batch]`."""
        return self.losses(self.forward(queries), ())[0]

    def score(self, entities: Tensor, relations: Tensor) -> Tensor:
        """Logits `[batch, entities]`, for `students.evaluation`; ids may be on any device."""
        with torch.no_grad():
            logits: Tensor = self.scorer(entities, relations)
        return logits

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


@functools.cache
def _load_forward_mode() -> None:
    """Torch scripts parts of its forward mode on first use, and warns that scripting is deprecated.

    That is no business of the user's.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("torch._decomp.decompositions_for_jvp")
