"""Variants, search spaces, settings and trials as nobody meant them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.command_line import parse_seeds, parse_setting
from agents.trial_config import TrialConfig
from agents.tuning.space import read_space
from agents.variants import check_trial, read_variants
from tests.agents.conftest import SMALL
from tests.malformed.conftest import Refused

LAUGHS = "a0: &a0 [x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40)
)

# Refused as variants and as a search space alike.
YAML: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "expected a mapping"),
    "only a comment": (b"# nothing\n", "expected a mapping"),
    "a list": (b"- a\n", "expected a mapping"),
    "not text": (b"\xff\xfe\x00", "expected UTF-8"),
    "not YAML": (b"a: [1\nb: 2\n", "is not YAML, line"),
    "a tab": (b"a:\n\t- 1\n", "is not YAML, line 2"),
    "a call": (b"a: !!python/object/apply:os.system [touch exploded]\n", "is not YAML, line 1"),
    "a name of Python": (b"a: !!python/name:os.system\n", "is not YAML, line 1"),
    "a billion laughs": (LAUGHS.encode(), "those of aliases included"),
    "itself": (b"ppo@a: &a {environment: *a}\n", "line 1: a value holds itself"),
    "a key twice": (b"ppo@a: {environment: {gamma: 1,\n gamma: 2}}\n", "is there twice"),
    "lists in lists": (b"a: " + b"[" * 20_000, "nested too deeply"),
    "large": (b"a: [" + b"1, " * 40_000 + b"1]", "at most 32768 characters"),
    "no such day": (b"a: 2001-99-99\n", "is not YAML"),
    "no number": (b"a: !!int ''\n", "is not YAML"),
    "a number of no end": (b"a: " + b"9" * 5000 + b"\n", "is not YAML"),
    "a section of another name": (b"ppo@a: {enviroment: {gamma: 1}}\n", "'enviroment'"),
}


@pytest.mark.parametrize("kind", YAML)
def test_malformed_yaml_is_one_sentence(kind: str, tmp_path: Path, refused: Refused) -> None:
    content, says = YAML[kind]
    path = tmp_path / "file.yml"
    path.write_bytes(content)
    said = refused(read_variants, path)
    assert str(path) in said
    assert says in said
    said = refused(read_space, "ppo", path)
    assert str(path) in said
    assert says in said or "section" in said


SPACES = {
    "nothing to choose from": ("environment: {gamma: []}", "at least one"),
    "equal options": ("environment: {gamma: [1, 1.0]}", "distinct"),
    "an infinite option": ("environment: {gamma: [.inf]}", "JSON"),
    "a range of nothing": ("environment: {gamma: {low: 2, high: 1}}", "low must be"),
    "a range to infinity": ("environment: {gamma: {low: 2, high: .inf}}", "low must be"),
    "a step below zero": ("environment: {gamma: {low: 1, high: 2, step: -1}}", "step must be"),
    "a step of NaN": ("environment: {gamma: {low: 1, high: 2, step: .nan}}", "step must be"),
    "a logarithm of zero": ("environment: {gamma: {low: 0, high: 2, log: true}}", "log"),
    "another key": ("environment: {gamma: {low: 0, hihg: 2}}", "did you mean 'high'"),
    "a name alone": ("environment: {gamma: 3}", "expected a list of options"),
    "a section of nothing": ("environment: null", "names and what to choose from"),
}


@pytest.mark.parametrize("kind", SPACES)
def test_a_malformed_space_is_one_sentence(kind: str, tmp_path: Path, refused: Refused) -> None:
    content, says = SPACES[kind]
    path = tmp_path / "space.yml"
    path.write_text(content)
    said = refused(read_space, "ppo", path)
    assert str(path) in said
    assert says in said


TRIALS: dict[str, tuple[dict[str, Any], str]] = {
    "an agent of another name": ({"agent": "pppo"}, "did you mean 'ppo'"),
    "an agent of a long name": ({"agent": "p" * 10**6}, "agents: unknown 'ppp"),
    "a teacher of another name": ({"teachers": ("texd",)}, "did you mean 'text'"),
    "no teachers": ({"teachers": ()}, "at least one"),
    "a teacher twice": ({"teachers": ("text", "text")}, "distinct"),
    "a batch of a trillion": ({"batch": 10**12}, "batch must be at most"),
    "no batch": ({"batch": 0}, "batch must be at least 1"),
    "negative epochs": ({"epochs": -1}, "epochs must be at least 1"),
    "epochs of no end": ({"epochs": 10**30}, "epochs must be at most"),
    "a seed of no end": ({"seed": 10**30}, "seeds must be less than"),
    "an unknown keyword": ({"environment": {"gama": 1}}, "did you mean 'gamma'"),
    "a rank of a trillion": ({"environment": {"rank": 10**12}}, "rank must be"),
    "a negative rank": ({"environment": {"rank": -1}}, "rank must be"),
    "a rank of a half": ({"environment": {"rank": 0.5}}, "rank must be"),
    "an odd rank": ({"environment": {"student": "roth", "rank": 5}}, "must be even"),
    "folds of a trillion": ({"environment": {"folds": 10**12}}, "folds must be"),
    "candidates of a trillion": ({"environment": {"random_candidates": 10**12}}, "random_cand"),
    "a number beyond numbers": ({"environment": {"gamma": 10**400}}, "gamma must be"),
    "gamma is NaN": ({"environment": {"gamma": float("nan")}}, "gamma must be"),
    "a student in a list": ({"environment": {"student": ["complex"]}}, "student"),
    "no device": ({"environment": {"device": "gpu"}}, "device must be"),
    "a device in a list": ({"environment": {"device": []}}, "device must be"),
    "a reward of another name": ({"reward": "gates"}, "did you mean 'gate'"),
    "a reward that needs a student that learns": (
        {"environment": {"cotrain": False}, "reward": "improvement"},
        "needs a student that learns",
    ),
    "nobody to choose from": (
        {"environment": {"candidates": 0, "random_candidates": 0}},
        "needs some of either",
    ),
    "a mode that the agent has not": (
        {"agent": "dqn", "environment": {"action_mode": "mask"}},
        "only in 'discrete'",
    ),
}


@pytest.mark.parametrize("kind", TRIALS)
def test_a_malformed_trial_is_one_sentence(kind: str, refused: Refused) -> None:
    changes, says = TRIALS[kind]
    arguments = {"agent": "ppo", "dataset": SMALL, "batch": 64, **changes}
    assert says in refused(lambda: check_trial(TrialConfig(**arguments), "variants"))


@pytest.mark.parametrize(
    ("parse", "text", "says"),
    [
        (parse_seeds, "1000000000000", "at most"),
        (parse_seeds, "9" * 5000, "expected a count"),
        (parse_seeds, "-3", "expected a count"),
        (parse_seeds, ",", "expected a count"),
        (parse_setting, "gamma", "expected NAME=VALUE"),
        (parse_setting, "gamma=[", "not YAML"),
        (parse_setting, "gamma=" + "[" * 10_000, "nested too deeply"),
        (parse_setting, "gamma=!!python/name:os.system", "not YAML"),
        (parse_setting, "gamma=" + "9" * 5000, "not YAML"),
    ],
)
def test_a_malformed_option_is_one_sentence(
    parse: Callable[[str], Any], text: str, says: str
) -> None:
    import argparse

    with pytest.raises(argparse.ArgumentTypeError, match=says) as error:
        parse(text)
    assert len(str(error.value)) < 500
