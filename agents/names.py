"""How agents are named: `ppo`, `single:<teacher>`, `all-then-none`, `ppo@short`, a variant."""

from __future__ import annotations

from pathlib import Path

SINGLE = "single:"
THEN = "-then-"
VARIANT = "@"


def base_agent(agent: str) -> str:
    """The agent that a variant varies; any other is its own."""
    return agent.partition(VARIANT)[0]


def is_variant(agent: str) -> bool:
    """Whether it is a variant of another agent."""
    return VARIANT in agent


def folder_of(out: Path, agent: str, seed: int) -> Path:
    """Where the files of a trial of the comparison in `out` are."""
    return out / "trials" / agent.replace(":", "-") / str(seed)
