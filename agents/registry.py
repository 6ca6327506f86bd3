"""The zoo: every agent by name. Adding one is a class and a line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sb3_contrib import QRDQN, TRPO, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3

from agents.bandits import LinearThompson, LinUCB, NeuralEpsilonGreedy
from agents.frozen import Frozen
from agents.mtkd_rl import MTKDRL
from agents.names import SINGLE, THEN, TRAINED, base_agent
from agents.oracles import GreedyOracle, PlantedOracle, RelationOracle, Tabular
from agents.policies import (
    BestTeacher,
    Complement,
    Constant,
    Cycle,
    FixedMask,
    MaskPolicy,
    RandomMask,
    RandomOnce,
    RandomRelation,
    RelationMask,
    Then,
)
from agents.reinforce import Reinforce
from agents.rl_kd import RLKD
from agents.senior import Senior
from agents.stacking import Stacked
from agents.td3 import BoundedTD3
from agents.trained import OF_A_POLICY, folder_of_trained, read_trained
from dsom_env.config import ACTION_MODES
from dsom_env.vector_env import DSoMVectorEnv
from graphs.naming import unknown


@dataclass(frozen=True)
class Constraint:
    """Arguments of an algorithm that have to fit together.

    Attributes:
        names: which.
        check: raises ValueError, from the number of sub-environments and these arguments by name.
    """

    names: tuple[str, ...]
    check: Callable[..., object]


@dataclass(frozen=True)
class AgentSpec:
    """What an agent is.

    Attributes:
        summary: one line for `--help`.
        policy: makes a policy that Stable-Baselines3 does not drive, from its `arguments` by name;
            None for a learner.
        learner: makes a Stable-Baselines3 algorithm, or what is driven as one (`PerQueryLearner`),
            from (env, horizon, policy arguments, algorithm arguments); None for a policy that does
            not learn.
        teachers: replaces the teachers of the comparison; None for all of them.
        hyperparameters: the learner's YAML, as text; None for the file named after the agent in
            `agents/hyperparameters`.
        action_modes: those that the learner can act in.
        oracle: whether it knows what no agent can know when it chooses, so that it is a bound and
            no rival: head-room is measured up to the best of these.
        cross_fitted: whether it asks teachers that did not train on the query's triple, in whatever
            way those of the environment are asked.
        arguments: what a search space or a variant may name in section `algorithm`, beside what
            the YAML does.
        constraint: see `Constraint`; None where everything fits.
        environment: arguments of the environment that a policy needs, by name; a learner's are in
            its YAML.
        check: raises ValueError for an environment that a policy cannot choose in; None where it
            can in any.
        code: hash of what else decides its choices, as the weights of a trained agent; None for
            nothing.
    """

    summary: str
    policy: Callable[..., MaskPolicy] | None = None
    learner: Callable[..., Any] | None = None
    teachers: tuple[str, ...] | None = None
    hyperparameters: str | None = None
    action_modes: tuple[str, ...] = ACTION_MODES
    oracle: bool = False
    cross_fitted: bool = False
    arguments: frozenset[str] = frozenset()
    constraint: Constraint | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    check: Callable[[DSoMVectorEnv], None] | None = None
    code: str | None = None


def _sb3(algorithm: type[Any]) -> Callable[..., Any]:
    def make(env: Any, horizon: int, policy_kwargs: dict[str, Any], **kwargs: Any) -> Any:
        return algorithm("MlpPolicy", env, policy_kwargs=policy_kwargs, **kwargs)

    return make


def _minibatch_size(num_envs: int, n_steps: int, minibatches: int) -> int:
    # Given as a number of parts, minibatches divide the rollout whatever the batch of the student.
    size = n_steps * num_envs
    if size % minibatches:
        raise ValueError(f"minibatches: {minibatches} do not divide a rollout of {size}")
    if size == minibatches:
        # Their advantages are normalised.
        raise ValueError(f"minibatches: {minibatches} of a rollout of {size} hold one step each")
    return size // minibatches


def _in_minibatches(algorithm: type[Any], policy: str = "MlpPolicy") -> Callable[..., Any]:
    def make(
        env: Any, horizon: int, policy_kwargs: dict[str, Any], minibatches: int, **kwargs: Any
    ) -> Any:
        size = _minibatch_size(env.num_envs, kwargs["n_steps"], minibatches)
        return algorithm(policy, env, policy_kwargs=policy_kwargs, batch_size=size, **kwargs)

    return make


def _per_query(algorithm: type[Any]) -> Callable[..., Any]:
    def make(env: Any, horizon: int, policy_kwargs: dict[str, Any], **kwargs: Any) -> Any:
        # Small models of ours: on the CPU, which is the one device that trials ask for.
        del kwargs["device"]
        return algorithm(env, policy_kwargs=policy_kwargs, **kwargs)

    return make


def _reinforce(env: Any, horizon: int, policy_kwargs: dict[str, Any], **kwargs: Any) -> Any:
    return Reinforce(env, horizon=horizon, policy_kwargs=policy_kwargs, **kwargs)


def _td3(env: Any, horizon: int, policy_kwargs: dict[str, Any], **kwargs: Any) -> Any:
    return BoundedTD3(env, policy_kwargs=policy_kwargs, **kwargs)


def _all(teachers: tuple[str, ...]) -> Any:
    return np.ones(len(teachers), dtype=np.bool_)


def _none(teachers: tuple[str, ...]) -> Any:
    return np.zeros(len(teachers), dtype=np.bool_)


def _arguments(algorithm: type[Any], *ours: str) -> frozenset[str]:
    """Names of a constructor's arguments, without `ours` and those that a trial fills in itself."""
    filled = ("policy", "env", "policy_kwargs", "seed", "device", "verbose", "tensorboard_log")
    names = set(inspect.signature(algorithm).parameters) - {*filled, *ours, "_init_setup_model"}
    return frozenset(name for name in names if not name.endswith(("_class", "_buffer_kwargs")))


