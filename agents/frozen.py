"""A trained agent that goes on choosing and learns no more: `trained:<folder>`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy

from agents.hyperparameters import algorithm_arguments
from agents.policies import MaskPolicy, Probe
from agents.trained import TrainedAgent, read_weights
from dsom_env.actions import Choice, action_masks, decode
from dsom_env.classroom import Classroom, Lesson, Weights
from dsom_env.sb3 import SB3VecEnv
from dsom_env.vector_env import DSoMVectorEnv


class Frozen(MaskPolicy):
    """Chooses what a trained agent thinks best, and learns nothing.

    The choice is greedy: a learner's exploration ends with its training. Those with a memory are
    asked as at the beginning of an episode.

    Args:
        name: what errors call the agent.
        folder: of the trained agent.
        about: its `agent.json`.
        learner: makes the algorithm whose policy the weights are, see `AgentSpec`.
    """

    def __init__(
        self, name: str, folder: Path, about: TrainedAgent, learner: Callable[..., Any]
    ) -> None:
        self.name, self.folder, self.about, self.learner = name, folder, about, learner
        self.mode = about.environment["action_mode"]
        self.preference = "weight" if self.mode in ("weights", "tempered") else "mask"

    def prepare(self, classroom: Classroom, probe: Probe) -> None:
        """Put the weights into their network.

        Raises:
            ValueError: they do not fit there, or the environment is not one that it can choose in.
        """
        about = self.about
        config = replace(
            classroom.config,
            **about.environment,
            dataset=classroom.graph,
            teachers=classroom.teachers,
            cotrain=False,
            reward="gate",
            autoreset_mode="same_step",
        )
        env = DSoMVectorEnv(about.batch, config)
        about.check(self.name, env)
        weights = read_weights(self.folder, about)
        try:
            # Never reset: of an environment that has not begun, an algorithm sees the spaces.
            self.model = self.learner(
                SB3VecEnv(env),
                horizon=about.horizon,
                policy_kwargs=dict(about.policy),
                seed=about.seed,
                device="cpu",
                **algorithm_arguments({"algorithm": dict(about.algorithm)}),
            )
            self.model.policy.load_state_dict(weights)
        except (RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{self.folder} does not hold an agent {about.agent} of this version: {reason}"
            ) from None
        self.model.policy.train(False)

    def masks(self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator) -> Weights:
        """See the class."""
        return self.decide(classroom, lesson, rng).weights

    def decide(self, classroom: Classroom, lesson: Lesson, rng: np.random.Generator) -> Choice:
        """See the class."""
        allowed: dict[str, Any] = {}
        if isinstance(self.model.policy, MaskableActorCriticPolicy):
            masks = action_masks(self.mode, classroom.allowed(lesson.queries))
            allowed = {"action_masks": masks}
        observation = classroom.observe(lesson)
        actions, _ = self.model.predict(observation, deterministic=True, **allowed)
        choice = decode(self.mode, actions, len(observation), len(classroom.teachers))
        if not self.about.environment["allow_empty"]:
            choice.weights[~choice.weights.any(axis=1)] = 1.0
        return choice
