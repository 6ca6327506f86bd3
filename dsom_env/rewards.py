"""What a choice of teachers earns (methods.md §1.2). One class and one line per reward.

Every reward is zero or less for what does not help: a reward of the form −loss would be maximised
by choosing nobody. Only training and reward-split triples are read.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dsom_env.classroom import Classroom, Lesson, Weights
from dsom_env.columns import LOWEST_LOG_P
from dsom_env.competence import filtered_log_probs, student_filtered_log_probs
from students.distillation import SoftLabel
from students.snapshots import Snapshot, attributes_of, restore_attributes
from students.training import StepReport, Trainer

Rewards = NDArray[np.float64]


class Reward(ABC):
    """Prices the choices of one batch around the student's update.

    Attributes:
        needs_control: whether some rows must be taught by hard labels only, as a control group.
    """

    needs_control: bool = False

    def __init__(self, classroom: Classroom) -> None:
        self.classroom = classroom

    def start_episode(  # noqa: B027 - most rewards have nothing to remember
        self, begins: NDArray[np.bool_]
    ) -> None:
        """Called when episodes begin.

        Args:
            begins: bool `[num_envs]`, in which sub-environments.
        """

    def before_update(  # noqa: B027 - most rewards look only at what the update did
        self, lesson: Lesson, labels: list[SoftLabel]
    ) -> None:
        """Called with the batch before the student learns from it."""

    def snapshot(self) -> Snapshot:
        """What it remembers from step to step, for `restore`.

        Raises:
            UnrecordableError: an attribute is of a kind that `students.snapshots` cannot record.
        """
        return copy.deepcopy(attributes_of(self, (Classroom,), (Reward,)))

    def restore(self, snapshot: Snapshot) -> None:
        """Take over what `snapshot` returned."""
        restore_attributes(self, snapshot)

    @abstractmethod
    def after_update(
        self, lesson: Lesson, weights: Weights, report: StepReport | None, ends: NDArray[np.bool_]
    ) -> Rewards:
        """Rewards `[batch]`.

        Args:
            lesson: the batch; its logits are from before the update.
            weights: what taught it, `[batch, teachers]`; control rows are zero.
            report: what the update did; None when the student is frozen.
            ends: bool `[batch]`, which episodes end with this step.
        """

    def _beneficial(self, values: Tensor) -> Rewards:
        rewards: Rewards = values.detach().double().cpu().numpy()
        return np.maximum(rewards, 0.0) if self.classroom.config.only_beneficial else rewards


class Improvement(Reward):
    """Fall of the row's cross-entropy through the update, less that of the control rows.

    `r = [CE(before) − CE(after)] − mean over control rows of the same` (reconstruction). Where
    a batch has no control rows, the control is the same row under a fork of the student that
    made the update with hard labels only.
    """

    needs_control = True

    def before_update(self, lesson: Lesson, labels: list[SoftLabel]) -> None:
        """Fork the student where the batch is too small for control rows."""
        self._fork_after: Tensor | None = None
        self._before: Tensor | None = None
        if control_rows(self.classroom, len(lesson.rows)) == 0:
            twin = self.classroom.trainer.fork()
            twin.update(twin.forward(lesson.queries, lesson.learned.sample))
            self._fork_after = twin.cross_entropy(lesson.queries)
        elif lesson.learned.sample is not None:
            # Among a sample the update reports an estimate.
            self._before = -lesson.forward.answer_log_probs()

    def after_update(
        self, lesson: Lesson, weights: Weights, report: StepReport | None, ends: NDArray[np.bool_]
    ) -> Rewards:
        """See the class."""
        report = _learned(report)
        after = self.classroom.trainer.cross_entropy(lesson.queries)
        chosen = torch.from_numpy(weights.any(axis=1)).to(after.device)
        if self._fork_after is not None:
            gain = self._fork_after - after
        else:
            before = report.cross_entropy if self._before is None else self._before
            gain = before - after
            gain = gain - gain[~chosen].mean()
        # Without teachers the row *is* the control: what it gains beyond it is noise.
        return self._beneficial(torch.where(chosen, gain, 0.0))


class Judged(Reward):
    """Prices the chosen teachers by the answers by which they are judged (`judged_folds`).

    Attributes:
        filtered: whether the other known answers of the query are taken out of the way.
    """

    filtered: bool = False

    def _judge(self, lesson: Lesson, weights: Weights, price: Callable[[Tensor], Tensor]) -> Tensor:
        """`price` of the soft label's log-probability of the answers, `[batch]`; 0 for nobody's."""
        chosen = torch.from_numpy(weights).to(lesson.forward.table.device)
        total = torch.zeros(len(lesson.rows), device=chosen.device)
        combination = self.classroom.config.combination
        for label in lesson.soft_labels(lesson.judged, chosen, combination):
            if self.filtered:
                log_p = filtered_log_probs(label, lesson.queries, self.classroom.taught_graph)
            else:
                log_p = label.log_probs[label.entities == lesson.forward.answers[label.rows]]
            total = total + torch.where(label.weight > 0, label.weight * price(log_p), 0.0)
        return total


class Gate(Judged):
    """`log p^a_t − log p^S_t` where positive: how much more the chosen teachers favour the answer.

    Reconstruction. Needs no second pass of the student and no update. Probabilities are those by
    which teachers are judged (`judged_folds`): in-sample ones reward memory, and cross-fitted ones
    what a teacher knows. A policy that sees how probable the answer is picks with hindsight the
    teacher that happens to have it, and takes the ensemble apart (findings.md 3): hide the columns
    `answer` from it, and it learns whom to trust on what kind of query.
    """

    def before_update(self, lesson: Lesson, labels: list[SoftLabel]) -> None:
        """Keep what the student says before it learns."""
        self._before = self._student(lesson)

    def after_update(
        self, lesson: Lesson, weights: Weights, report: StepReport | None, ends: NDArray[np.bool_]
    ) -> Rewards:
        """See the class."""
        student = self._student(lesson) if report is None else self._before
        gain = self._judge(lesson, weights, lambda log_p: log_p - student)
        # Negative values would punish every teacher once the student has memorised its triples.
        return np.asarray(gain.clamp_min(0.0).double().cpu().numpy())

    def _student(self, lesson: Lesson) -> Tensor:
        """The student's log-probability of the answers, before the update, `[batch]`."""
        if self.filtered:
            return student_filtered_log_probs(lesson, self.classroom.taught_graph)
        # Among a sample an estimate, for the sake of its price.
        return lesson.learned.answer_log_probs()


