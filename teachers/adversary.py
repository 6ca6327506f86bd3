"""H(teacher | student) by a conditional adversary, and what says that the adversary has failed.

Source: AMID (methods.md §5, reconstruction). A generator `g` guesses the teacher's vector from the
student's. A discriminator sees either `(q^T, q^S)` or `(g(q^S), q^S)` and says which. Where it
cannot tell, the teacher's vector is a function of the student's, and the entropy has reached its
least. Generator, teacher and student play against the discriminator.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from teachers.layers import Network, unit_size

# Mean accuracy of an epoch at which the discriminator cannot be deceived at all: then nothing is
# lowered, whatever its gradient says. Between one half, which is chance, and the lower limit it
# knows nothing; that is a failure only while there is something to know.
OVERPOWERING = 0.95
KNOWS_NOTHING = 0.55
SOMETHING_TO_KNOW = 0.25

STATES = {
    "works": "the adversary tells some pairs apart and not others",
    "content": "the adversary cannot tell the pairs apart, and hardly could: the student explains "
    "the teacher",
    "blind": "the adversary cannot tell apart what least squares can: H(T|S) is not being lowered",
    "overpowering": "the adversary cannot be deceived: H(T|S) is not being lowered",
}
FAILURES = ("blind", "overpowering")


class Judgement(NamedTuple):
    """The discriminator's logits, `[n]` each; positive where it takes a pair for a real one."""

    real: Tensor
    guessed: Tensor

    def loss(self) -> Tensor:
        """Cross-entropy of the discriminator in nats.

        Chance has ln 2, and ln 2 minus the loss is at most the Jensen–Shannon divergence of real
        and guessed pairs (Goodfellow et al. 2014, exact).
        """
        return (F.softplus(-self.real).mean() + F.softplus(self.guessed).mean()) / 2

    def deception(self) -> Tensor:
        """What teacher, student and generator lower: the cross-entropy of the wrong labels.

        Not minus `loss`, whose slope vanishes where the discriminator is sure (the non-saturating
        form of Goodfellow et al. 2014, for both sides).
        """
        return (F.softplus(self.real).mean() + F.softplus(-self.guessed).mean()) / 2

    def accuracy(self) -> Tensor:
        """Share of the pairs that the discriminator takes for what they are; ties count half."""
        right = [(side > 0).double() + 0.5 * (side == 0) for side in (self.real, -self.guessed)]
        return torch.cat(right).mean()


class Adversary(nn.Module):
    """Discriminator and generator over pairs of teacher's and student's vectors.

    Every layer of the discriminator is divided by its spectral norm, so its slope never exceeds 1
    and neither do the gradients that it sends: on a batch of hundreds, without a penalty's second
    backward pass, that keeps the game stable. Vectors are brought to unit size first, on both
    sides, so that nobody wins by shrinking.

    Args:
        teacher: width of the teacher's vectors.
        student: width of the student's.
        width: of the hidden layers.
        generator: the only source of randomness.
    """

    def __init__(self, teacher: int, student: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.guess = Network((student, width, teacher), generator)
        sizes = (teacher + student, width, width, 1)
        self.discriminator = Network(sizes, generator, spectral=True)

    def forward(self, teacher: Tensor, student: Tensor) -> Judgement:
        """Judge the pairs of teacher's vectors `[n, teacher]` and student's `[n, student]`."""
        student = unit_size(student)
        guessed = unit_size(self.guess(student))
        real = torch.cat([unit_size(teacher), student], dim=1)
        pairs = torch.cat([real, torch.cat([guessed, student], dim=1)])
        logits: Tensor = self.discriminator(pairs)[:, 0]
        return Judgement(*logits.chunk(2))


@torch.no_grad()
def unexplained_share(teacher: Tensor, student: Tensor) -> float:
    """Share of the teacher's variance that no linear map of the student explains.

    By least squares on the even rows, judged on the odd ones: an estimate of how far the teacher
    is from being a function of the student which owes nothing to the adversary (ours). Under a
    Gaussian H(T|S) is ½·ln det of what is left, so both fall together.

    Args:
        teacher: `[n, width]`, brought to unit size here.
        student: `[n, width]`, too.

    Returns:
        0 where the student says everything, about 1 where it says nothing; not clipped: above 1
        the fit has learned noise.
    """
    target = unit_size(teacher.double())
    known = torch.cat([unit_size(student.double()), student.new_ones(len(student), 1)], dim=1)
    # Columns may be collinear, as those of features are.
    fitted = torch.linalg.pinv(known[::2], rtol=1e-6) @ target[::2]
    left = target[1::2] - known[1::2] @ fitted
    spread = target[1::2] - target[1::2].mean(dim=0)
    return float(left.square().sum() / spread.square().sum().clamp_min(1e-12))


def adversary_state(accuracy: float, unexplained: float) -> str:
    """How the adversary does: a key of `STATES`.

    Args:
        accuracy: of an epoch, 0.5 for chance.
        unexplained: see `unexplained_share`.

    Raises:
        ValueError: a number is not finite.
    """
    if not (math.isfinite(accuracy) and math.isfinite(unexplained)):
        raise ValueError(f"accuracy and share must be finite, got {accuracy} and {unexplained}")
    if accuracy >= OVERPOWERING:
        return "overpowering"
    if accuracy > KNOWS_NOTHING:
        return "works"
    return "blind" if unexplained >= SOMETHING_TO_KNOW else "content"