_MINIBATCHES = Constraint(("n_steps", "minibatches"), _minibatch_size)

AGENTS: dict[str, AgentSpec] = {
    "none": AgentSpec("hard labels only", policy=lambda: Constant(_none)),
    "smooth": AgentSpec(
        "a uniform soft label: the control for mere regularisation",
        policy=lambda: Constant(_all),
        teachers=("uniform",),
    ),
    "all": AgentSpec("every teacher, always", policy=lambda: Constant(_all)),
    "random": AgentSpec("each teacher with probability one half", policy=RandomMask),
    "random:once": AgentSpec("the same, drawn once per query and kept", policy=RandomOnce),
    "random:relation": AgentSpec("the same, drawn once per relation", policy=RandomRelation),
    "cycle": AgentSpec("one teacher per visit of a query, each in its turn", policy=Cycle),
    "fixed": AgentSpec("the one mask that teaches best on valid", policy=FixedMask),
    "relation": AgentSpec("boosted weights per relation on valid (MoSE-BI)", policy=RelationMask),
    "tabular": AgentSpec(
        "the subset per relation that predicts best out of fold",
        policy=Tabular,
        cross_fitted=True,
    ),
    "stacked": AgentSpec(
        "weights per relation of the mixture that predicts best out of fold",
        policy=Stacked,
        cross_fitted=True,
    ),
    "senior": AgentSpec(
        "MulDE's: teachers scaled per relation, weighted by agreement with the student",
        policy=Senior,
        arguments=frozenset(inspect.signature(Senior).parameters),
    ),
    "complement": AgentSpec("the teachers that disagree most with the student", policy=Complement),
    "single:best": AgentSpec("the teacher with the best valid MRR", policy=BestTeacher),
    "oracle": AgentSpec("greedy, sees the answer", policy=GreedyOracle, oracle=True),
    "oracle:oof": AgentSpec(
        "greedy, sees the answer as strangers to the triple tell it",
        policy=lambda: GreedyOracle(cross_fitted=True),
        oracle=True,
        cross_fitted=True,
    ),
    "oracle:relation": AgentSpec(
        "the subset per relation that predicts best on valid", policy=RelationOracle, oracle=True
    ),
    "oracle:planted": AgentSpec(
        "the true mask of a planted graph", policy=PlantedOracle, oracle=True
    ),
    "oracle:unmisled": AgentSpec(
        "all but the teachers that a planted graph misleads",
        policy=lambda: PlantedOracle(with_others=True),
        oracle=True,
    ),
    "reinforce": AgentSpec(
        "Monte-Carlo policy gradient",
        learner=_reinforce,
        arguments=_arguments(A2C, "n_steps", "gae_lambda", "vf_coef") | {"episodes"},
    ),
    "a2c": AgentSpec("advantage actor-critic", learner=_sb3(A2C), arguments=_arguments(A2C)),
    "ppo": AgentSpec(
        "proximal policy optimisation",
        learner=_in_minibatches(PPO),
        arguments=_arguments(PPO, "batch_size"),
        constraint=_MINIBATCHES,
    ),
    "dqn": AgentSpec(
        "deep Q-network over all subsets",
        learner=_sb3(DQN),
        action_modes=("discrete",),
        arguments=_arguments(DQN),
    ),
    "sac": AgentSpec(
        "soft actor-critic over weights",
        learner=_sb3(SAC),
        action_modes=("weights", "tempered"),
        arguments=_arguments(SAC, "action_noise"),
    ),
    "td3": AgentSpec(
        "twin delayed deterministic policy gradient over weights",
        learner=_td3,
        action_modes=("weights", "tempered"),
        arguments=_arguments(TD3, "action_noise") | {"exploration"},
    ),
    "trpo": AgentSpec(
        "trust region policy optimisation",
        learner=_in_minibatches(TRPO),
        arguments=_arguments(TRPO, "batch_size"),
        constraint=_MINIBATCHES,
    ),
    "maskable_ppo": AgentSpec(
        "ppo that may not choose teachers of modalities that the query's entity lacks",
        learner=_in_minibatches(MaskablePPO),
        action_modes=("mask", "multidiscrete", "discrete"),
        arguments=_arguments(MaskablePPO, "batch_size"),
        constraint=_MINIBATCHES,
    ),
    "recurrent_ppo": AgentSpec(
        "ppo that remembers the queries of its episode (LSTM)",
        learner=_in_minibatches(RecurrentPPO, "MlpLstmPolicy"),
        # sb3-contrib 2.9 hands a MultiBinary's actions to their distribution as int8, which it
        # refuses. `multidiscrete` says the same.
        action_modes=("multidiscrete", "discrete", "weights", "tempered"),
        arguments=_arguments(RecurrentPPO, "batch_size"),
        constraint=_MINIBATCHES,
    ),
    "qrdqn": AgentSpec(
        "dqn that learns quantiles of what a subset is worth",
        learner=_sb3(QRDQN),
        action_modes=("discrete",),
        arguments=_arguments(QRDQN),
    ),
    "linucb": AgentSpec(
        "linear bandit over all subsets: the one that may be best",
        learner=_per_query(LinUCB),
        action_modes=("discrete",),
        arguments=_arguments(LinUCB),
    ),
    "thompson": AgentSpec(
        "linear bandit over all subsets: as likely as it is best",
        learner=_per_query(LinearThompson),
        action_modes=("discrete",),
        arguments=_arguments(LinearThompson),
    ),
    "neural_epsilon_greedy": AgentSpec(
        "neural bandit over all subsets: the one that seems best, and now and then any",
        learner=_per_query(NeuralEpsilonGreedy),
        action_modes=("discrete",),
        arguments=_arguments(NeuralEpsilonGreedy),
    ),
    "mtkd_rl": AgentSpec(
        "MTKD-RL's: weights from a network, competence and divergence",
        learner=_per_query(MTKDRL),
        action_modes=("weights",),
        arguments=_arguments(MTKDRL),
    ),
    "rl_kd": AgentSpec(
        "RL-KD's: a logistic coin per teacher",
        learner=_per_query(RLKD),
        action_modes=("mask", "multidiscrete"),
        arguments=_arguments(RLKD),
    ),
}


