"""docs/zoo.md lists every agent, what it acts in and what decides it."""

import re
from pathlib import Path

import pytest

from agents.hyperparameters import load_hyperparameters
from agents.registry import AGENTS
from dsom_env.config import ACTION_MODES

PAGE = Path(__file__).parents[2].joinpath("docs/zoo.md").read_text("utf-8")
ROWS = {
    cells[0]: cells[1:]
    for line in PAGE.splitlines()
    if line.startswith("| `")
    for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
}
LEARNERS = [name for name, spec in AGENTS.items() if spec.learner]


def test_every_agent_has_a_row_and_every_row_an_agent() -> None:
    assert set(ROWS) == {f"`{name}`" for name in (*AGENTS, "single:<teacher>", "trained:<folder>")}


@pytest.mark.parametrize("agent", LEARNERS)
def test_rows_of_learners_tell_modes_and_hyperparameters(agent: str) -> None:
    _, modes, source, _, hyperparameters = ROWS[f"`{agent}`"]
    acts = set(ACTION_MODES) if modes == "all" else set(re.findall(r"`(\w+)`", modes))
    assert acts == set(AGENTS[agent].action_modes)
    assert re.search("exact|paper|reconstruction|unconfirmed|library|ours", source)
    told = re.findall(r"`(\w+)`", hyperparameters)
    for other in set(told) & set(LEARNERS):
        told += re.findall(r"`(\w+)`", ROWS[f"`{other}`"][-1])
    sections = load_hyperparameters(agent, "emoji")
    assert set(sections["algorithm"]) - {"rehearsal"} <= set(told)
    assert set(sections["policy"]) - {"net_arch"} <= set(told)
