"""AMID's objective on vectors: who pulls whom, and the estimates that say what came of it.

Source: AMID (CVPR 2023, arXiv 2306.07646; methods.md §5). The three terms are the paper's, their
form here is a reconstruction: maximise `λ_S·I(T;S) + λ_A·Σ_m I(T;A_m) − λ_H·H(T|S)`, informations
by InfoNCE (`teachers.contrast`), the entropy by a conditional adversary (`teachers.adversary`).

Nothing here knows of graphs: vectors of a batch go in, gradients with respect to them come out,
and whoever made the vectors adds these to the gradient of the own loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graphs.numbers import is_number
from students.snapshots import Snapshot
from teachers.adversary import Adversary
from teachers.contrast import Critic, info_nce


@dataclass(frozen=True)
class CotrainingConfig:
    """How a teacher is trained together with a student and auxiliary models.

    A weight of 0 switches its term off for everybody's parameters; critics and adversary go on
    learning, so that its estimate can be read beside those of the others.

    Attributes:
        student: λ_S, weight of I(T;S).
        auxiliary: λ_A, weight of I(T;A) for every auxiliary modality.
        entropy: λ_H, weight of H(T|S).
        student_rank: complex dimensions of the co-trained student.
        width: of the critics' common space and of the adversary's hidden layers.
        temperature: of the critics at the start; they learn their own.
        learning_rate: of critics and adversary (Adam).
        warmup: epochs over which the weights grow linearly from 0, while the tables are so small
            that what pulls at them would be noise (ours).
    """

    student: float = 1.0
    auxiliary: float = 1.0
    entropy: float = 5.0
    student_rank: int = 32
    width: int = 64
    temperature: float = 0.1
    learning_rate: float = 5e-3
    warmup: float = 2.0

    def __post_init__(self) -> None:
        """Refuse values outside their domain; whole numbers become the floats that they mean."""
        for name in ("student", "auxiliary", "entropy", "warmup"):
            value = getattr(self, name)
            if not (is_number(value) and value >= 0):
                raise ValueError(f"{name} must be a number ≥ 0, got {value!r}")
            # 1 and 1.0 are the same weight, but would not be the same key of the cache.
            object.__setattr__(self, name, float(value))
        for name in ("temperature", "learning_rate"):
            value = getattr(self, name)
            if not (is_number(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value!r}")
            object.__setattr__(self, name, float(value))
        for name in ("student_rank", "width"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")

    @property
    def pulls(self) -> bool:
        """Whether any term moves anybody."""
        return max(self.student, self.auxiliary, self.entropy) > 0


@dataclass(frozen=True)
class Vectors:
    """Vectors of the same batch from everybody, without gradient.

    Attributes:
        teacher: `[n, width]`.
        student: `[n, width]`, of its own width, as are the following.
        auxiliary: one `[n, width]` per auxiliary modality.
    """

    teacher: Tensor
    student: Tensor
    auxiliary: tuple[Tensor, ...]

    @property
    def all(self) -> tuple[Tensor, ...]:
        """Teacher, student, auxiliary models."""
        return (self.teacher, self.student, *self.auxiliary)


@dataclass(frozen=True)
class Figures:
    """What a batch says, or the mean over several.

    Attributes:
        information: Î(T;S) and Î(T;A_m) in nats, `[1 + modalities]`, see `info_nce`.
        limit: mean of `ln N`, which no estimate can exceed, in nats.
        adversary_loss: of the discriminator before its update; chance has ln 2 nats.
        adversary_accuracy: likewise; 0.5 for chance.
    """

    information: tuple[float, ...]
    limit: float
    adversary_loss: float
    adversary_accuracy: float

    @classmethod
    def mean(cls, parts: Sequence[Figures]) -> Figures:
        """Mean of the figures of batches.

        Raises:
            ValueError: there are none.
        """
        if not parts:
            raise ValueError("no batch has been learned from")
        rows = [(*f.information, f.limit, f.adversary_loss, f.adversary_accuracy) for f in parts]
        means = torch.tensor(rows, dtype=torch.float64).mean(dim=0).tolist()
        return cls(tuple(means[:-3]), *means[-3:])


@dataclass(frozen=True)
class Step:
    """What the objective wants of a batch.

    Attributes:
        pulls: gradient of the weighted objective, to be minimised, with respect to each of
            `Vectors.all`; None for whom no term moves.
        figures: measured before anybody's update.
    """

    pulls: tuple[Tensor | None, ...]
    figures: Figures


class Objective(nn.Module):
    """Critics, adversary and their optimisers: AMID's objective as one step per batch.

    Args:
        teacher: width of the teacher's vectors.
        student: width of the student's.
        auxiliary: widths of the auxiliary models', one per modality.
        config: weights and sizes.
        generator: the only source of randomness.
    """

    def __init__(
        self,
        teacher: int,
        student: int,
        auxiliary: Sequence[int],
        config: CotrainingConfig,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.config = config
        self.critics = nn.ModuleList(
            Critic(teacher, other, config.width, config.temperature, generator)
            for other in (student, *auxiliary)
        )
        self.adversary = Adversary(teacher, student, config.width, generator)
        self._judge = torch.optim.Adam(
            # A momentum of .5, as is usual where two sides play: a long memory makes them circle.
            self.adversary.discriminator.parameters(),
            lr=config.learning_rate,
            betas=(0.5, 0.999),
        )
        self._learners = [*self.critics.parameters(), *self.adversary.guess.parameters()]
        self._learn = torch.optim.Adam(self._learners, lr=config.learning_rate)

    def _bounds(self, vectors: Sequence[Tensor], excluded: Tensor | None) -> list[Tensor]:
        teacher, *others = vectors
        if excluded is not None:
            excluded = excluded.to(teacher.device)
        pairs = zip(self.critics, others, strict=True)
        return [info_nce(critic(teacher, other), excluded) for critic, other in pairs]

    @torch.no_grad()
    def estimates(self, vectors: Vectors, excluded: Tensor | None = None) -> Tensor:
        """Pointwise Î(T;S) and Î(T;A_m) in nats, `[n, 1 + modalities]`; nobody learns.

        Args:
            vectors: of a batch.
            excluded: see `info_nce`.
        """
        return torch.stack(self._bounds(vectors.all, excluded), dim=1)

    def step(self, vectors: Vectors, excluded: Tensor | None = None, scale: float = 1.0) -> Step:
        """Let critics and adversary learn from a batch, and say where it pulls everybody else.

        Args:
            vectors: of a batch.
            excluded: see `info_nce`.
            scale: factor on all weights now: their warm-up.
        """
        judgement = self.adversary(vectors.teacher, vectors.student)
        loss = judgement.loss()
        self._update(self._judge, list(self.adversary.discriminator.parameters()), loss)
        leaves = [part.detach().requires_grad_() for part in vectors.all]
        bounds = [bound.mean() for bound in self._bounds(leaves, excluded)]
        deception = self.adversary(leaves[0], leaves[1]).deception()
        pulls = self._pulls(leaves, bounds, deception, scale)
        self._update(self._learn, self._learners, deception - torch.stack(bounds).sum())
        size = len(vectors.teacher)
        counts = torch.full((size,), size) if excluded is None else (~excluded).sum(dim=1)
        figures = Figures(
            tuple(float(bound.detach()) for bound in bounds),
            float(counts.double().log().mean()),
            float(loss.detach()),
            float(judgement.accuracy()),
        )
        return Step(pulls, figures)

    def _pulls(
        self, leaves: Sequence[Tensor], bounds: Sequence[Tensor], deception: Tensor, scale: float
    ) -> tuple[Tensor | None, ...]:
        config = self.config
        weights = [config.student, *[config.auxiliary] * (len(bounds) - 1)]
        terms = [-w * bound for w, bound in zip(weights, bounds, strict=True) if w]
        if config.entropy:
            terms.append(config.entropy * deception)
        if not terms:
            return (None,) * len(leaves)
        total = scale * torch.stack(terms).sum()
        return torch.autograd.grad(total, leaves, retain_graph=True, allow_unused=True)

    def snapshot(self) -> Snapshot:
        """Parameters and optimisers, for `restore`."""
        optimisers = [self._judge.state_dict(), self._learn.state_dict()]
        return {"parameters": dict(self.state_dict()), "optimisers": optimisers}

    def restore(self, snapshot: Snapshot) -> None:
        """Take over what `snapshot` returned."""
        self.load_state_dict(snapshot["parameters"])
        judge, learn = snapshot["optimisers"]
        self._judge.load_state_dict(judge)
        self._learn.load_state_dict(learn)

    @staticmethod
    def _update(
        optimiser: torch.optim.Optimizer, parameters: Sequence[Tensor], loss: Tensor
    ) -> None:
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimiser.step()
