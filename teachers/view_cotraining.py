"""AMID's objective on a multi-view classification set: teacher with all views, student with one.

Source: AMID (methods.md §5, reconstruction); the objective is that of `teachers.amid`, to the
letter, here on hidden vectors of small classifiers instead of query vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphs.naming import unknown
from teachers.adversary import adversary_state, unexplained_share
from teachers.amid import CotrainingConfig, Figures, Objective, Vectors
from teachers.layers import Dense, Network
from teachers.views import Views


@dataclass(frozen=True)
class ViewConfig:
    """Sizes and budget of the classifiers, the same for everybody.

    Attributes:
        hidden: columns of the hidden layer.
        width: of the vectors at which the objective pulls.
        epochs: budget.
        batch: things per update.
        learning_rate: of Adam.
        seed: of initial values and batch order.
    """

    hidden: int = 64
    width: int = 32
    epochs: int = 60
    batch: int = 128
    learning_rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse sizes below one."""
        for name in ("hidden", "width", "epochs", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")


class Classifier(nn.Module):
    """A hidden vector, and the class from it.

    Args:
        inputs: columns of what it sees.
        classes: how many.
        config: sizes.
        generator: the only source of randomness.
    """

    def __init__(
        self, inputs: int, classes: int, config: ViewConfig, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.body = Network((inputs, config.hidden, config.width), generator)
        self.head = Dense(config.width, classes, generator)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors `[n, width]` and logits `[n, classes]` of `[n, inputs]`."""
        vectors: Tensor = self.body(features)
        return vectors, self.head(F.leaky_relu(vectors, 0.2))


def cotrain_views(
    train: Views,
    test: Views,
    student_view: str,
    config: ViewConfig,
    objective_config: CotrainingConfig,
) -> list[dict[str, Any]]:
    """Co-train teacher, student and one classifier per view; all of the budget is spent.

    Args:
        train: what is learned.
        test: what accuracies are about; nothing is selected by it.
        student_view: the only view that the student sees.
        config: sizes and budget.
        objective_config: weights; its `student_rank` means nothing here.

    Returns:
        One record per epoch: `epoch`, accuracies of `teacher`, `student` and `auxiliary`,
        `information` in nats by name, `information_limit`, `unexplained`, and `adversary`.

    Raises:
        ValueError: no view of that name.
    """
    if student_view not in train.names:
        raise unknown("student_view", student_view, train.names)
    generator = torch.Generator().manual_seed(config.seed)
    inputs, seen = _inputs(train, student_view), _inputs(test, student_view)
    models = nn.ModuleList(
        Classifier(part.shape[1], train.classes, config, generator) for part in inputs
    )
    optimiser = torch.optim.Adam(models.parameters(), lr=config.learning_rate)
    widths = [config.width] * len(inputs)
    objective = Objective(widths[0], widths[1], widths[2:], objective_config, generator)
    labels = torch.from_numpy(train.labels)
    names = ("student", *train.names)
    history = []
    for epoch in range(config.epochs):
        warmup = objective_config.warmup
        scale = min(epoch / warmup, 1.0) if warmup else 1.0
        figures = []
        order = torch.randperm(len(labels), generator=generator)
        for start in range(0, len(labels), config.batch):
            rows = order[start : start + config.batch]
            own = labels[rows]
            outputs = [model(part[rows]) for model, part in zip(models, inputs, strict=True)]
            teacher, student, *auxiliary = (vectors.detach() for vectors, _ in outputs)
            alike = (own[:, None] == own).fill_diagonal_(False)
            step = objective.step(Vectors(teacher, student, tuple(auxiliary)), alike, scale)
            figures.append(step.figures)
            loss = torch.stack([F.cross_entropy(logits, own) for _, logits in outputs]).sum()
            pulled = [
                (vectors, pull)
                for (vectors, _), pull in zip(outputs, step.pulls, strict=True)
                if pull is not None
            ]
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(
                [loss, *(vectors for vectors, _ in pulled)], [None, *(pull for _, pull in pulled)]
            )
            optimiser.step()
        history.append(_record(epoch + 1, names, models, seen, test, Figures.mean(figures)))
    return history


def _inputs(views: Views, student_view: str) -> list[Tensor]:
    """What everybody sees: the teacher all views side by side, the student one, and one each."""
    parts = [torch.from_numpy(matrix) for matrix in views.features]
    return [torch.cat(parts, dim=1), parts[views.names.index(student_view)], *parts]


@torch.no_grad()
def _record(
    epoch: int,
    names: tuple[str, ...],
    models: nn.ModuleList,
    inputs: list[Tensor],
    test: Views,
    figures: Figures,
) -> dict[str, Any]:
    labels = torch.from_numpy(test.labels)
    outputs = [model(part) for model, part in zip(models, inputs, strict=True)]
    teacher, student, *others = (
        float((logits.argmax(dim=1) == labels).double().mean()) for _, logits in outputs
    )
    unexplained = unexplained_share(outputs[0][0], outputs[1][0])
    accuracy = figures.adversary_accuracy
    return {
        "epoch": epoch,
        "teacher": teacher,
        "student": student,
        "auxiliary": dict(zip(names[1:], others, strict=True)),
        "information": dict(zip(names, figures.information, strict=True)),
        "information_limit": figures.limit,
        "unexplained": unexplained,
        "adversary": {
            "loss": figures.adversary_loss,
            "accuracy": accuracy,
            "state": adversary_state(accuracy, unexplained),
        },
    }