def _then(early: AgentSpec, late: AgentSpec, name: str) -> AgentSpec:
    """`a-then-b`.

    Raises:
        ValueError: one of them learns, or has teachers of its own.
    """
    first, second = early.policy, late.policy
    if first is None or second is None or any(s.teachers or s.check for s in (early, late)):
        raise ValueError(f"{name}: both must be agents that do not learn and choose from all")
    return AgentSpec(
        f"{early.summary}; after half of the budget: {late.summary}",
        policy=lambda: Then(first(), second()),
        oracle=early.oracle or late.oracle,
        cross_fitted=early.cross_fitted or late.cross_fitted,
    )


def _trained(name: str) -> AgentSpec:
    """`trained:<folder>`, or the name of one that ships."""
    folder = folder_of_trained(name.removeprefix(TRAINED))
    about = read_trained(folder)
    learner = AGENTS[base].learner if (base := base_agent(about.agent)) in AGENTS else None
    if learner is None:
        learners = [known for known, spec in AGENTS.items() if spec.learner]
        raise unknown(f"{folder}: agent", about.agent, learners)
    return AgentSpec(
        f"{about.agent} as it was trained on {about.dataset}",
        policy=lambda: Frozen(name, folder, about, learner),
        environment={k: about.environment[k] for k in OF_A_POLICY if k != "action_mode"},
        check=lambda env: about.check(name, env),
        code=about.sha256,
    )


def known_spec(name: str) -> AgentSpec | None:
    """The agent called `name`, where it is the same whoever teaches; None for one that is not."""
    name = base_agent(name)
    return _trained(name) if name.startswith(TRAINED) else AGENTS.get(name)


def agent_spec(name: str, teachers: tuple[str, ...]) -> AgentSpec:
    """The agent called `name`, or that which it is a variant of.

    `single:<one of teachers>` is an agent too, `trained:<folder>`, and `a-then-b` of any two that
    do not learn.

    Raises:
        ValueError: no such agent; names the nearest one.
        FileNotFoundError: no such trained agent.
    """
    name = base_agent(name)
    if name.startswith(TRAINED):
        return _trained(name)
    early, separator, late = name.partition(THEN)
    if separator:
        return _then(agent_spec(early, teachers), agent_spec(late, teachers), name)
    if name.startswith(SINGLE) and name.removeprefix(SINGLE) in teachers:
        teacher = name.removeprefix(SINGLE)
        return AgentSpec(
            f"the teacher {teacher} alone",
            policy=lambda: Constant(lambda names: np.array([one == teacher for one in names])),
        )
    if name not in AGENTS:
        raise unknown("agents", name, [*AGENTS, *(SINGLE + teacher for teacher in teachers)])
    return AGENTS[name]
