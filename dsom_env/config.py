"""Everything that `gym.make("DSoM-v0", ...)` takes, checked before anything is computed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dsom_env.columns import GROUPS
from dsom_env.objectives import ALONE, cotraining_of
from graphs import MultimodalGraph
from graphs.naming import unknown
from graphs.numbers import is_number

if TYPE_CHECKING:
    from teachers.pretraining import PretrainingConfig

ACTION_MODES = ("mask", "multidiscrete", "discrete", "weights", "tempered")
AUTORESET_MODES = ("same_step", "next_step", "disabled")
RENDER_MODES = ("ansi", "rgb_array")
COMBINATIONS = ("log_probs", "probs", "per_teacher")
# What ships; other names are looked up in the registries, whose modules import torch. So that
# `gym.make` with built-in names answers at once, they are imported only then.
BUILT_IN_REWARDS = (
    "improvement",
    "gate",
    "filtered_gate",
    "log_score",
    "filtered_log_score",
    "filtered_log_gain",
    "advantage",
    "heldout",
    "heldout_adagrad",
    "validation",
)
# What teachers say decides these, so that they are paid where the student does not learn, too.
FROZEN_REWARDS = (
    "gate",
    "filtered_gate",
    "log_score",
    "filtered_log_score",
    "filtered_log_gain",
)
# Where `bonus` is not given; 0 for the others, and for mixtures. In the unit of each.
USUAL_BONUS = {"log_score": 0.02, "filtered_log_score": 0.02, "filtered_log_gain": 0.1}
# These withhold training triples from the student, to see what teaching does to them.
WITHHOLDING_REWARDS = ("heldout", "heldout_adagrad", "validation")
BUILT_IN_STUDENTS = ("complex", "distmult", "rotate", "transh", "refh", "roth", "atth")
# Scorers that turn pairs of coordinates.
OF_EVEN_RANK = ("refh", "roth", "atth")
NEIGHBORS = ("one_hop", "same_relation", "answer")
PARTITIONS = ("two_way", "three_way")
MODULATIONS = ("own", "mspt")
# More subsets than this would make one output per subset absurd.
MOST_TEACHERS_FOR_SUBSETS = 12


# A typing error must not ask for more memory than a machine has; what else counts, counts steps.
MOST = {"rank": 10_000, "teacher_rank": 10_000, "relation_code": 10_000, "folds": 1000}
MOST |= {"judged_folds": MOST["folds"], "top_k": 2**31}
MOST_STEPS = 10**9
MOST_CANDIDATES = 100_000
_DEVICE = re.compile(r"auto|(cpu|cuda|mps|xpu)(:[0-9]{1,2})?")
# Of queries per update, which are sub-environments as well.
MOST_BATCH = 2**18


class UnknownKeywordError(ValueError, TypeError):
    """A keyword that does not exist.

    It is a `TypeError` too, and in Python's own words: TorchRL's `GymEnv` tries `frameskip` first,
    and looks whether it is refused like that.
    """


@dataclass(frozen=True)
class DSoMConfig:
    """Arguments of the environment; all JSON types, so that a spec can be saved.

    Attributes:
        dataset: name or path for `load_graph`, or a graph.
        teachers: names, in the order of the action; None for all that the graph can have.
        reward: see `dsom_env.rewards`; `a+b` is the sum of two, each in units of its own spread.
        action_mode: `mask` (`MultiBinary(M)`), `multidiscrete` (`MultiDiscrete([2]*M)`),
            `discrete` (`Discrete(2**M)`, bit `k` chooses teacher `k`), `weights`
            (`Box(-1, 1, (M,))`) or `tempered` (`Box(-1, 1, (M + 1,))`: weights, and how sharp
            the soft label is); see `dsom_env.actions`.
        allow_empty: whether choosing nobody means the hard label; without, it means everybody.
        relation_code: width of the fixed random code by which the observation names the relation;
            the wider, the better a policy tells relations apart.
        hide: groups of columns that the observation leaves out, see `dsom_env.columns.GROUPS`.
        horizon: steps of an episode, after which it terminates.
        max_episode_steps: steps after which an episode is truncated; None for never. `gym.make`
            does not hand it on, see `DSoMEnv`.
        autoreset_mode: of the vector environment: `same_step`, `next_step` or `disabled`.
        cotrain: whether the student learns inside `step`; without, it is frozen.
        student: name of the student's scorer.
        rank: dimensions of the student: complex ones of `complex` and `rotate`, half the width of
            `distmult`, real ones of the hyperbolic scorers.
        learning_rate: of the student's Adagrad.
        regularisation: the student's λ of N3.
        gamma: weight of the distillation; this and the next six are described in
            `students.distillation.DistillationConfig`.
        alpha: weight inside the neighbors.
        beta: weight of the non-neighbors.
        temperature: of both sides of the distillation.
        neighbors: which entities these are.
        partition: into two parts, or three.
        beta_warmup: epochs until `beta` is whole.
        combination: how chosen teachers become a soft label, see `Opinions.soft_labels`.
        tempering: factor on the temperature of the teachers alone: below 1 they sound surer than
            they are, above 1 less; `temperature` comes on top, for them and the student (ours).
        folds: 1 for soft labels from the teachers' in-sample answers, K ≥ 2 from cross-fitted ones.
        judged_folds: the same for the answers by which teachers are judged: what the state shows of
            them and what `gate` pays for. In-sample these are memory. None for those that teach.
        top_k: entities that the store lists per teacher; None for exact logits.
        candidates: how many of the student's own best entities a soft label is about, beside the
            answer and `random_candidates` others; None for all entities. See `dsom_env.junior`.
        random_candidates: how many further entities, drawn at random for every query.
        sampled: how many entities beside the batch's answers an update is about, drawn anew for
            each, where a softmax over all is too slow; None for all. Needs `candidates`. See
            `students.sampling`.
        teacher_rank: dimensions of the teachers, as `rank`.
        teacher_learning_rate: of their Adagrad.
        teacher_regularisation: their λ of N3: a number, or numbers by teacher's name and, for
            the others, by `default`.
        teacher_batch: queries per update while they are trained.
        teacher_epochs: most epochs of their training, which valid may end earlier.
        teacher_sampled: as `sampled`, while they are trained.
        teacher_objective: `cross_entropy`, or `amid`, by which `fused` is trained together with a
            small student and one model per modality (docs/amid.md); or settings of
            `teachers.amid.CotrainingConfig` beside its name, as {name: amid, student: 0}.
        teacher_modulation: how teachers that fuse modalities hold the dominant one back: None,
            `own` or `mspt`, see `teachers.modulation`.
        teacher_modulation_alpha: how much.
        only_beneficial: whether negative rewards are cut to 0.
        bonus: paid on top of the reward for every teacher that teaches, by its weight, in units of
            the reward: a leaning towards ensembles, which a score of the query's own answer breaks
            up (ours). A teacher is then left out where it does more harm than this. None for 0.1
            nats with `filtered_log_gain`, 0.02 with the log-scores, 0 with the other rewards.
        control_fraction: share of the batch that is taught by hard labels only, as the control
            group of `improvement`. A batch too small for one control row is compared with a
            fork of the student that made the hard-label update instead.
        reward_fraction: share of the training triples withheld from the student as the reward
            split; None for 0.05 with the rewards that need it and 0 with the others.
        render_mode: None, `ansi` or `rgb_array`.
        device: `auto`, `cpu` or a CUDA device.
        verbose: whether slow first-time work (training teachers, filling the store) is reported.
    """

    dataset: str | Path | MultimodalGraph = "emoji"
    teachers: Sequence[str] | None = None
    reward: str | None = None
    action_mode: str = "mask"
    allow_empty: bool = True
    relation_code: int = 8
    hide: Sequence[str] = ("answer",)
    horizon: int = 64
    max_episode_steps: int | None = None
    autoreset_mode: str = "same_step"
    cotrain: bool = True
    student: str = "complex"
    rank: int = 32
    learning_rate: float = 0.1
    regularisation: float = 0.01
    gamma: float = 3.0
    alpha: float | Literal["mass"] = "mass"
    beta: float | Literal["mass"] = "mass"
    temperature: float = 2.0
    neighbors: Literal["one_hop", "same_relation", "answer"] = "one_hop"
    partition: Literal["two_way", "three_way"] = "two_way"
    beta_warmup: float = 0.0
    combination: Literal["log_probs", "probs", "per_teacher"] = "log_probs"
    tempering: float = 1.0
    folds: int = 1
    judged_folds: int | None = 3
    top_k: int | None = 64
    candidates: int | None = None
    random_candidates: int = 64
    sampled: int | None = None
    teacher_rank: int = 64
    teacher_learning_rate: float = 0.1
    teacher_regularisation: float | Mapping[str, float] = 0.02
    teacher_batch: int = 512
    teacher_epochs: int = 60
    teacher_sampled: int | None = None
    teacher_objective: str | Mapping[str, Any] = ALONE
    teacher_modulation: str | None = None
    teacher_modulation_alpha: float = 0.2
    only_beneficial: bool = True
    bonus: float | None = None
    control_fraction: float = 0.0625
    reward_fraction: float | None = None
    render_mode: str | None = None
    device: str = "auto"
    verbose: bool = False

    def __post_init__(self) -> None:
        """Refuse unknown names and values outside their domain.

        Raises:
            ValueError: names the argument, and the nearest valid name where there is one.
        """
        if self.reward is None:
            object.__setattr__(self, "reward", "filtered_log_gain" if self.cotrain else "gate")
        if self.bonus is None:
            object.__setattr__(self, "bonus", USUAL_BONUS.get(str(self.reward), 0.0))
        if not isinstance(self.dataset, (str, Path, MultimodalGraph)):
            raise ValueError(f"dataset must be a name, a path or a graph, got {self.dataset!r}")
        choices: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
            ("action_mode", self.action_mode, ACTION_MODES),
            ("autoreset_mode", _mode_name(self.autoreset_mode), AUTORESET_MODES),
            ("combination", self.combination, COMBINATIONS),
            ("neighbors", self.neighbors, NEIGHBORS),
            ("partition", self.partition, PARTITIONS),
        )
        for argument, value, valid in choices:
            if value not in valid:
                raise unknown(argument, value, valid)
        for part in self.rewards:
            if part not in BUILT_IN_REWARDS:
                from dsom_env.rewards import REWARDS

                if part not in REWARDS:
                    raise unknown("reward", part, REWARDS)
        if self.student not in BUILT_IN_STUDENTS:
            from students.registry import STUDENTS

            if str(self.student) not in STUDENTS:
                raise unknown("student", self.student, STUDENTS)
        if self.teacher_modulation is not None and self.teacher_modulation not in MODULATIONS:
            raise unknown("teacher_modulation", self.teacher_modulation, MODULATIONS)
        if not isinstance(self.device, str) or not _DEVICE.fullmatch(self.device):
            raise ValueError(
                f"device must be auto, cpu, cuda or a device of torch such as cuda:0, "
                f"got {self.device!r}"
            )
        if self.render_mode is not None and self.render_mode not in RENDER_MODES:
            raise unknown("render_mode", self.render_mode, RENDER_MODES)
        object.__setattr__(self, "autoreset_mode", _mode_name(self.autoreset_mode))
        counts = ("horizon", "relation_code", "rank", "folds")
        for argument in (*counts, "teacher_rank", "teacher_batch", "teacher_epochs"):
            _require_count(argument, getattr(self, argument))
        optional = ("judged_folds", "max_episode_steps", "top_k", "sampled", "teacher_sampled")
        for argument in optional:
            if getattr(self, argument) is not None:
                _require_count(argument, getattr(self, argument))
        self._check_numbers()
        if not (self.cotrain or all(part in FROZEN_REWARDS for part in self.rewards)):
            raise ValueError(
                f"reward {self.reward!r} needs a student that learns; with cotrain=False it must "
                f"be one of {', '.join(FROZEN_REWARDS)}"
            )
        self._check_teachers()
        cotrained = self.teacher_objective != ALONE and cotraining_of(self.teacher_objective)
        if cotrained and self.teacher_modulation is not None:
            raise ValueError(
                "teacher_modulation must be None where teacher_objective is not cross_entropy: "
                f"co-trained teachers are not modulated, got {self.teacher_modulation!r}"
            )
        if cotrained and self.teacher_sampled is not None:
            raise ValueError(
                "teacher_sampled must be None where teacher_objective is not cross_entropy: "
                f"co-trained teachers learn among all entities, got {self.teacher_sampled!r}"
            )
        self._check_sizes()
        object.__setattr__(self, "hide", _names("hide", self.hide))
        for group in self.hide:
            if group not in GROUPS:
                raise unknown("hide", group, GROUPS)
        if self._withholds and self.reward_fraction == 0:
            raise ValueError(f"reward {self.reward!r} needs a reward_fraction above 0")

    def _check_numbers(self) -> None:
        for argument in ("allow_empty", "cotrain", "only_beneficial", "verbose"):
            if not isinstance(getattr(self, argument), bool):
                raise ValueError(
                    f"{argument} must be true or false, got {getattr(self, argument)!r}"
                )
        for argument in ("control_fraction", "reward_fraction"):
            value = getattr(self, argument)
            if value is not None and not (is_number(value) and 0 <= value < 1):
                raise ValueError(f"{argument} must lie in [0, 1), got {value!r}")
        for argument in ("learning_rate", "temperature", "tempering", "teacher_learning_rate"):
            value = getattr(self, argument)
            if not (is_number(value) and value > 0):
                raise ValueError(f"{argument} must be a positive number, got {value!r}")
        for name, value in _by_name(self.teacher_regularisation).items():
            if not (is_number(value) and value >= 0):
                raise ValueError(
                    f"teacher_regularisation of {name} must be a number ≥ 0, got {value!r}"
                )
        weights = ("regularisation", "gamma", "beta_warmup", "bonus", "teacher_modulation_alpha")
        for argument in (*weights, "alpha", "beta"):
            value = getattr(self, argument)
            if argument in ("alpha", "beta") and value == "mass":
                continue
            if not (is_number(value) and value >= 0):
                mass = " or 'mass'" if argument in ("alpha", "beta") else ""
                raise ValueError(f"{argument} must be a number ≥ 0{mass}, got {value!r}")

    def _check_sizes(self) -> None:
        for name, rank in (
            (self.student, "rank"),
            *((t, "teacher_rank") for t in self.teachers or ()),
        ):
            if name in OF_EVEN_RANK and getattr(self, rank) % 2:
                raise ValueError(
                    f"{rank}: {name} turns pairs of coordinates, so it must be even, got "
                    f"{getattr(self, rank)}"
                )
        for argument in ("candidates", "random_candidates"):
            value = getattr(self, argument)
            none = argument == "candidates" and value is None
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not none and not (whole and 0 <= value <= MOST_CANDIDATES):
                raise ValueError(
                    f"{argument} must be a whole number from 0 to {MOST_CANDIDATES}, got {value!r}"
                )
        if self.candidates == 0 and self.random_candidates == 0:
            raise ValueError("candidates and random_candidates: a soft label needs some of either")
        if self.sampled is not None and self.candidates is None:
            raise ValueError(
                f"sampled={self.sampled} needs candidates: a soft label about all entities cannot "
                "be learned from a sample"
            )

    def _check_teachers(self) -> None:
        if self.teachers is None:
            return
        object.__setattr__(self, "teachers", _names("teachers", self.teachers))
        if not self.teachers:
            raise ValueError("teachers must be at least one, got none")
        if self.action_mode == "discrete" and len(self.teachers) > MOST_TEACHERS_FOR_SUBSETS:
            raise ValueError(
                f"action_mode 'discrete' has one action per subset: at most "
                f"{MOST_TEACHERS_FOR_SUBSETS} teachers, got {len(self.teachers)}; use 'mask'"
            )

    @property
    def withheld(self) -> float:
        """Share of the training triples in the reward split."""
        if self.reward_fraction is not None:
            return self.reward_fraction
        return 0.05 if self._withholds else 0.0

    @property
    def rewards(self) -> tuple[str, ...]:
        """The rewards whose sum is paid."""
        return tuple(str(self.reward).split("+"))

    @property
    def _withholds(self) -> bool:
        return any(part in WITHHOLDING_REWARDS for part in self.rewards)

    @property
    def pretraining(self) -> PretrainingConfig:
        """How the teachers are trained: the one place where `teacher_*` gets its meaning."""
        # Imports torch, which constructing an environment must not.
        from teachers.modulation import Modulation
        from teachers.pretraining import PretrainingConfig

        form: Any = self.teacher_modulation
        alpha = float(self.teacher_modulation_alpha)
        penalties = {k: float(v) for k, v in _by_name(self.teacher_regularisation).items()}
        # 1 and 1.0 are the same learning rate, but would not be the same key of the cache.
        return PretrainingConfig(
            rank=self.teacher_rank,
            learning_rate=float(self.teacher_learning_rate),
            regularisation=penalties.pop("default", PretrainingConfig.regularisation),
            regularisation_of=penalties,
            batch_size=self.teacher_batch,
            max_epochs=self.teacher_epochs,
            sampled=self.teacher_sampled,
            cotraining=cotraining_of(self.teacher_objective),
            modulation=Modulation(form, alpha) if form else None,
            device=self.device,
        )

    @classmethod
    def from_kwargs(cls, **kwargs: Any) -> DSoMConfig:
        """A config from keyword arguments.

        Raises:
            UnknownKeywordError: a keyword does not exist; names the nearest one that does.
        """
        valid = [field.name for field in dataclasses.fields(cls)]
        for name in kwargs:
            if name not in valid:
                raise UnknownKeywordError(
                    f"{unknown('keyword', name, valid)} (unexpected keyword argument {name!r})"
                )
        return cls(**kwargs)

    def to_json(self) -> Mapping[str, Any]:
        """The arguments as JSON types; a graph object is given by its name."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        dataset = self.dataset
        plain["dataset"] = dataset.name if isinstance(dataset, MultimodalGraph) else str(dataset)
        plain["teachers"] = list(self.teachers) if self.teachers is not None else None
        return plain


