"""Comparisons in several regimes side by side: what differs, and what there is to choose."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agents.headroom import HeadRoom, head_room, oracles_of
from agents.names import SINGLE, base_agent
from agents.report.markdown import cell, table
from agents.report.outcome import parse_results, shown_dataset
from agents.verdicts import learners_of, relabelled
from graphs.loading import planted_spec

ALWAYS_SHOWN = ("none", "all", "random")
NOTE = """\
Test MRR is the interquartile mean over seeds, of filtered ranks, ties at their mean rank. The best
of a kind is the best by valid; *fixed* is `fixed` or `single:…`. *Head-room* is the test MRR of the
best oracle above that of the best agent that does not choose, paired by seed, with Student's t
interval; *realised* is the share of it that the best learner has, with Fieller's interval, where
that of the head-room lies above 0. Settings that do not differ are left out."""


@dataclass(frozen=True)
class Regime:
    """One comparison, as far as the map of regimes shows it.

    Attributes:
        name: of its folder.
        complete: whether every trial finished.
        settings: everything but the agents that decided its results, by name.
        planted: options of the graph, defaults included; empty where nothing was planted.
        test: test MRR by agent, interquartile mean over seeds.
        fixed: the best mask that is the same for all queries, by valid; None where there is none.
        oracle: the best oracle, by valid.
        learner: the best agent that learns, by valid.
        room: from the best agent that does not choose up to the best oracle.
    """

    name: str
    complete: bool
    settings: Mapping[str, Any]
    planted: Mapping[str, Any]
    test: Mapping[str, float]
    fixed: str | None
    oracle: str | None
    learner: str | None
    room: HeadRoom | None


def parse_regime(results: Any, name: str) -> Regime:
    """The regime of a comparison from the content of its `results.json`.

    Args:
        results: the content.
        name: of its folder.

    Raises:
        ValueError: see `parse_results`; or no such planted graph.
    """
    outcome = parse_results(results)
    config, runs = results["config"], results["runs"]
    spec = planted_spec(config["dataset"])
    valid = {agent.agent: agent.valid_mrr for agent in outcome.agents}
    # As in head-room and verdict: with another soft label an agent is in another regime.
    names = [name for name in valid if name not in relabelled(results)]
    summary = [{"agent": agent} for agent in names]
    learners, oracles = learners_of({"runs": runs, "summary": summary}), oracles_of(runs)

    def best(candidates: Sequence[str]) -> str | None:
        return max(candidates, key=lambda name: valid[name], default=None)

    return Regime(
        name=name,
        complete=outcome.complete,
        settings={
            **outcome.settings,
            "dataset": shown_dataset(config["dataset"], outcome.graph),
            "teachers": config.get("teachers"),
            "epochs": outcome.epochs,
            "batch": outcome.batch,
            "reward": config.get("reward"),
            "seeds": outcome.seeds,
        },
        planted={} if spec is None else asdict(spec),
        test={agent.agent: agent.test["mrr"] / 100 for agent in outcome.agents},
        fixed=best([n for n in names if base_agent(n) == "fixed" or n.startswith(SINGLE)]),
        oracle=best([n for n in names if n in oracles]),
        learner=best(learners),
        room=head_room(runs),
    )


def render_regimes(regimes: Sequence[Regime]) -> str:
    """A table with a row per regime, in their order, and what it means.

    Args:
        regimes: at least one.
    """
    settings = _settings(regimes)
    columns = _differing(settings)
    header = ["run", *columns, *ALWAYS_SHOWN, "best fixed", "best oracle", "best learner"]
    header += ["head-room", "over", "realised"]
    rows = []
    for regime, values in zip(regimes, settings, strict=True):
        rows.append(
            [
                cell(regime.name) + ("" if regime.complete else " (partial)"),
                *(cell(_shown(values[name])) if name in values else "–" for name in columns),
                *(_score(regime, name) for name in ALWAYS_SHOWN),
                *(_named(regime, name) for name in (regime.fixed, regime.oracle, regime.learner)),
                *_room(regime),
            ]
        )
    return f"{table(header, rows)}\n\n{NOTE}\n"


def _settings(regimes: Sequence[Regime]) -> list[dict[str, Any]]:
    """Settings of every regime; options of the graph are some where all graphs have the same."""
    if not all(regime.planted for regime in regimes):
        return [dict(regime.settings) for regime in regimes]
    return [
        {
            **regime.settings,
            **regime.planted,
            "dataset": regime.settings["dataset"].partition(":")[0],
        }
        for regime in regimes
    ]


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names whose values are not the same wherever there is one."""
    values: dict[str, list[Any]] = {}
    for each in settings:
        for name, value in each.items():
            values.setdefault(name, []).append(value)
    return [name for name, found in values.items() if any(one != found[0] for one in found)]


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    if isinstance(value, float):
        # A default of 3.0 and the 3 that somebody typed are the same.
        return f"{value:g}"
    return json.dumps(value)


def _score(regime: Regime, agent: str) -> str:
    return f"{regime.test[agent]:.4f}" if agent in regime.test else "–"


def _named(regime: Regime, agent: str | None) -> str:
    return "–" if agent is None else f"{_score(regime, agent)} `{cell(agent)}`"


def _room(regime: Regime) -> list[str]:
    """Head-room, the agent that it lies above, and the share that the best learner has."""
    room = regime.room
    if room is None:
        return ["–"] * 3
    size = f"{room.mean:+.4f}"
    size += " (one seed)" if room.interval is None else " [{:+.4f}, {:+.4f}]".format(*room.interval)
    realised = room.share_with_interval(regime.learner) if regime.learner else "–"
    return [size, f"`{cell(room.control)}`", realised]
