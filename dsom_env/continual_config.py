"""Everything that `gym.make("DSoM-Continual-v0", ...)` takes beside what DSoM-v0 takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dsom_env.config import DSoMConfig
from dsom_env.objectives import cotraining_of
from graphs.naming import unknown
from graphs.numbers import is_number
from graphs.tasks import ARRIVALS

if TYPE_CHECKING:
    from teachers.attention import AttentionKeeping
    from teachers.pretraining import PretrainingConfig

Method = Literal["finetuning", "replay", "symmetric", "asymmetric", "joint"]
METHODS = ("finetuning", "replay", "symmetric", "asymmetric", "joint")


@dataclass(frozen=True)
class ContinualConfig(DSoMConfig):
    """Arguments of the continual environment; those of `DSoMConfig` mean what they mean there.

    Teachers of a stream are not cross-fitted, so that an agent is paid by default as in the
    method, for the student's improvement, and sees everything.

    Attributes:
        judged_folds: None or 1.
        hide: see `DSoMConfig`.
        tasks: into how many the graph is cut.
        arrival: `relation` or `entity`, see `graphs.tasks.cut_tasks`.
        order: seed of the task order.
        task_epochs: how long a task lasts, in epochs of its training queries, its memory
            included; need not be whole.
        method: what keeps teachers and student from forgetting: `finetuning`, nothing; `replay`, a
            memory of earlier triples; `asymmetric`, that and attention distillation of the teachers
            that fuse; `symmetric`, its ablation; `joint`, all triples so far, which no memory has
            room for.
        replay: triples of each relation in the memory (MSPT: 6 per class).
        attention_weight: of the attention distillation.
        teacher_seed: of the teachers' initial values and batch order. Seeds of `reset` are the
            student's.
    """

    judged_folds: int | None = None
    hide: Sequence[str] = ()
    tasks: int = 5
    arrival: Literal["relation", "entity"] = "relation"
    order: int = 0
    task_epochs: float = 10.0
    method: Method = "asymmetric"
    replay: int = 6
    attention_weight: float = 1.0
    teacher_seed: int = 0

    def __post_init__(self) -> None:
        """Refuse unknown names and values outside their domain.

        Raises:
            ValueError: names the argument, and the nearest valid name where there is one.
        """
        if self.reward is None and self.cotrain:
            object.__setattr__(self, "reward", "improvement")
        super().__post_init__()
        if self.arrival not in ARRIVALS:
            raise unknown("arrival", self.arrival, ARRIVALS)
        if self.method not in METHODS:
            raise unknown("method", self.method, METHODS)
        least = {"tasks": 2, "order": 0, "replay": 0, "teacher_seed": 0}
        for argument, lowest in least.items():
            value = getattr(self, argument)
            if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
                raise ValueError(
                    f"{argument} must be a whole number of at least {lowest}, got {value!r}"
                )
        if not (is_number(self.task_epochs) and self.task_epochs > 0):
            raise ValueError(f"task_epochs must be a positive number, got {self.task_epochs!r}")
        if not (is_number(self.attention_weight) and self.attention_weight >= 0):
            raise ValueError(
                f"attention_weight must be a number ≥ 0, got {self.attention_weight!r}"
            )
        # A replayed triple is in another fold than it was, so that its stranger has learned it.
        for argument in ("folds", "judged_folds"):
            if getattr(self, argument) not in (None, 1):
                raise ValueError(
                    f"{argument} must be 1 in a stream of tasks, whose teachers are not "
                    f"cross-fitted, got {getattr(self, argument)!r}"
                )
        if cotraining_of(self.teacher_objective) is not None:
            raise ValueError(
                "teacher_objective must be cross_entropy in a stream of tasks, whose teachers go "
                f"on from where they ended, got {self.teacher_objective!r}"
            )

    @property
    def keeping(self) -> AttentionKeeping | None:
        """How fused teachers are held to where they looked."""
        if self.method not in ("symmetric", "asymmetric"):
            return None
        # Imports torch, which constructing an environment must not.
        from teachers.attention import AttentionKeeping

        form: Literal["symmetric", "asymmetric"] = (
            "symmetric" if self.method == "symmetric" else "asymmetric"
        )
        return AttentionKeeping(form, float(self.attention_weight))

    @property
    def pretraining(self) -> PretrainingConfig:
        """How the teachers are trained in each task."""
        return dataclasses.replace(super().pretraining, seed=self.teacher_seed)