def usual_teachers(graph: MultimodalGraph, fusing: str = "fused") -> tuple[str, ...]:
    """The teachers of a graph where none are named: `structure`, its modalities, all of them."""
    modalities = tuple(sorted(graph.modalities))
    # A modality may have the name of a teacher of the registry, which then is what it means.
    return tuple(dict.fromkeys(("structure", *modalities, *((fusing,) if modalities else ()))))


def _by_name(value: object) -> Mapping[str, Any]:
    """Values by name; a single one is everybody's."""
    return value if isinstance(value, Mapping) else {"default": value}


def _names(argument: str, value: object) -> tuple[str, ...]:
    """Distinct names, as a tuple.

    Raises:
        ValueError: something else.
    """
    if (
        isinstance(value, str)
        or not isinstance(value, Sequence)
        or not all(isinstance(name, str) for name in value)
    ):
        raise ValueError(f"{argument} must be a list of names, got {value!r}")
    if len(set(value)) != len(value):
        raise ValueError(f"{argument} must be distinct, got {value!r}")
    return tuple(value)


def _mode_name(mode: object) -> str:
    """Name of an autoreset mode given as a string or as Gymnasium's enum."""
    name = getattr(mode, "name", mode)
    return str(name).lower().replace("-", "_")


def _require_count(argument: str, value: object) -> None:
    most = MOST.get(argument, MOST_STEPS)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(
            f"{argument} must be a whole number of at least 1 and at most {most}, got {value!r}"
        )