class FilteredGate(Gate):
    """`gate` with the other known answers of the query out of the way, on both sides (ours).

    A query's raw probability of its answer is small where it has many answers, and smallest for
    the teacher that knows the others best.
    """

    filtered = True


class LogScore(Judged):
    """`1 + log p^a_t / log E`: how far the chosen teachers are from knowing nothing (ours).

    The logarithmic score of the soft label, 0 for the uniform one and 1 for certainty; nobody
    earns 0. It is proper: whoever does not see the answer earns most, on average, with the subset
    whose distribution is nearest to the truth. So it is not cut at zero, which would reward
    boasting, whatever `only_beneficial` says; and unlike `gate` it does not fall silent once the
    student has memorised its triples. As there, probabilities are those by which teachers are
    judged.
    """

    def after_update(
        self, lesson: Lesson, weights: Weights, report: StepReport | None, ends: NDArray[np.bool_]
    ) -> Rewards:
        """See the class."""
        scale = self.classroom.observer.log_entities
        score = self._judge(lesson, weights, lambda log_p: 1 + log_p / scale)
        return np.asarray(score.clamp_min(LOWEST_LOG_P).double().cpu().numpy())


class FilteredLogScore(LogScore):
    """`log_score` with the other known answers of the query out of the way (ours)."""

    filtered = True


