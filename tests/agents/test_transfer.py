"""The table of what trained on one graph and was used on another."""

from pathlib import Path
from typing import Any

import pytest

from agents.statistics import summarise
from agents.transfer import TransferConfig, render_transfer

GRAPHS = ("here", "there")


def config(**changes: Any) -> TransferConfig:
    arguments: dict[str, Any] = {"graphs": GRAPHS, "agents": ("ppo",), "seeds": (100, 101)}
    return TransferConfig(**(arguments | changes))


def results(scores: dict[str, tuple[float, float]]) -> dict[str, Any]:
    runs = [
        {"agent": agent, "seed": 100 + place, "test": {"mrr": mrr}}
        for agent, both in scores.items()
        for place, mrr in enumerate(both)
    ]
    return {"summary": summarise(runs)}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"graphs": ("here",)}, "at least two"),
        ({"graphs": ("here", "here")}, "distinct"),
        ({"agents": ("all",)}, "have to learn"),
        ({"agents": ("ppo@transfers",)}, "--variants"),
        ({"training_seed": 101}, "must not be among"),
    ],
)
def test_what_cannot_be_transferred_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        config(**changes)


def test_folders_of_graphs_have_plain_names(tmp_path: Path) -> None:
    found = config(graphs=("planted:seed=1,noise=0.5", "../b")).training("../b", tmp_path)
    assert found["ppo"].is_relative_to(tmp_path)
    assert ".." not in found["ppo"].relative_to(tmp_path).parts


def test_cells_are_differences_and_no_more_is_said_than_they_allow() -> None:
    controls = {"all": (0.40, 0.41), "random": (0.41, 0.42), "ppo": (0.40, 0.41)}
    table = render_transfer(
        config(),
        {
            "results": {
                # Two seeds that agree have a narrow interval.
                "here": results({**controls, "trained:b": (0.4500, 0.4601)}),
                "there": results({**controls, "trained:b": (0.4101, 0.42)}),
            },
            "origins": {"trained:a": ("ppo", "here"), "trained:b": ("ppo", "there")},
            "refused": {("ppo", "here", "here"): "why", ("ppo", "here", "there"): "why"},
        },
    )
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    cells = {row.split("|")[1].strip(): row.split("|")[2:4] for row in rows}
    assert [cell.strip() for cell in cells["trained on `here`"]] == ["refused", "refused"]
    away, home = (cell.strip() for cell in cells["trained on `there`"])
    assert away.startswith("**+5.0 [")
    assert home.startswith("+1.0 [") or home.startswith("**+1.0 [")
    # There is one cell away from home that was not refused.
    assert "beats `all` in 1 of 1 cells; it beats both controls in 1." in table


def test_who_was_refused_everywhere_can_be_used_at_home_only() -> None:
    controls = {"all": (0.40, 0.41), "random": (0.41, 0.42), "ppo": (0.40, 0.41)}
    own = {"here": "trained:a", "there": "trained:b"}
    table = render_transfer(
        config(),
        {
            "results": {g: results({**controls, own[g]: (0.3, 0.4)}) for g in GRAPHS},
            "origins": {name: ("ppo", graph) for graph, name in own.items()},
            "refused": {("ppo", "here", "there"): "why", ("ppo", "there", "here"): "why"},
        },
    )
    assert "can be used on no graph but its own" in table
