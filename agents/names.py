"""How agents are named: `ppo`, `single:<teacher>`, `trained:<folder>`, `ppo@short`, a variant."""

from __future__ import annotations

from pathlib import Path

SINGLE = "single:"
TRAINED = "trained:"
THEN = "-then-"
VARIANT = "@"


def base_agent(agent: str) -> str:
    """The agent that a variant varies; any other is its own."""
    return agent.partition(VARIANT)[0] if is_variant(agent) else agent


def is_variant(agent: str) -> bool:
    """Whether it is a variant of another agent; the path of a trained one may look like it."""
    return VARIANT in agent and not agent.startswith(TRAINED)


def folder_of(out: Path, agent: str, seed: int) -> Path:
    """Where the files of a trial of the comparison in `out` are."""
    # A trained agent has a path in its name.
    named = agent.replace(":", "-").replace("/", "-").replace("\\", "-")
    return out / "trials" / named / str(seed)
