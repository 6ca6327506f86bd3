"""Gradient modulation of fused teachers: the modality that learns fastest is held back.

A fused model follows whichever modality lowers the loss soonest, and the others stop learning. MSPT
(methods.md §6) measures how well each modality alone would do and slows the best one down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from graphs import MultimodalGraph
from graphs.numbers import is_number
from students.forward import Forward
from students.hooks import StepHook
from students.snapshots import Snapshot
from students.training import Trainer
from teachers.fused import Fused

FORMS = ("own", "mspt")


@dataclass(frozen=True)
class Modulation:
    """How the dominant modality is held back.

    Attributes:
        form: `mspt`: its gradients times `1 − tanh(α·ρ)`, and noise on those of all modalities
            (exact, methods.md §6); `own` (ours): its *steps* times `ρ^−α`, without noise; None:
            nobody is held back, and competences are measured all the same.
        alpha: `α` (MSPT: 0.1 to 0.3).
    """

    form: Literal["own", "mspt"] | None = "own"
    alpha: float = 0.2

    def __post_init__(self) -> None:
        """Refuse values outside their domain."""
        if self.form is not None and self.form not in FORMS:
            raise ValueError(f"modulation must be one of {', '.join(FORMS)}, got {self.form!r}")
        if not (is_number(self.alpha) and self.alpha >= 0):
            raise ValueError(f"modulation's alpha must be a number ≥ 0, got {self.alpha!r}")


def ratios(competences: Tensor) -> Tensor:
    """`ρ_m = s_m / mean of the others' s`, `[modalities]`; with two, `ρ_v = s_v/s_t = 1/ρ_t`.

    With two modalities it is MSPT's (exact); the mean is our reading for more.
    """
    others = (competences.sum() - competences) / (len(competences) - 1)
    tiny = torch.finfo(competences.dtype).tiny
    return competences.clamp_min(tiny) / others.clamp_min(tiny)


def factors(rho: Tensor, modulation: Modulation) -> Tensor:
    """By what the gradients, or steps, of each modality are multiplied, `[modalities]`.

    `mspt`: `1 − tanh(α·ρ)` where `ρ > 1`, else 1 (exact). It jumps from 1 to `1 − tanh(α)` at
    `ρ = 1`. `own`: `min(1, ρ^−α)`, which does not.
    """
    if modulation.form is None:
        return torch.ones_like(rho)
    if modulation.form == "mspt":
        return torch.where(rho > 1, 1 - torch.tanh(modulation.alpha * rho), 1.0)
    return rho.pow(-modulation.alpha).clamp_max(1.0)


class Competence:
    """How probable each modality alone makes the answers: `s_m`, over a batch its mean.

    `softmax(φ_m)[t]` with `φ_m` the scorer's score over vectors of modality `m` alone, no structure
    and no gate in between. Modalities are compared on what they all can say something about:
    queries whose two ends have every modality, ranked among the entities that have every modality.

    Args:
        graph: says who has what.

    Raises:
        ValueError: fewer than two modalities, or than two entities that have them all.
    """

    def __init__(self, graph: MultimodalGraph) -> None:
        self.names = tuple(sorted(graph.modalities))
        if len(self.names) < 2:
            raise ValueError(
                f"modulation: graph {graph.name!r} has {len(self.names)} modalities, expected at "
                "least two to hold one back for the other"
            )
        listed = [graph.modalities[name].entities for name in self.names]
        common = reduce(np.intersect1d, listed)
        if len(common) < 2:
            raise ValueError(
                f"modulation: {len(common)} entities of graph {graph.name!r} have all of "
                f"{', '.join(self.names)}, expected at least two"
            )
        self.common = torch.from_numpy(common.astype(np.int64))
        self.place = torch.full((graph.num_entities,), -1)
        self.place[self.common] = torch.arange(len(self.common))

    @torch.no_grad()
    def __call__(self, scorer: Fused, forward: Forward) -> tuple[Tensor, int]:
        """Mean probabilities of the answers, `[modalities]`, and of how many queries."""
        heads, answers = self.place[forward.entities], self.place[forward.answers]
        rows = ((heads >= 0) & (answers >= 0)).nonzero()[:, 0]
        relations = forward.relations[rows]
        means = []
        for name in self.names:
            _, table = scorer.part(name, self.common)
            vectors = scorer.query_vectors(table, heads[rows], relations)
            log_probs = scorer.compare(vectors, table).log_softmax(dim=1)
            own = log_probs.gather(1, answers[rows, None])[:, 0]
            means.append(own.exp().sum() / max(len(rows), 1))
        return torch.stack(means), len(rows)


class Modulator(StepHook):
    """Measures every modality's competence at every step, and holds the dominant one back.

    Adagrad divides a gradient by the root of the sum of its squares so far, so that a factor which
    stays the same cancels: what slows MSPT's optimiser hardly slows this one. `mspt` multiplies the
    gradients all the same, as published; `own` multiplies the steps that the optimiser makes.

    Args:
        graph: what the teacher learns from.
        modulation: form and `α`.
        seed: of the noise.

    Attributes:
        discrepancies: `log(max_m s_m / min_m s_m)` of each epoch so far, from mean competences of
            the epoch: 0 where no modality is ahead.
        competences: the same means, per epoch, by modality.

    Raises:
        ValueError: see `Competence`.
    """

    def __init__(self, graph: MultimodalGraph, modulation: Modulation, seed: int) -> None:
        self.modulation = modulation
        self.competence = Competence(graph)
        self.discrepancies: list[float] = []
        self.competences: list[dict[str, float]] = []
        self._generator = torch.Generator().manual_seed(seed)
        self._totals = torch.zeros(len(self.competence.names))
        self._queries = 0
        self._held: list[tuple[Tensor, Tensor, float]] = []

    def before_step(self, trainer: Trainer, forward: Forward) -> None:
        """Measure; `mspt` changes the gradients, `own` remembers where the step begins."""
        scorer = trainer.scorer
        assert isinstance(scorer, Fused)  # noqa: S101 - the caller looked
        means, queries = self.competence(scorer, forward)
        self._totals += queries * means
        self._queries += queries
        self._held = []
        if not queries or self.modulation.form is None:
            return
        scaling = factors(ratios(means), self.modulation).tolist()
        for name, factor in zip(self.competence.names, scaling, strict=True):
            for parameter in scorer.encoder(name):
                if self.modulation.form == "own":
                    self._held.append((parameter, parameter.detach().clone(), factor))
                elif parameter.grad is not None:
                    noise = torch.randn(parameter.shape, generator=self._generator)
                    spread = parameter.grad.std()
                    parameter.grad = parameter.grad * factor + spread * noise.to(parameter.grad)

    @torch.no_grad()
    def after_step(self, trainer: Trainer) -> None:
        """`own` takes back what the dominant modality's step was too long."""
        for parameter, before, factor in self._held:
            if factor < 1:
                parameter.copy_(before + factor * (parameter - before))

    def snapshot(self) -> Snapshot:
        """Epochs so far, and where the noise is."""
        epochs = {"discrepancies": self.discrepancies, "competences": self.competences}
        return {**epochs, "noise": self._generator.get_state()}

    def restore(self, snapshot: Snapshot) -> None:
        """Take over what `snapshot` returned."""
        # In place: whoever made it reads the lists afterwards.
        self.discrepancies[:] = snapshot["discrepancies"]
        self.competences[:] = snapshot["competences"]
        self._generator.set_state(snapshot["noise"])

    def end_epoch(self) -> str:
        """Close an epoch; its discrepancy and competences in words."""
        means = (self._totals / max(self._queries, 1)).tolist()
        self._totals.zero_()
        self._queries = 0
        self.competences.append(dict(zip(self.competence.names, means, strict=True)))
        self.discrepancies.append(discrepancy(means))
        shown = ", ".join(f"{name} {value:.4f}" for name, value in self.competences[-1].items())
        return f"discrepancy {self.discrepancies[-1]:.3f} ({shown})"


def discrepancy(competences: Sequence[float]) -> float:
    """`log` of the largest over the smallest competence; infinite where one is zero."""
    least, most = min(competences), max(competences)
    if least == most:
        return 0.0
    return math.log(most / least) if least > 0 else math.inf