class FilteredLogGain(FilteredLogScore):
    """`log p^a_t − log p^all_t`, filtered: what leaving some teachers out brings (ours).

    `filtered_log_score` less what all teachers together would have earned on the same query, in
    nats. The difference does not depend on the choice, so that the best policy is the same; but
    most of a score is how hard the query is, which is noise to whoever compares subsets of
    teachers, and cancels here. All teachers earn 0, and nobody earns what the uniform
    distribution deserves.
    """

    def after_update(
        self, lesson: Lesson, weights: Weights, report: StepReport | None, ends: NDArray[np.bool_]
    ) -> Rewards:
        """See the class."""
        chosen = super().after_update(lesson, weights, report, ends)
        everybody = super().after_update(lesson, np.ones_like(weights), report, ends)
        return (chosen - everybody) * self.classroom.observer.log_entities


class Advantage(Reward):
    """MTKD-RL's normalised reward: `clip((ρ − mean ρ)/std ρ, 0, 1)`, `ρ = −(CE + Σ a_k KL_k)`.

    Exact in form (methods.md §3), after the update, with two changes that a choice of *sets*
    needs: the divergences of the chosen teachers are averaged and not summed, and choosing
    nobody earns 0. As written it would be maximised by choosing nobody.
    """

    def after_update(
        self, lesson: Lesson, weights: Weights, report: StepReport | None, ends: NDArray[np.bool_]
    ) -> Rewards:
        """See the class."""
        trainer = self.classroom.trainer
        with torch.no_grad():
            after = trainer.forward(lesson.queries)
            chosen = torch.from_numpy(weights).to(after.table.device)
            labels = lesson.soft_labels(lesson.opinions, chosen, "per_teacher")
            cross_entropy, divergence = trainer.losses(after, labels)
        score = -(cross_entropy + divergence)
        normal = (score - score.mean()) / score.std(correction=0).clamp_min(1e-8)
        return self._beneficial(torch.where(chosen.any(1), normal.clamp(0.0, 1.0), 0.0))


class HeldOut(Reward):
    """First-order fall of the loss on the reward split through what the teachers add to a row.

    `r = ⟨∂(γ·L_NDKD)/∂z, U⟩`, `U` the change of the row's logits `z` along the gradient of the
    held-out loss (ours; findings.md 5: `⟨p_S − p_a, U⟩` for plain KD at τ = 1). The unit is nats
    of held-out loss per unit of step size, batch mean not taken.

    Attributes:
        sample: queries of the reward split that are looked at for a batch.
    """

    sample = 512

    def before_update(self, lesson: Lesson, labels: list[SoftLabel]) -> None:
        """Price the row before the update, at the parameters that its gradient belongs to."""
        trainer = self.classroom.trainer
        gradients = self._heldout_gradient()
        direction = trainer.logit_direction(lesson.forward, gradients)
        benefits = [
            trainer.block_losses(lesson.forward, labels, block).divergence_along(
                direction[block.start : block.stop]
            )
            for block in lesson.forward.blocks()
        ]
        self._benefit = trainer.distillation.gamma * torch.cat(benefits)

    def _heldout_gradient(self) -> dict[str, Tensor]:
        """Gradient of the mean cross-entropy of a sample of the reward split."""
        trainer = self.classroom.trainer
        return trainer.gradient(self.classroom.withheld_queries(self.sample))

    def after_update(
        self, lesson: Lesson, weights: Weights, report: StepReport | None, ends: NDArray[np.bool_]
    ) -> Rewards:
        """See the class."""
        return self._beneficial(self._benefit)


class HeldOutAdagrad(HeldOut):
    """`heldout` along the step that Adagrad would make: each coordinate by its own step size.

    The update moves a parameter by `−lr·g/√Σg²`, so the held-out gradient is divided by the same
    roots before it prices a row (ours). Without, parameters that have moved much and will hardly
    move again count as much as the others.
    """

    def _heldout_gradient(self) -> dict[str, Tensor]:
        return self.classroom.trainer.preconditioned(super()._heldout_gradient())


