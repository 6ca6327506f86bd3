"""What happens between the choice and the next queries: teaching, or not, and its price."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dsom_env.classroom import Classroom, Lesson, Weights, with_gradients
from dsom_env.rewards import Gate, Reward, control_rows, make_reward
from graphs import Queries
from graphs.csr import IntArray
from students.snapshots import Snapshot

TOP_ANSWERS = 3


@dataclass(frozen=True)
class Outcome:
    """What one step did, in the order of the sub-environments.

    Attributes:
        queries: the queries that were taught.
        rewards: float64 `[batch]`.
        executed: float32 `[batch, teachers]`, the masks that taught; zero for control rows.
        control: bool `[batch]`, rows that were taught by hard labels only, whatever was chosen.
        cross_entropy: float64 `[batch]`, the student's before the update.
        tempering: float32 `[batch]`, of the soft labels that taught (`Lesson`); 1 for control
            rows, and None where nobody had a say in it.
        task: of the queries; None where there is no stream of tasks.
    """

    queries: Queries
    rewards: NDArray[np.float64]
    executed: NDArray[np.float32]
    control: NDArray[np.bool_]
    cross_entropy: NDArray[np.float64]
    tempering: NDArray[np.float32] | None = None
    task: int | None = None


@dataclass(frozen=True)
class Scene:
    """One taught query, for rendering.

    Attributes:
        entity, relation, answer: ids.
        mask: bool `[teachers]`, what was chosen and executed.
        answers: per teacher its top answers, as (entity, probability).
        rank_before, rank_after: the student's filtered rank of the answer; None before a step.
        reward: what the choice earned; None before a step.
        tempering: of the soft label; None before a step, and where nobody had a say in it.
    """

    entity: int
    relation: int
    answer: int
    mask: NDArray[np.bool_]
    answers: tuple[tuple[tuple[int, float], ...], ...]
    rank_before: float | None
    rank_after: float | None
    reward: float | None
    tempering: float | None = None


class TeachFrozen:
    """Steps through queries with a student that does not learn.

    With `cotrain=False` it pays the configured reward; without the wrapper of an environment that
    was to co-train, `gate`, since the configured one may need an update.

    Args:
        classroom: the world.

    Attributes:
        lesson: the queries that wait for a choice.
    """

    lesson: Lesson

    def __init__(self, classroom: Classroom) -> None:
        self.classroom = classroom
        self.reward = self._make_reward()
        self._last: tuple[IntArray, Outcome, Any, Any] | None = None
        # Where the scenes are from: the classroom before, for a moment, when a task has ended.
        self.shown = classroom

    def _make_reward(self) -> Reward:
        return (
            Gate(self.classroom) if self.classroom.config.cotrain else make_reward(self.classroom)
        )

    @with_gradients
    def start_student(self, seed: int, batch: int) -> None:
        """A new student and the first `batch` queries, from `seed` alone."""
        self._enter(self.classroom.first())
        self.classroom.start_student(seed)
        self._last = None
        self._face(self.classroom.stream.take(batch))

    def snapshot(self) -> Snapshot:
        """Everything at this moment, between two steps, for `restore`."""
        return {
            "classroom": self.classroom.snapshot(),
            "reward": self.reward.snapshot(),
            "rows": self.lesson.rows,
            "before": self._before_lesson,
            "observed": self._observation is not None,
        }

    @with_gradients
    def restore(self, snapshot: Snapshot) -> None:
        """Go to where `snapshot` was taken; a student of the same environment was started before.

        Args:
            snapshot: of an environment with the same configuration.
        """
        self._enter(self.classroom.at(snapshot["classroom"]))
        self.classroom.restore(snapshot["classroom"])
        self.reward.restore(snapshot["reward"])
        self._last = None
        # The lesson draws its candidates anew, from where they were drawn.
        self.classroom.candidate_generator.set_state(snapshot["before"])
        self._face(snapshot["rows"])
        if snapshot["observed"]:
            # Logits are computed when somebody first looks, then all at once and not in blocks,
            # which decides their last bits.
            _ = self.observation

    def start_episode(self, begins: NDArray[np.bool_]) -> None:
        """Tell the reward in which sub-environments, bool `[batch]`, an episode begins."""
        self.reward.start_episode(begins)

    def _enter(self, classroom: Classroom) -> None:
        """Go on in another classroom, if it is another one."""
        if classroom is not self.classroom:
            self.classroom = classroom
            self.reward = self._make_reward()

    def _face(self, rows: IntArray) -> None:
        self._before_lesson = self.classroom.candidate_generator.get_state()
        self.lesson = self.classroom.lesson(rows)
        self._observation: NDArray[np.float32] | None = None

    @property
    def observation(self) -> NDArray[np.float32]:
        """Observation of the lesson, float32 `[batch, columns]`; computed when first asked for.

        Policies that do not look at it, and are driven through `step` here, do not pay for it.
        """
        if self._observation is None:
            self._observation = self.classroom.observe(self.lesson)
        return self._observation

    @with_gradients
    def step(
        self,
        masks: Weights,
        acting: NDArray[np.bool_],
        ends: NDArray[np.bool_],
        tempering: NDArray[np.float32] | None = None,
    ) -> Outcome:
        """Teach the acting rows and give them new queries; the others keep theirs.

        Args:
            masks: `[batch, teachers]`.
            acting: bool `[batch]`; rows that are being reset do not act.
            ends: bool `[batch]`; rows whose episode ends with this step.
            tempering: float32 `[batch]`, on top of the configured one; None for no such choice.
        """
        batch = len(acting)
        outcome = Outcome(
            self.lesson.queries,
            np.zeros(batch),
            np.zeros_like(masks),
            np.zeros(batch, dtype=np.bool_),
            np.zeros(batch),
            None if tempering is None else np.ones_like(tempering),
            self.classroom.task,
        )
        if not acting.any():
            return outcome
        rows = self.lesson.rows
        lesson = self.lesson
        if not acting.all():
            lesson = self.classroom.lesson(rows[acting], np.flatnonzero(acting))
        if tempering is not None:
            chosen = torch.from_numpy(tempering[acting]).to(self.classroom.device)
            lesson = replace(lesson, tempering=chosen * lesson.tempering)
        rendering = self.classroom.config.render_mode is not None
        before = self.classroom.rank_of(lesson.queries) if rendering else None
        executed, control = self._execute(masks[acting])
        rewards, outcome.cross_entropy[acting] = self._teach(lesson, executed, ends[acting])
        bonus = self.classroom.config.bonus or 0.0
        outcome.rewards[acting] = rewards + bonus * executed.sum(axis=1, dtype=np.float64)
        outcome.executed[acting], outcome.control[acting] = executed, control
        if outcome.tempering is not None and tempering is not None:
            outcome.tempering[acting] = np.where(control, 1.0, tempering[acting])
        if rendering:
            after = self.classroom.rank_of(lesson.queries)
            self._last = (rows.copy(), outcome, before, after) if acting.all() else None
            self.shown = self.classroom
        before_step = self.classroom
        self._enter(before_step.successor())
        if self.classroom is not before_step:
            # Another task: nobody keeps a query of the old one.
            self._face(self.classroom.stream.take(batch))
            self.start_episode(np.ones(batch, dtype=np.bool_))
            return outcome
        rows = rows.copy()
        rows[acting] = self.classroom.stream.take(int(acting.sum()))
        self._face(rows)
        return outcome

    def _execute(self, masks: Weights) -> tuple[Weights, NDArray[np.bool_]]:
        """The masks that really teach, and which rows are control rows."""
        return masks, np.zeros(len(masks), dtype=np.bool_)

    def _teach(
        self, lesson: Lesson, executed: Weights, ends: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rewards and the student's cross-entropy before the update, `[acting]` each."""
        rewards = self.reward.after_update(lesson, executed, None, ends)
        return rewards, -lesson.forward.answer_log_probs().double().cpu().numpy()

    def scenes(self) -> list[Scene]:
        """What was taught last, or (before any step) what waits to be taught."""
        if self._last is None:
            self.shown = self.classroom
        rows = self.lesson.rows if self._last is None else self._last[0]
        queries = self.shown.queries[rows]
        opinions = self.shown.opinions(rows)
        listed_rows = opinions.rows.numpy()
        scenes = []
        for index in range(len(rows)):
            listed = np.flatnonzero(listed_rows == index)
            tops = []
            for k in range(opinions.log_probs.shape[1]):
                values = opinions.log_probs[listed, k]
                best = values.topk(min(TOP_ANSWERS, len(listed))).indices
                tops.append(
                    tuple(
                        (int(opinions.entities[listed[i]]), float(values[i].exp()))
                        for i in best.tolist()
                    )
                )
            mask = np.zeros(len(tops), dtype=np.bool_)
            before = after = reward = tempering = None
            if self._last is not None:
                mask = self._last[1].executed[index] > 0
                before, after = float(self._last[2][index]), float(self._last[3][index])
                reward = float(self._last[1].rewards[index])
                if self._last[1].tempering is not None:
                    tempering = float(self._last[1].tempering[index])
            scenes.append(
                Scene(
                    int(queries.entities[index]),
                    int(queries.relations[index]),
                    int(queries.answers[index]),
                    mask,
                    tuple(tops),
                    before,
                    after,
                    reward,
                    tempering,
                )
            )
        return scenes


class TeachStudent(TeachFrozen):
    """Steps through queries with a student that learns from every batch."""

    def _make_reward(self) -> Reward:
        return make_reward(self.classroom)

    def _execute(self, masks: Weights) -> tuple[Weights, NDArray[np.bool_]]:
        control = np.zeros(len(masks), dtype=np.bool_)
        count = control_rows(self.classroom, len(masks)) if self.reward.needs_control else 0
        if count:
            picked = torch.randperm(len(masks), generator=self.classroom.generator)[:count]
            control[picked.numpy()] = True
        return np.where(control[:, None], 0.0, masks).astype(np.float32), control

    def _teach(
        self, lesson: Lesson, executed: Weights, ends: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        labels = self.classroom.soft_labels(lesson, executed)
        self.reward.before_update(lesson, labels)
        report = self.classroom.teach(lesson, labels)
        rewards = self.reward.after_update(lesson, executed, report, ends)
        return rewards, report.cross_entropy.double().cpu().numpy()
