"""A classroom for each task of a stream: what is taught in it, and who goes on to the next."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dsom_env.classroom import Classroom, derived_seed, say
from dsom_env.continual_config import ContinualConfig
from dsom_env.state import relation_codes
from dsom_env.stream import reward_split, taught_graph
from graphs import MultimodalGraph
from graphs.csr import IntArray
from graphs.tasks import TaskStream
from students.evaluation import ScoreFunction, ranking_metrics, ranking_of
from students.growing import adagrad_sums, inherit
from students.scorer import Scorer
from students.snapshots import Snapshot
from teachers.lineage import lineage_store, load_descendant
from teachers.store import TeacherStore


def training_rows(config: ContinualConfig, tasks: TaskStream, task: int) -> IntArray:
    """What is learned from in a task: positions among the training triples of the whole graph.

    The task's own triples come first, the reward split among them; then, by `config.method`, the
    memory of what was taught in earlier tasks, all of it, or nothing.
    """
    own = tasks.rows(task)
    if config.method == "finetuning" or not task:
        return own
    earlier = [tasks.rows(number) for number in range(task)]
    # What was withheld stays withheld: a memory must not whisper it.
    taught = np.concatenate(
        [np.delete(rows, reward_split(len(rows), config.withheld)) for rows in earlier]
    )
    if config.method != "joint":
        taught = tasks.memory(taught, config.replay)
    return np.concatenate([own, taught])


def training_graph(config: ContinualConfig, tasks: TaskStream, task: int) -> MultimodalGraph:
    """The graph that a task's lessons are taken from, over all that exists by then.

    Its valid triples, on which teachers stop early, are the task's own; with `joint` all so far.
    """
    joint = config.method == "joint"
    rows = {
        "train": training_rows(config, tasks, task),
        "valid": tasks.rows_until(task, "valid") if joint else tasks.rows(task, "valid"),
        "test": tasks.rows(task, "test"),
    }
    return tasks.at(task, rows)


def ranks_by_task(
    score: ScoreFunction, tasks: TaskStream, seen: MultimodalGraph, task: int, split: str
) -> list[NDArray[np.float64]]:
    """Filtered ranks on each task so far, as the last of them leaves the world.

    Candidates are the entities that exist by then, and left out of a rank are the answers of all
    tasks by then.

    Args:
        score: see `students.evaluation.ranking_of`.
        tasks: the stream.
        seen: `tasks.seen(task)`.
        task: the newest.
        split: `valid` or `test`.

    Returns:
        Per task, from the first to the newest, float64 `[queries]`.
    """
    _, ranks = ranking_of(score, seen, split)
    owners = np.tile(tasks.task_of[split][tasks.rows_until(task, split)], 2)
    return [ranks[owners == number] for number in range(task + 1)]


class TaskClassroom(Classroom):
    """The classroom of one task.

    Args:
        config: arguments of the environment.
        tasks: the stream.
        teachers: names, in the order of the action.
        task: which, from 0.

    Attributes:
        tasks: the stream.
        task: which.
        seen: all tasks so far.
    """

    config: ContinualConfig
    task: int

    def __init__(
        self, config: ContinualConfig, tasks: TaskStream, teachers: tuple[str, ...], task: int = 0
    ) -> None:
        self.tasks, self.task = tasks, task
        super().__init__(config, training_graph(config, tasks, task), teachers)

    def own_triples(self, graph: MultimodalGraph) -> int:
        """How many of the training triples, the first ones, are no memory."""
        return len(self.tasks.rows(self.task))

    @cached_property
    def taught_graphs(self) -> list[MultimodalGraph]:
        """What is taught in this task and in those before it, reward splits left out."""
        config, tasks = self.config, self.tasks
        graphs = [training_graph(config, tasks, number) for number in range(self.task + 1)]
        own = [len(tasks.rows(number)) for number in range(self.task + 1)]
        return [taught_graph(g, config.withheld, n) for g, n in zip(graphs, own, strict=True)]

    def open_store(self, folds: int) -> TeacherStore:
        """The teachers' answers to the queries at `taught_rows`, in their order."""
        config = self.config
        report = say if config.verbose else None
        return lineage_store(
            self.taught_graphs,
            self.teachers,
            config.pretraining,
            config.keeping,
            config.top_k,
            report,
        )

    def teacher(self, name: str) -> Scorer:
        """A teacher as it teaches in this task."""
        config = self.config
        return load_descendant(self.taught_graphs, name, config.pretraining, config.keeping).scorer

    def codes(self) -> NDArray[np.float32]:
        """Each relation has the code that it will have in all tasks."""
        every = relation_codes(self.tasks.graph.num_relations, self.config.relation_code)
        forward, backward = np.split(every, 2)
        exist = self.graph.num_relations
        return np.concatenate([forward[:exist], backward[:exist]])

    @cached_property
    def seen(self) -> MultimodalGraph:
        """All tasks so far: what they are measured on."""
        return self.tasks.seen(self.task)

    def ranks_by_task(self, split: str) -> list[NDArray[np.float64]]:
        """The student's, see the function of this name."""
        return ranks_by_task(self.trainer.score, self.tasks, self.seen, self.task, split)

    def evaluate_seen(self, split: str) -> dict[str, float]:
        """The student's filtered ranking metrics on all tasks so far, every query counting once."""
        return ranking_metrics(np.concatenate(self.ranks_by_task(split)))

    def start_student(self, seed: int) -> None:
        """A new student and a new order of queries, from `seed` alone."""
        self.seed = seed
        super().start_student(self._own_seed)

    @property
    def _own_seed(self) -> int:
        return derived_seed(self.seed, f"task {self.task}") if self.task else self.seed

    def at(self, snapshot: Snapshot) -> TaskClassroom:
        """The classroom of a snapshot's task, with a new student."""
        task, seed = snapshot["task"], snapshot["seed"]
        if task == self.task:
            return self
        other = TaskClassroom(self.config, self.tasks, self.teachers, task)
        other.start_student(seed)
        return other

    def snapshot(self) -> Snapshot:
        """See `Classroom.snapshot`; and which task it is."""
        return {**super().snapshot(), "task": self.task, "seed": self.seed}

    def stranger(self) -> Scorer:
        """What the student would be here without the tasks before."""
        return self.new_student(self._own_seed)

    @property
    def spent(self) -> bool:
        """Whether as many queries were dealt as the task is long: those that wait are its last."""
        return self.stream.dealt >= self.config.task_epochs * len(self.taught_rows)

    def first(self) -> TaskClassroom:
        """The classroom of the first task."""
        return TaskClassroom(self.config, self.tasks, self.teachers) if self.task else self

    def successor(self) -> TaskClassroom:
        """The classroom of the next task once this one is over; the last one never is.

        The student goes on with all it has learned, its optimiser's sums included.
        """
        if not self.spent or self.task + 1 == len(self.tasks):
            return self
        following = TaskClassroom(self.config, self.tasks, self.teachers, self.task + 1)
        following.start_student(self.seed)
        before, trainer = self.trainer, following.trainer
        inherit(trainer, before.scorer, adagrad_sums(before))
        trainer.steps, trainer.seen_queries = before.steps, before.seen_queries
        return following
