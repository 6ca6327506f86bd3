"""Edits of an agent's YAML: the values asked for, and nothing else."""

from typing import Any

import pytest
import yaml

from agents.hyperparameters.editing import MARK, edit_hyperparameters

FLOW = """# About the agent.
default:  # for everybody
  environment: {reward: gate}  # paid at once
  # Small steps.
  algorithm: {learning_rate: 0.1, n: [1, 2]}
other:
  policy: {net_arch: [8]}  # small
"""
BLOCK = """default:
    algorithm:
        # How far.
        learning_rate: 0.1
        net:
            - 1
            - 2
        # What follows is another matter.

    # Nothing here yet.
    policy:
# The last word.
"""
VALUES: dict[str, dict[str, Any]] = {
    "algorithm": {"learning_rate": 1e-05, "n": [3], "net": [4, [5]], "new": "no"},
    "policy": {"net_arch": [64, 64]},
}


def comments(text: str) -> list[str]:
    return [line[line.index("#") :] for line in text.splitlines() if "#" in line]


@pytest.mark.parametrize(
    "text", [FLOW, BLOCK, "default:\n", "default: {}", "default: {policy: }\n"]
)
@pytest.mark.parametrize("entry", ["default", "other", "on: 1"])
def test_values_change_and_comments_stay(text: str, entry: str) -> None:
    edited = edit_hyperparameters(text, entry, VALUES, "by a\nstudy")
    before, after = yaml.safe_load(text), yaml.safe_load(edited)
    old = before.pop(entry, None) or {}
    new = after.pop(entry)
    assert after == before
    assert new.keys() == old.keys() | VALUES.keys()
    for section, values in new.items():
        assert values == (old.get(section) or {}) | VALUES.get(section, {})
    mine = f"{MARK} by a study"
    assert sorted(comments(edited)) == sorted([*comments(text), mine])
    again = edit_hyperparameters(edited, entry, VALUES, "by another")
    assert again == edited.replace(mine, f"{MARK} by another")


def test_style_stays() -> None:
    edited = edit_hyperparameters(FLOW, "default", {"algorithm": {"n": [3], "m": 1}}, "x")
    assert edited == FLOW.replace("default:", f"{MARK} x\ndefault:").replace(
        "{learning_rate: 0.1, n: [1, 2]}", "{m: 1, learning_rate: 0.1, n: [3]}"
    )


def test_what_cannot_be_edited_is_refused() -> None:
    shared = "default: &a\n  algorithm: &b {n: 1}\nx:\n  algorithm: *b\n"
    with pytest.raises(ValueError, match="'x' is written in a way"):
        edit_hyperparameters(shared, "x", {"algorithm": {"n": 2}}, "why")
