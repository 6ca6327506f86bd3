"""DSoM-v0 as a native vector environment: a batch of queries, one shared student."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from dsom_env.actions import action_masks, action_space, decode
from dsom_env.columns import observation_columns
from dsom_env.config import MOST_TEACHERS_FOR_SUBSETS, DSoMConfig, usual_teachers
from dsom_env.objectives import ALONE, COTRAINED, information_columns, objective_name
from graphs import MultimodalGraph, load_graph
from graphs.naming import unknown

if TYPE_CHECKING:
    from dsom_env.lessons import Outcome, TeachFrozen
    from students.snapshots import Snapshot

Observation = NDArray[np.float32]
Array = NDArray[Any]


class DSoMVectorEnv(VectorEnv[Observation, Array, Array]):
    """Choose, for a batch of knowledge-graph queries, which teachers may teach one student.

    ## Description
    Each sub-environment holds one training query `(entity, relation) → answer` per step. The
    action is the set of multimodal teachers whose soft label the unimodal student learns that
    query from (reconstruction of *Dark Side of Modalities*, arXiv 2507.20738; methods.md §1). All
    sub-environments share the student. Wrapped by `CoTrainStudentVector` (as `gym.make_vec` does)
    `step` makes one student update from the whole batch; unwrapped the student is frozen.

    ## Action Space
    `MultiBinary(M)` for `action_mode="mask"`, `MultiDiscrete([2]*M)` for `"multidiscrete"`,
    `Discrete(2**M)` for `"discrete"` (bit `k` is teacher `k`). The empty set is the hard label.
    `Box(-1, 1, (M,))` for `"weights"`, from 0 at -1 to 1 at 1: proportions say how much each
    teacher is heard, the largest weight how strongly the query is taught. `Box(-1, 1, (M + 1,))`
    for `"tempered"` (ours): the same, and in the last column `a` the sharpness of the query's soft
    label `p`, which becomes `p^(1/4^a)`, renormalised: 0 leaves it as it is, -1 sharpens, 1
    flattens. That is on top of the configured `temperature`, which the student's side and the
    loss's factor keep. With `allow_empty=False` choosing nobody is choosing everybody.
    `action_masks()` says which sets have no teacher of a modality that the query's entity lacks.

    ## Observation Space
    `Box` float32 with finite bounds per column; `feature_names` names them:

    | columns | meaning |
    |---|---|
    | `entity_norm`, `relation_norm`, `query_norm` | student's vectors, root mean square |
    | `entity_log_degree`, `answer_log_degree`, `relation_log_count` | training counts, scaled |
    | `reciprocal`, `entity_has_*`, `answer_has_*` | direction; which modalities are there |
    | `relation_code_*` | fixed random code of the relation |
    | `<teacher>_log_p_answer`, `_log_rank`, `_entropy`, `_max_log_p`, `_margin`, | each teacher |
    | `<teacher>_neighbor_mass`, `<teacher>_kl_to_student` | on the query; units of log E |
    | `student_log_p_answer`, `student_entropy`, `student_log_rank` | the student now |
    | `<teacher>_information_student`, `_information_<modality>` | Î(T;S) and Î(T;A) of teachers |
    | (only with `teacher_objective="amid"`) | that were co-trained; units of log E |

    ## Rewards
    `gate` here; with the wrapper any of `dsom_env.rewards.REWARDS`.

    ## Starting State
    `reset(seed=s)` makes a new student and a new order of queries from `s` alone; `reset()` keeps
    the student and goes on with the stream; `options={"reinit_student": True}` makes a new one.
    The same seed and actions give the same bits on a CPU for a fixed number of threads.

    ## Episode End
    Terminates after `horizon` steps; truncated after `max_episode_steps` when that comes first.
    The observation after the last step is the query with which the next episode begins, so no
    query is lost between episodes, whatever the autoreset mode.

    ## Info
    `reset`: `entity`, `relation` and `answer` of the queries that wait for a choice. `step`: those
    of the queries *that were just taught*, and `executed_mask`, `control` (taught by hard labels
    only) and `student_cross_entropy` (before the update); in mode `tempered` also
    `executed_tempering` (`4^a`, and 1 for control rows). So it stays where an episode ends with
    the step: the info is of its last query, under `final_info` too, and not of the query in the
    observation, with which the next one begins. With `next_step`, the step that resets a
    sub-environment teaches it nothing: its entries of `_entity` and the like are false.

    ## Arguments
    See `DSoMConfig`; `num_envs` is the batch size.

    ## Vectorized environment
    This is it; `DSoMEnv` is the same with a batch of one.

    ## Version History
    * v0: first version.
    """

    # Each instance has its own copy, with the autoreset mode that it was made with.
    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["ansi", "rgb_array"],
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    # What arguments are checked by, and the teacher that fuses modalities where none are named.
    config_type: ClassVar[type[DSoMConfig]] = DSoMConfig
    fusing: ClassVar[str] = "fused"

    def __init__(self, num_envs: int = 1, config: DSoMConfig | None = None, **kwargs: Any) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise ValueError(f"num_envs must be a whole number of at least 1, got {num_envs!r}")
        self.config = config or self.config_type.from_kwargs(**kwargs)
        self.num_envs = num_envs
        self.render_mode = self.config.render_mode
        self.graph = _load(self.config)
        self.teachers = _teacher_names(self.config, self.graph, self.fusing)
        modalities = tuple(sorted(self.graph.modalities))
        columns = observation_columns(
            modalities,
            self.teachers,
            self.config.relation_code,
            self.config.hide,
            information_columns(self.config.teacher_objective, self.teachers, modalities),
        )
        self.feature_names = columns.names
        self.single_observation_space = spaces.Box(columns.low, columns.high, dtype=np.float32)
        self.single_action_space = action_space(self.config.action_mode, len(self.teachers))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.autoreset_mode = AutoresetMode[self.config.autoreset_mode.upper()]
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.lessons: TeachFrozen | None = None
        # Set by CoTrainStudentVector; torch is not imported before the first reset.
        self.cotraining = False
        self._elapsed = np.zeros(num_envs, dtype=np.int64)
        self._over = np.zeros(num_envs, dtype=np.bool_)

    @property
    def classroom(self) -> Any:
        """The `Classroom`: graph, store, student, stream. Made at the first `reset`."""
        return self._started().classroom

    def _started(self) -> TeachFrozen:
        if self.lessons is None:
            raise ResetNeeded("call reset before anything else")
        return self.lessons

    def _first_classroom(self) -> Any:
        from dsom_env.classroom import Classroom

        return Classroom(self.config, self.graph, self.teachers)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin new episodes.

        Args:
            seed: makes a new student and a new order of queries; None keeps both, except that
                the first reset draws a seed at random.
            options: `reinit_student` (bool): a new student, from a seed drawn from the
                environment's own generator; `reset_mask` (bool `[num_envs]`): which
                sub-environments begin anew, all by default.

        Returns:
            Observations `[num_envs, columns]` and info.

        Raises:
            ValueError: unknown option, or a mask of the wrong shape.
        """
        super().reset(seed=seed)
        options = options or {}
        for name in options:
            if name not in ("reinit_student", "reset_mask"):
                raise unknown("options", name, ("reinit_student", "reset_mask"))
        mask = np.asarray(options.get("reset_mask", np.ones(self.num_envs, dtype=np.bool_)))
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise ValueError(f"options: reset_mask must be bool [{self.num_envs}]")
        if self.lessons is None:
            from dsom_env.lessons import TeachFrozen, TeachStudent

            teach = TeachStudent if self.cotraining else TeachFrozen
            self.lessons = teach(self._first_classroom())
            if seed is None:
                seed = int(self.np_random.integers(2**31))
        elif seed is None and options.get("reinit_student"):
            seed = int(self.np_random.integers(2**31))
        if seed is not None:
            self.lessons.start_student(seed, self.num_envs)
        self._elapsed[mask] = 0
        self._over[mask] = False
        # A new student has nothing to do with where the old one stood.
        self.lessons.start_episode(mask if seed is None else np.ones_like(mask))
        return self.lessons.observation.copy(), self._query_info()

    def step(self, actions: Array) -> tuple[Observation, Array, Array, Array, dict[str, Any]]:
        """Teach the batch with the chosen teachers and move on to the next queries.

        Args:
            actions: batch of actions.

        Returns:
            Observations `[num_envs, columns]`, rewards float64 `[num_envs]`, terminations,
            truncations bool `[num_envs]`, and info about the queries that were just taught.

        Raises:
            ResetNeeded: before the first reset, or (autoreset disabled) after an episode's end.
            ValueError: an action outside the action space.
        """
        lessons = self._started()
        masks, tempering = decode(
            self.config.action_mode, actions, self.num_envs, len(self.teachers)
        )
        if not self.config.allow_empty:
            masks[~masks.any(axis=1)] = 1.0
        starting = self._over.copy()
        if starting.any() and self.autoreset_mode is AutoresetMode.DISABLED:
            raise ResetNeeded("an episode is over: reset it with options={'reset_mask': ...}")
        acting = ~starting
        self._elapsed[acting] += 1
        terminated = acting & (self._elapsed >= self.config.horizon)
        limit = self.config.max_episode_steps
        truncated = acting & ~terminated
        truncated &= self._elapsed >= limit if limit is not None else False
        over = terminated | truncated

        outcome = lessons.step(masks, acting, over, tempering)
        info = self._step_info(outcome, acting)
        self._elapsed[starting] = 0
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            if over.any():
                # The terminal observation and the first of the new episode are the same query.
                info |= self._final_info(lessons.observation, over, info)
            self._elapsed[over] = 0
            self._over[:] = False
        else:
            self._over = over
        begins = over if self.autoreset_mode is AutoresetMode.SAME_STEP else starting
        if begins.any():
            lessons.start_episode(begins)
        rewards = np.where(acting, outcome.rewards, 0.0)
        return lessons.observation.copy(), rewards, terminated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Actions that are allowed for the queries that wait for one, for invalid action masking.

        Forbidden are sets with the teacher of a modality that the query's entity lacks, unless
        nobody else were left: `Classroom.allowed`. `step` executes forbidden sets all the same; and
        with `allow_empty=False` choosing nobody is choosing everybody, forbidden teachers included.

        Returns:
            bool `[num_envs, 2 * M]`, in mode `discrete` `[num_envs, 2**M]`; see
            `dsom_env.actions.action_masks`.

        Raises:
            ResetNeeded: before the first reset.
            ValueError: actions are weights.
        """
        queries = self._started().lesson.queries
        return action_masks(self.config.action_mode, self.classroom.allowed(queries))

    def _query_info(self) -> dict[str, Any]:
        queries = self._started().lesson.queries
        everyone = np.ones(self.num_envs, dtype=np.bool_)
        info: dict[str, Any] = {}
        for name in ("entity", "relation", "answer"):
            values = {"entity": "entities", "relation": "relations", "answer": "answers"}[name]
            info[name] = getattr(queries, values).copy()
            info[f"_{name}"] = everyone.copy()
        if self.classroom.task is not None:
            info["task"] = np.full(self.num_envs, self.classroom.task)
            info["_task"] = everyone.copy()
        return info

    def _step_info(self, outcome: Outcome, acting: Array) -> dict[str, Any]:
        """Info of a step: about the queries that were taught, not those that come next."""
        columns: dict[str, Array] = {
            "entity": outcome.queries.entities.copy(),
            "relation": outcome.queries.relations.copy(),
            "answer": outcome.queries.answers.copy(),
            "executed_mask": outcome.executed,
            "control": outcome.control,
            "student_cross_entropy": outcome.cross_entropy,
        }
        if outcome.tempering is not None:
            columns["executed_tempering"] = outcome.tempering
        if outcome.task is not None:
            columns["task"] = np.full(self.num_envs, outcome.task)
            columns["next_task"] = np.full(self.num_envs, self.classroom.task)
        info: dict[str, Any] = {}
        for name, values in columns.items():
            info[name] = values
            info[f"_{name}"] = acting.copy()
        return info

    def _final_info(
        self, observation: Observation, over: Array, info: dict[str, Any]
    ) -> dict[str, Any]:
        final = np.full(self.num_envs, None, dtype=object)
        for index in np.flatnonzero(over):
            final[index] = observation[index].copy()
        details = {key: value.copy() for key, value in info.items() if not key.startswith("_")}
        details |= {f"_{key}": over.copy() for key in details}
        return {
            "final_obs": final,
            "_final_obs": over.copy(),
            "final_info": details,
            "_final_info": over.copy(),
        }

    def render(self) -> tuple[Any, ...] | None:
        """One frame per sub-environment: text for `ansi`, uint8 pictures for `rgb_array`.

        A frame shows the query that was taught last: each teacher's top answers, the mask, and
        the student's rank of the answer before and after.
        """
        if self.render_mode is None:
            return None
        from dsom_env.rendering import render_ansi, render_rgb

        draw = render_ansi if self.render_mode == "ansi" else render_rgb
        lessons = self._started()
        scenes, graph = lessons.scenes(), lessons.shown.graph
        return tuple(draw(graph, self.teachers, scene) for scene in scenes)

    def snapshot(self) -> Snapshot:
        """Everything at this moment, between two steps, for `restore`.

        Its kinds of values are those of `students.snapshots`.

        Raises:
            ResetNeeded: before the first reset.
            UnrecordableError: a plugged-in reward remembers what cannot be recorded.
        """
        return {
            "lessons": self._started().snapshot(),
            "elapsed": self._elapsed.copy(),
            "over": self._over.copy(),
            "generator": dict(self.np_random.bit_generator.state),
        }

    def restore(self, snapshot: Snapshot) -> None:
        """Go to where an environment with the same arguments was when `snapshot` was taken.

        Raises:
            ResetNeeded: before the first reset.
        """
        self._started().restore(snapshot["lessons"])
        self._elapsed[:], self._over[:] = snapshot["elapsed"], snapshot["over"]
        self.np_random.bit_generator.state = snapshot["generator"]

    def close_extras(self, **kwargs: Any) -> None:
        """Let the student and the store go."""
        self.lessons = None


def _load(config: DSoMConfig) -> MultimodalGraph:
    try:
        return load_graph(config.dataset)
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"dataset: {error}") from error


def _teacher_names(config: DSoMConfig, graph: MultimodalGraph, fusing: str) -> tuple[str, ...]:
    """The chosen teachers, or the usual ones."""
    usual = usual_teachers(graph, fusing)
    names = usual if config.teachers is None else cast("tuple[str, ...]", config.teachers)
    for name in names:
        if name not in usual:
            from teachers.registry import check_teacher

            # Cross-fitted answers can be asked of no student that was trained already.
            check_teacher(name, graph, max(config.folds, config.judged_folds or 1))
    if isinstance(config.teacher_regularisation, Mapping):
        from teachers.registry import teacher_names

        known = ("default", *teacher_names(graph))
        for name in config.teacher_regularisation:
            if name not in known:
                raise unknown("teacher_regularisation", name, known)
    if objective_name(config.teacher_objective) != ALONE and not set(names) & set(COTRAINED):
        raise ValueError(
            f"teacher_objective trains {' and '.join(COTRAINED)} only, which is not among the "
            f"teachers {', '.join(names)}"
        )
    if config.action_mode == "discrete" and len(names) > MOST_TEACHERS_FOR_SUBSETS:
        raise ValueError(
            f"action_mode 'discrete' has one action per subset: at most "
            f"{MOST_TEACHERS_FOR_SUBSETS} teachers, got {len(names)}; use 'mask'"
        )
    return names
