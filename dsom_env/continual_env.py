"""DSoM-Continual-v0: the graph grows task by task while the agent keeps choosing."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym

from dsom_env.config import DSoMConfig
from dsom_env.continual_config import ContinualConfig
from dsom_env.cotraining import CoTrainStudent, CoTrainStudentVector
from dsom_env.env import DSoMEnv
from dsom_env.vector_env import DSoMVectorEnv, Observation
from graphs.tasks import cut_tasks


class DSoMContinualVectorEnv(DSoMVectorEnv):
    """Choose, for a batch of queries of a graph that grows, which teachers may teach one student.

    ## Description
    `DSoMVectorEnv` over a stream of tasks that are cut from a graph by the arrival of relations or
    of entities (`graphs.tasks.cut_tasks`). Teachers and student learn task by task (after MSPT,
    arXiv 2305.08698; methods.md §6): when a task is over, the teachers are trained on the next one
    from where they stood, the student's tables grow and keep their old rows, and the queries are
    the next task's. The agent just goes on: columns and actions stay what they are, and episodes
    run through. Entities and relations that do not exist yet are no candidates anywhere: not in a
    loss, not in what teachers say, and not in a ranking.

    ## Action Space, Observation Space, Rewards
    As in `DSoMVectorEnv`; a relation keeps its code in all tasks. The teachers are by default
    `structure`, one per modality, and `attentive` in place of `fused`.

    ## Starting State
    `reset(seed=s)` makes a new student and begins with the first task; `reset()` keeps the student
    and the task; `options={"reinit_student": True}` makes a new one and begins with the first task.

    ## Episode End
    As in `DSoMVectorEnv`. A task lasts `task_epochs` epochs of its training queries, whatever the
    episodes; the last task does not end. With the reward `validation` an episode across a change of
    task is paid from the change on.

    ## Info
    That of `DSoMVectorEnv`, and `task`: from 0, the task of the queries in the info; in `step` also
    `next_task`, that of the queries in the observation. Entities keep their ids in all tasks, and
    so do relations below `R`; reciprocals are `r + R` with the `R` of the query's task:
    `classroom.graph` has the labels.

    ## Arguments
    See `ContinualConfig` and `DSoMConfig`.

    ## Version History
    * v0: first version.
    """

    config: ContinualConfig
    config_type: ClassVar[type[DSoMConfig]] = ContinualConfig
    fusing: ClassVar[str] = "attentive"

    def __init__(
        self, num_envs: int = 1, config: ContinualConfig | None = None, **kwargs: Any
    ) -> None:
        super().__init__(num_envs, config, **kwargs)
        settings = self.config
        self.tasks = cut_tasks(self.graph, settings.tasks, settings.arrival, settings.order)
        self.graph = self.tasks.graph

    def _first_classroom(self) -> Any:
        from dsom_env.course import TaskClassroom

        return TaskClassroom(self.config, self.tasks, self.teachers)


class DSoMContinualEnv(DSoMEnv):
    """`DSoMContinualVectorEnv` with a batch of one, as `DSoMEnv` is `DSoMVectorEnv` with one."""

    vector_type: ClassVar[type[DSoMVectorEnv]] = DSoMContinualVectorEnv


def make(**kwargs: Any) -> gym.Env[Observation, Any]:
    """Entry point of `gym.make("DSoM-Continual-v0")`, wrapped as DSoM-v0 is."""
    env = DSoMContinualEnv(**kwargs)
    return CoTrainStudent(env) if env.config.cotrain else env


def make_vec(num_envs: int = 1, **kwargs: Any) -> Any:
    """Entry point of `gym.make_vec("DSoM-Continual-v0")`, which adds no wrappers of its own."""
    env = DSoMContinualVectorEnv(num_envs, **kwargs)
    return CoTrainStudentVector(env) if env.config.cotrain else env