class Mixture(Reward):
    """The sum of several rewards, each divided by a running mean of its own spread (ours).

    Args:
        classroom: the world.
        parts: the rewards.
    """

    memory = 0.95

    def __init__(self, classroom: Classroom, parts: Sequence[Reward]) -> None:
        super().__init__(classroom)
        self.parts = parts
        self.needs_control = any(part.needs_control for part in parts)
        self._squares = np.zeros(len(parts))
        self._seen = np.zeros(len(parts))

    def start_episode(self, begins: NDArray[np.bool_]) -> None:
        """Tell the parts."""
        for part in self.parts:
            part.start_episode(begins)

    def before_update(self, lesson: Lesson, labels: list[SoftLabel]) -> None:
        """Tell the parts."""
        for part in self.parts:
            part.before_update(lesson, labels)

    def after_update(
        self, lesson: Lesson, weights: Weights, report: StepReport | None, ends: NDArray[np.bool_]
    ) -> Rewards:
        """See the class."""
        total = np.zeros(len(lesson.rows))
        for index, part in enumerate(self.parts):
            values = part.after_update(lesson, weights, report, ends)
            # Not centred, so that what does not help stays at zero or below.
            self._squares[index] *= self.memory
            self._squares[index] += (1 - self.memory) * float(np.square(values).mean())
            self._seen[index] = self.memory * self._seen[index] + 1 - self.memory
            spread = np.sqrt(self._squares[index] / self._seen[index])
            total += values / max(spread, 1e-12)
        return total


class Validation(Reward):
    """Change of the filtered MRR on the reward split over the episode, in points (·100).

    Paid with the last step of an episode, to every sub-environment for its own one; credit it to
    the earlier steps with a discount of 1. An episode that is left before its last step, as by
    Gymnasium's `TimeLimit` or an early `reset`, pays nothing.
    """

    def __init__(self, classroom: Classroom) -> None:
        super().__init__(classroom)
        self._starts = np.zeros(0)
        self._evaluated: tuple[Trainer, int, float] | None = None

    def _mrr(self) -> float:
        """The student's MRR now; the end of an episode and the beginning of the next share it."""
        trainer = self.classroom.trainer
        known = self._evaluated
        if known is None or known[0] is not trainer or known[1] != trainer.steps:
            known = self._evaluated = (trainer, trainer.steps, self.classroom.withheld_mrr())
        return known[2]

    def snapshot(self) -> Snapshot:
        """See `Reward.snapshot`; where the student stands is worked out again."""
        return {"starts": self._starts.copy()}

    def restore(self, snapshot: Snapshot) -> None:
        """See `Reward.restore`."""
        self._starts, self._evaluated = snapshot["starts"], None

    def start_episode(self, begins: NDArray[np.bool_]) -> None:
        """Remember where the student stands."""
        if len(self._starts) != len(begins):
            self._starts = np.zeros(len(begins))
        self._starts[begins] = self._mrr()

    def after_update(
        self, lesson: Lesson, weights: Weights, report: StepReport | None, ends: NDArray[np.bool_]
    ) -> Rewards:
        """See the class."""
        changes = np.zeros(len(lesson.rows))
        if ends.any():
            changes[ends] = 100 * (self._mrr() - self._starts[lesson.envs[ends]])
        return self._beneficial(torch.from_numpy(changes))


REWARDS: dict[str, Callable[[Classroom], Reward]] = {
    "improvement": Improvement,
    "gate": Gate,
    "filtered_gate": FilteredGate,
    "log_score": LogScore,
    "filtered_log_score": FilteredLogScore,
    "filtered_log_gain": FilteredLogGain,
    "advantage": Advantage,
    "heldout": HeldOut,
    "heldout_adagrad": HeldOutAdagrad,
    "validation": Validation,
}


def make_reward(classroom: Classroom) -> Reward:
    """The reward that the configuration names, or the mixture of those that it names."""
    parts = [REWARDS[name](classroom) for name in classroom.config.rewards]
    return parts[0] if len(parts) == 1 else Mixture(classroom, parts)


def control_rows(classroom: Classroom, batch: int) -> int:
    """How many rows of a batch are the control group; 0 when a fork stands in for it."""
    return int(classroom.config.control_fraction * batch)


def _learned(report: StepReport | None) -> StepReport:
    if report is None:
        raise ValueError("this reward needs a student that learns: wrap with CoTrainStudent")
    return report
