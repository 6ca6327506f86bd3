"""How well the first-order benefit of a teacher predicts what its lesson really does.

The rewards `heldout` and `heldout_adagrad` price a teacher by a slope. What really happens can be
asked of a fork of the student: make the update once with hard labels only, and once more with one
query taught by one teacher, and look at the loss on the reward split. That costs two passes over
the batch for every price, so it is done for a sample, here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.calibration import benefits_of
from agents.statistics import spearman
from dsom_env.classroom import Classroom, Lesson, with_gradients
from graphs import Queries
from graphs.csr import IntArray
from students.distillation import SoftLabel
from students.training import Trainer

Prices = NDArray[np.float64]


@dataclass(frozen=True)
class Credit:
    """Prices of the same lessons, `[probed, teachers]` each, in nats of held-out loss.

    Attributes:
        real: fall of the held-out loss through what one teacher adds to one query of the batch,
            as forks of the student saw it.
        plain: `heldout`, for a step of the length of the learning rate over the batch.
        adagrad: `heldout_adagrad`, the same.
    """

    real: Prices
    plain: Prices
    adagrad: Prices

    def summary(self) -> dict[str, Any]:
        """Agreement of either prediction with what was real; JSON types.

        `spearman` and `correlation` over all lessons, `sign` the share whose sign is right, and
        `slope` of the real fall over the predicted one by least squares: 1 would be exact.
        """
        real = self.real.ravel()
        found: dict[str, Any] = {"lessons": real.size, "helped": float((real > 0).mean())}
        for name in ("plain", "adagrad"):
            predicted = getattr(self, name).ravel()
            found[name] = {
                "spearman": spearman(predicted, real),
                "correlation": float(np.corrcoef(predicted, real)[0, 1]),
                "sign": float((np.sign(predicted) == np.sign(real)).mean()),
                "slope": float(predicted @ real / (predicted @ predicted)),
            }
        return found


@with_gradients
def measure_credit(classroom: Classroom, rows: IntArray, probed: int) -> Credit:
    """Price the lessons of the first queries of a batch in three ways.

    Args:
        classroom: with a student and a reward split; both are left as they are.
        rows: int64 `[batch]`, training queries that are taught together.
        probed: how many of them are priced, with each teacher alone.

    Raises:
        ValueError: there is no reward split.
    """
    if not len(classroom.withheld_rows):
        raise ValueError("credit needs a reward split: set reward_fraction above 0")
    trainer, lesson = classroom.trainer, classroom.lesson(rows)
    heldout = classroom.queries[classroom.withheld_rows]
    gradients = trainer.gradient(heldout)
    step = trainer.training.learning_rate / len(rows)
    plain = step * benefits_of(classroom, lesson, gradients)[:probed]
    adagrad = step * benefits_of(classroom, lesson, trainer.preconditioned(gradients))[:probed]
    untaught = _loss_after(trainer, lesson, [], heldout)
    real = np.zeros((probed, len(classroom.teachers)))
    for row in range(probed):
        for k in range(real.shape[1]):
            weights = np.zeros((len(rows), real.shape[1]), dtype=np.float32)
            weights[row, k] = 1.0
            labels = classroom.soft_labels(lesson, weights)
            real[row, k] = untaught - _loss_after(trainer, lesson, labels, heldout)
    return Credit(real, plain, adagrad)


def _loss_after(
    trainer: Trainer, lesson: Lesson, labels: list[SoftLabel], heldout: Queries
) -> float:
    """Mean cross-entropy of `heldout` under a fork that was taught the lesson once."""
    twin = trainer.fork()
    # One query of hundreds moves the loss by less than single precision resolves.
    twin.scorer.double()
    for state in twin.optimiser.state.values():
        state["sum"] = state["sum"].double()
    twin.update(twin.forward(lesson.queries), [_double(label) for label in labels])
    return float(twin.cross_entropy(heldout).mean())


def _double(label: SoftLabel) -> SoftLabel:
    return replace(
        label,
        log_probs=label.log_probs.double(),
        log_tail=label.log_tail.double(),
        weight=label.weight.double(),
    )
