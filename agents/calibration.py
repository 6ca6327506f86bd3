"""Whether an agent prefers the teachers that help: its preferences beside a measured benefit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib.common.maskable.distributions import (
    MaskableCategoricalDistribution,
    MaskableMultiCategoricalDistribution,
)
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    MultiCategoricalDistribution,
)
from stable_baselines3.common.policies import ActorCriticPolicy

from agents.statistics import spearman
from dsom_env.actions import action_masks, decode
from dsom_env.classroom import Classroom, Lesson, derived_seed, with_gradients
from graphs.csr import IntArray

Preferences = NDArray[np.float64]
# Queries that are asked about, and (at most) those whose loss a teacher should lower.
PROBED = 1024
HELD_OUT = 2048
# As many queries at once: their logits are held densely.
CHUNK = 256
BINS = 10


@with_gradients
def calibrate(
    classroom: Classroom, prefer: Callable[[Lesson], Preferences], kind: str, seed: int
) -> dict[str, Any]:
    """Preferences of an agent beside the benefit of each teacher alone, at the student as it is.

    The benefit is the `heldout` reward of the mask that has this teacher only: the first-order
    fall of the loss of other queries through what the teacher adds to the query's update, in nats
    per unit of step size (methods.md §1.2). These others are the reward split where there is one,
    from which no student learned; else training queries of triples that are not asked about,
    on which student and teachers have already learned, so that what helps is mostly memory.

    Args:
        classroom: the world at the end of training; the student is left as it is.
        prefer: preferences from 0 to 1, `[batch, teachers]`, for a batch of queries.
        kind: `probability` of the bits of the action, `mask` that was executed, or `weight`.
        seed: of the trial; agents of a seed are asked about the same queries where they may learn
            from the same.

    Returns:
        `calibration` of a run in docs/results-format.md.
    """
    rng = np.random.default_rng(derived_seed(seed, "calibration"))
    probed, held_out = sample_rows(classroom, rng)
    gradients = classroom.trainer.gradient(classroom.queries[held_out])
    preferences = np.zeros((len(probed), len(classroom.teachers)))
    benefits = preferences.copy()
    for start in range(0, len(probed), CHUNK):
        part = slice(start, start + CHUNK)
        lesson = classroom.lesson(probed[part])
        preferences[part] = prefer(lesson)
        benefits[part] = benefits_of(classroom, lesson, gradients)
    return {
        "preference": kind,
        "held_out": "reward split" if len(classroom.withheld_rows) else "training queries",
        "queries": len(probed),
        "held_out_queries": len(held_out),
        "teachers": {
            name: compare_columns(preferences[:, k], benefits[:, k])
            for k, name in enumerate(classroom.teachers)
        },
    }


def sample_rows(classroom: Classroom, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Training queries to ask about, one direction of a triple each, and those held out.

    No triple is in both; without a reward split, small graphs are shared evenly.

    Returns:
        int64 `[probed]` and `[held out]`, positions among the training queries.
    """
    triples = len(classroom.taught_rows) // 2
    directions = classroom.taught_rows.reshape(2, triples)
    order = rng.permutation(triples)
    split = len(classroom.withheld_rows) > 0
    count = min(PROBED, triples if split else triples // 2)
    probed = directions[rng.integers(0, 2, count), order[:count]]
    if split:
        withheld = rng.permutation(classroom.withheld_rows)
        return probed, np.sort(withheld[:HELD_OUT])
    others = order[count : count + HELD_OUT // 2]
    return probed, np.sort(directions[:, others].ravel())


def benefits_of(
    classroom: Classroom, lesson: Lesson, gradients: dict[str, torch.Tensor]
) -> NDArray[np.float64]:
    """First-order benefit of each teacher alone, `[batch, teachers]`; see `calibrate`.

    Args:
        classroom: the student, at the parameters of the lesson.
        lesson: the batch.
        gradients: of the held-out loss, by parameter.
    """
    trainer, forward = classroom.trainer, lesson.forward
    direction = trainer.logit_direction(forward, gradients)
    benefits = np.zeros((len(lesson.rows), len(classroom.teachers)))
    for k in range(benefits.shape[1]):
        alone = np.zeros(benefits.shape, dtype=np.float32)
        alone[:, k] = 1.0
        labels = classroom.soft_labels(lesson, alone)
        slopes = [
            trainer.block_losses(forward, labels, block).divergence_along(
                direction[block.start : block.stop]
            )
            for block in forward.blocks()
        ]
        benefits[:, k] = trainer.distillation.gamma * torch.cat(slopes).double().cpu().numpy()
    return benefits


def compare_columns(preference: Preferences, benefit: NDArray[np.float64]) -> dict[str, Any]:
    """One teacher's preferences and benefits, `[queries]` each, as a table of bins; JSON types.

    Bins are tenths of the preference, the last one with its end; standard errors are those over
    queries, given the held-out ones.
    """
    tenths = np.minimum((preference * BINS).astype(np.int64), BINS - 1)
    bins = []
    for number in np.unique(tenths).tolist():
        inside = tenths == number
        bins.append(
            {
                "low": number / BINS,
                "high": (number + 1) / BINS,
                "preference": float(preference[inside].mean()),
                **_mean_and_error(benefit[inside]),
                "count": int(inside.sum()),
            }
        )
    return {
        "preference": float(preference.mean()),
        **_mean_and_error(benefit),
        "spearman": spearman(preference, benefit),
        "bins": bins,
    }


def _mean_and_error(values: NDArray[np.float64]) -> dict[str, float | None]:
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
    return {"benefit": float(values.mean()), "error": error}


def learned_preferences(
    model: Any, classroom: Classroom, mode: str
) -> tuple[Callable[[Lesson], Preferences], str]:
    """How a Stable-Baselines3 model prefers teachers, and of what kind that is.

    Args:
        model: policies with a distribution over subsets have a `probability` of every teacher; of
            others it is the action that they think best: a `mask` of DQN, or `weight`s. Those
            with a memory are asked as at the beginning of an episode.
        classroom: turns queries into observations.
        mode: in which form the model acts, see `DSoMConfig.action_mode`.
    """
    count = len(classroom.teachers)

    def best(lesson: Lesson) -> Preferences:
        observation = classroom.observe(lesson)
        actions, _ = model.predict(observation, deterministic=True)
        return decode(mode, actions, len(observation), count).weights.astype(np.float64)

    def likely(lesson: Lesson) -> Preferences:
        policy = model.policy
        observation, _ = policy.obs_to_tensor(classroom.observe(lesson))
        distribution: Any
        with torch.no_grad():
            if isinstance(policy, MaskableActorCriticPolicy):
                masks = action_masks(mode, classroom.allowed(lesson.queries))
                distribution = policy.get_distribution(observation, action_masks=masks)
            elif isinstance(policy, RecurrentActorCriticPolicy):
                layers, _, width = policy.lstm_hidden_state_shape
                nothing = torch.zeros(layers, len(observation), width)
                starts = torch.ones(len(observation))
                distribution, _ = policy.get_distribution(observation, (nothing, nothing), starts)
            else:
                distribution = policy.get_distribution(observation)
        return teacher_probabilities(distribution, count)

    if mode in ("weights", "tempered"):
        return best, "weight"
    if isinstance(model.policy, (ActorCriticPolicy, MaskableActorCriticPolicy)):
        model.policy.set_training_mode(False)
        return likely, "probability"
    return best, "mask"


def teacher_probabilities(distribution: Any, teachers: int) -> Preferences:
    """Probability that an action has each teacher's bit, `[batch, teachers]`.

    Args:
        distribution: of Stable-Baselines3 or sb3-contrib, over one of the three forms of the
            action.
        teachers: how many.

    Raises:
        TypeError: a distribution over something else.
    """
    if isinstance(distribution, MaskableMultiCategoricalDistribution):
        chances = torch.stack([part.probs[:, 1] for part in distribution.distributions], dim=1)
        return _as_preferences(chances)
    inner = distribution.distribution
    if isinstance(distribution, BernoulliDistribution):
        chances = inner.probs
    elif isinstance(distribution, MultiCategoricalDistribution):
        chances = torch.stack([part.probs[:, 1] for part in inner], dim=1)
    elif isinstance(distribution, (CategoricalDistribution, MaskableCategoricalDistribution)):
        subsets = torch.arange(2**teachers, device=inner.probs.device)
        bits = (subsets[:, None] >> torch.arange(teachers, device=subsets.device)) & 1
        chances = inner.probs @ bits.to(inner.probs.dtype)
    else:
        raise TypeError(f"{type(distribution).__name__} is no distribution over sets of teachers")
    return _as_preferences(chances)


def _as_preferences(chances: torch.Tensor) -> Preferences:
    found: Preferences = chances.double().cpu().numpy()
    return found
