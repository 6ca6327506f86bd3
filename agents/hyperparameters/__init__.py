"""Hyperparameters of the learning agents: one YAML per agent, `default` and per dataset."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from agents.yaml_text import parse_yaml
from graphs.naming import unknown

SECTIONS = ("environment", "algorithm", "policy")
Sections = dict[str, dict[str, Any]]
# Of section `algorithm`, and no argument of one: see `agents.trial_config.rehearsal_of`.
REHEARSAL = "rehearsal"
# Arguments of the environment that concern one agent alone; all others have to be the same for
# every agent of a comparison, so that no agent's YAML may hold them.
OF_AN_AGENT = (
    "reward",
    "horizon",
    "max_episode_steps",
    "action_mode",
    "allow_empty",
    "relation_code",
    "hide",
    "judged_folds",
    "only_beneficial",
    "bonus",
    "control_fraction",
    "reward_fraction",
)


def soft_label_changes(changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The part of an agent's changes (`TrialConfig.changes`) by which its student is taught."""
    environment = changes.get("environment", {})
    return {name: value for name, value in environment.items() if name not in OF_AN_AGENT}


def parse_mapping(text: str, source: str, expected: str) -> dict[Any, Any]:
    """A mapping from YAML, not empty.

    Args:
        text: YAML.
        source: what errors call it.
        expected: the mapping in words.

    Raises:
        ValueError: it is no such YAML.
    """
    document = parse_yaml(text, source)
    if not isinstance(document, dict) or not document:
        raise ValueError(f"{source}: expected a mapping {expected}")
    return document


def load_hyperparameters(agent: str, dataset: str) -> Sections:
    """Sections `environment`, `algorithm` and `policy` of an agent on a dataset.

    Entries under the dataset's name override those under `default`, key by key.

    Raises:
        ValueError: the file has an unknown section; names the nearest.
    """
    text = hyperparameters_file(agent).read_text("utf-8")
    return parse_hyperparameters(text, f"{agent}.yml", dataset)


def algorithm_arguments(sections: Sections) -> dict[str, Any]:
    """What section `algorithm` says to the algorithm itself."""
    return {name: value for name, value in sections["algorithm"].items() if name != REHEARSAL}


def hyperparameters_file(agent: str) -> Traversable:
    """The YAML named after an agent."""
    return files(__name__).joinpath(f"{agent}.yml")


def parse_hyperparameters(text: str, name: str, dataset: str) -> Sections:
    """See `load_hyperparameters`; `name` is what errors call the file."""
    document = parse_yaml(text, name)
    if not isinstance(document, dict) or "default" not in document:
        raise ValueError(f"{name}: expected a mapping with an entry 'default'")
    merged: Sections = {section: {} for section in SECTIONS}
    for entry in ("default", dataset):
        for section, values in (document.get(entry) or {}).items():
            if section not in SECTIONS:
                raise unknown(f"{name}, section of {entry!r}", section, SECTIONS)
            merged[section] |= values or {}
    return merged
