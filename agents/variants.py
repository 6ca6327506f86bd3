"""Variants of an agent: what differs, by name, in a YAML; checked before anything is trained."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.hyperparameters import SECTIONS, Sections, parse_mapping
from agents.names import base_agent, is_variant
from agents.registry import AgentSpec
from agents.trial import make_environment, make_learner
from agents.trial_config import TrialConfig, environment_of, hyperparameters_of, resolve
from dsom_env.config import DSoMConfig
from dsom_env.sb3 import SB3VecEnv
from graphs.naming import shown, unknown
from graphs.numbers import is_number, with_exponents
from graphs.text_files import read_text

# A folder has the variant's name.
_NAME = re.compile(r"[^@,]+@[A-Za-z0-9_.+-]+")
# Whoever differed in these would not have the budget of the others, or no student at all.
_OF_EVERYBODY = (
    *("dataset", "student", "rank", "learning_rate", "regularisation", "reward_fraction"),
    *("cotrain", "autoreset_mode", "render_mode", "device", "verbose"),
)
_OF_LEARNERS = (
    *("reward", "horizon", "max_episode_steps", "action_mode", "hide"),
    *("only_beneficial", "control_fraction"),
)

# By name, as `ppo@short`: what differs from the agent before the `@`.
Variants = Mapping[str, Sections]


def read_variants(path: Path) -> Variants:
    """See `parse_variants`.

    Raises:
        ValueError: the file holds no variants.
        OSError: the file cannot be read.
    """
    return parse_variants(read_text(path), str(path))


def parse_variants(text: str, source: str) -> Variants:
    """Variants from YAML: per name, sections and in these what differs.

    Their form is checked; names and values are when a variant is used, by `check_trial`.

    Args:
        text: YAML.
        source: what errors call it.

    Raises:
        ValueError: it is no such YAML.
    """
    document = parse_mapping(text, source, "from names such as ppo@short")
    return {name: _sections(name, written, source) for name, written in document.items()}


def _sections(name: object, written: object, source: str) -> Sections:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"{source}: expected an agent, @, and letters, digits or _ . + -, as in ppo@short; "
            f"got {shown(name)}"
        )
    if not isinstance(written, dict) or not written:
        raise ValueError(f"{source}: {name}: expected some of {', '.join(SECTIONS)}")
    sections: Sections = {}
    for section, values in written.items():
        if section not in SECTIONS:
            raise unknown(f"{source}: {name}, section", section, SECTIONS)
        if not isinstance(values, dict) or not values:
            raise ValueError(f"{source}: {name}: expected names and values under {section}")
        sections[section] = {key: with_exponents(value) for key, value in values.items()}
    try:
        json.dumps(sections, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: {name}: expected values of JSON types, {error}") from None
    return sections


def changes_of(agent: str, variants: Variants, source: str) -> Sections:
    """What differs for an agent; nothing for one that is no variant.

    Raises:
        ValueError: no such variant; names the nearest one.
    """
    if not is_variant(agent):
        return {}
    if not variants:
        raise ValueError(f"{agent} is a variant: say by --variants FILE what differs")
    if agent not in variants:
        raise unknown(source, agent, variants)
    return variants[agent]


def check_trial(config: TrialConfig, source: str) -> None:
    """Refuse a trial that would come upon a bad argument, before any work.

    Args:
        config: of an agent or a variant.
        source: what errors call the variants.

    Raises:
        ValueError: see `resolve`; or a variant has values that its algorithm refuses, mean nothing
            to its agent, or make its student's budget another than that of the others.
    """
    if not config.changes:
        resolve(config)
        return
    # So that what is common is not laid to the variant.
    common = replace(config, agent="all", changes={})
    resolve(common)
    try:
        _check_shared(config)
        spec, teachers = resolve(config)
        if spec.learner:
            _check_withheld(config, common)
            _check_algorithm(config, spec, teachers)
        else:
            _check_meaning(config)
            assert spec.policy is not None  # noqa: S101 - who does not learn has one
            spec.policy(**hyperparameters_of(config)["algorithm"])
    except ValueError as error:
        raise ValueError(f"{source}: {config.agent}: {error}") from None


def _check_shared(config: TrialConfig) -> None:
    for name in config.changes.get("environment", {}):
        if name in _OF_EVERYBODY or str(name).startswith("teacher"):
            raise ValueError(
                f"{name} has to be the same for every agent that is compared; a variant may not "
                "change it"
            )


def _check_withheld(config: TrialConfig, common: TrialConfig) -> None:
    """A student that learns from fewer triples than others has another budget."""
    if "reward" not in config.changes.get("environment", {}):
        return
    environment = DSoMConfig.from_kwargs(**environment_of(config))
    ours, others = environment.withheld, DSoMConfig.from_kwargs(**common.settled).withheld
    if ours != others:
        raise ValueError(
            f"reward {environment.reward!r} withholds {ours:g} of the training triples and the "
            f"other agents' {others:g}; --set reward_fraction={max(ours, others):g} makes them the "
            "same"
        )


def _check_meaning(config: TrialConfig) -> None:
    for name in config.changes.get("environment", {}):
        if name in _OF_LEARNERS:
            raise ValueError(f"{base_agent(config.agent)} does not learn: {name} changes nothing")


def _check_algorithm(config: TrialConfig, spec: AgentSpec, teachers: tuple[str, ...]) -> None:
    """Compare values with those of the YAML, and let the algorithm look at them."""
    present = hyperparameters_of(replace(config, changes={}))
    for section in ("algorithm", "policy"):
        for name, value in config.changes.get(section, {}).items():
            usual = present[section].get(name)
            if usual is not None and not _alike(value, usual):
                raise ValueError(f"{section}: {name} is {usual!r} without it, got {value!r}")
    env = SB3VecEnv(make_environment(config, teachers, environment_of(config)))
    try:
        make_learner(config, spec, env)
    except Exception as error:  # Stable-Baselines3 asserts, and torch has errors of its own
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"the algorithm refuses its arguments: {reason}") from None


def _alike(value: Any, usual: Any) -> bool:
    if is_number(usual):
        return is_number(value)
    return isinstance(value, type(usual))
