"""Agents trained on one graph and used on another: the study behind `scripts/transfer.py`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agents.comparison import ComparisonConfig, compare, trial_folder
from agents.names import TRAINED, base_agent
from agents.registry import AGENTS
from agents.report.markdown import cell, table
from agents.trial_config import TrialConfig, resolve
from agents.variants import Variants, changes_of, check_trial
from graphs.naming import unknown

CONTROLS = ("all", "random")


@dataclass(frozen=True)
class TransferConfig:
    """What is trained where, and used where.

    Attributes:
        graphs: names or paths, at least two; every agent is trained on each and used on each.
        agents: learners, or variants of such.
        seeds: of the students that are taught by trained agents, and of the controls.
        training_seed: of the agents; not among `seeds`, whose students nobody has met.
        trial: everything else; its agent, seed, graph and changes are ignored.
        variants: what differs for agents that are variants.
        source: what errors call the variants.
    """

    graphs: tuple[str, ...]
    agents: tuple[str, ...]
    seeds: tuple[int, ...]
    training_seed: int = 0
    trial: TrialConfig = field(default_factory=lambda: TrialConfig("all"))
    variants: Variants = field(default_factory=dict)
    source: str = "variants"

    def __post_init__(self) -> None:
        """Refuse what cannot be trained, or used elsewhere."""
        if len(self.graphs) < 2 or len(set(self.graphs)) < len(self.graphs):
            raise ValueError(f"graphs must be distinct and at least two, got {list(self.graphs)}")
        if self.training_seed in self.seeds:
            raise ValueError(
                f"the agents' seed {self.training_seed} must not be among those of the students "
                f"that they teach, {', '.join(map(str, self.seeds))}"
            )
        learners = [name for name, spec in AGENTS.items() if spec.learner]
        for agent in self.agents:
            if base_agent(agent) not in learners:
                raise unknown("agents, which have to learn", agent, learners)
            changes_of(agent, self.variants, self.source)

    def training(self, graph: str, out: Path) -> dict[str, Path]:
        """Where the agents that were trained on a graph are, by agent."""
        trials = self._comparison(graph, self.agents, (self.training_seed,)).trials()
        folder = _folder(out, graph) / "trained"
        return {trial.agent: trial_folder(folder, trial) for trial in trials}

    def _comparison(
        self, graph: str, agents: Sequence[str], seeds: tuple[int, ...]
    ) -> ComparisonConfig:
        trial = replace(self.trial, dataset=graph)
        return ComparisonConfig(tuple(agents), seeds, trial, self.variants, self.source)


def _folder(out: Path, graph: str) -> Path:
    return out / re.sub(r"[^A-Za-z0-9._-]+", "-", graph)


def transfer(
    config: TransferConfig, out: Path, jobs: int | None = None, quiet: bool = False
) -> dict[str, Any]:
    """Train every agent on every graph, and let it teach fresh students on every graph.

    Args:
        config: what to do.
        out: folder; two comparisons per graph, which the same call again resumes.
        jobs: processes, one thread each; None for one per core.
        quiet: without progress bars.

    Returns:
        `results`: by graph, the content of `results.json`; `origins`: by name of a trained agent,
        what was trained and where; `refused`: by (agent, origin, graph) why it cannot choose there.

    Raises:
        ValueError: bad configuration, or a trial failed.
    """
    for graph in config.graphs:
        for agent in (*CONTROLS, *config.agents):
            trial = replace(config.trial, agent=agent, dataset=graph)
            changes = changes_of(agent, config.variants, config.source)
            check_trial(replace(trial, changes=changes), config.source)
    for graph in config.graphs:
        training = config._comparison(graph, config.agents, (config.training_seed,))
        _complete(compare(training, _folder(out, graph) / "trained", jobs, quiet), graph)
    origins = {
        f"{TRAINED}{folder}": (agent, graph)
        for graph in config.graphs
        for agent, folder in config.training(graph, out).items()
    }
    results, refused = {}, {}
    for graph in config.graphs:
        there = []
        for name, (agent, origin) in origins.items():
            try:
                resolve(replace(config.trial, agent=name, dataset=graph, changes={}))
                there.append(name)
            except ValueError as error:
                refused[agent, origin, graph] = str(error)
        used = config._comparison(graph, (*CONTROLS, *config.agents, *there), config.seeds)
        results[graph] = compare(used, _folder(out, graph) / "used", jobs, quiet)
        _complete(results[graph], graph)
    return {"results": results, "origins": origins, "refused": refused}


def _complete(results: Mapping[str, Any], graph: str) -> None:
    for failure in results["failures"]:
        raise ValueError(f"{graph}: {failure['agent']} seed {failure['seed']}: {failure['error']}")


def render_transfer(config: TransferConfig, found: Mapping[str, Any]) -> str:
    """Markdown: per agent a table, trained on (rows) and used on (columns), and a sentence."""
    results = found["results"]
    rows = {
        graph: {row["agent"]: row for row in document["summary"]}
        for graph, document in results.items()
    }
    header = ["", *(f"`{cell(graph)}`" for graph in config.graphs)]
    lines = [
        ["`all`, test MRR", *(f"{100 * rows[graph]['all']['iqm']:.1f}" for graph in config.graphs)],
        ["`random` − `all`", *(_minus(rows[graph]["random"], "all") for graph in config.graphs)],
    ]
    parts = [table(header, lines)]
    for agent in config.agents:
        names = {origin: name for name, (of, origin) in found["origins"].items() if of == agent}
        body = [
            [
                f"trained on `{cell(origin)}`",
                *(
                    "refused"
                    if (agent, origin, graph) in found["refused"]
                    else _minus(rows[graph][names[origin]], "all")
                    for graph in config.graphs
                ),
            ]
            for origin in config.graphs
        ]
        learned = [_minus(rows[graph][agent], "all") for graph in config.graphs]
        body.append(["learns there, student by student", *learned])
        away = {
            (origin, graph): rows[graph][names[origin]]
            for origin in config.graphs
            for graph in config.graphs
            if origin != graph and (agent, origin, graph) not in found["refused"]
        }
        parts += [f"**`{cell(agent)}`** − `all`", table(header, body), _verdict(agent, away)]
    return "\n\n".join(parts) + "\n"


def _minus(row: Mapping[str, Any], other: str) -> str:
    difference = row["differences"][other]
    text = f"{100 * difference['mean']:+.1f}"
    if difference["interval"] is None:
        return text
    low, high = difference["interval"]
    bold = "**" if low > 0 else ""
    return f"{bold}{text} [{100 * low:+.1f}, {100 * high:+.1f}]{bold}"


def _verdict(agent: str, away: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """What the cells off the diagonal say, no more than their intervals allow."""
    if not away:
        return f"`{cell(agent)}` can be used on no graph but its own."
    counts = {"beats": 0, "loses to": 0, "cannot be told from": 0}
    best = 0
    for row in away.values():
        signs = []
        for control in CONTROLS:
            interval = row["differences"][control]["interval"]
            low, high = interval or (-1.0, 1.0)
            signs.append(1 if low > 0 else -1 if high < 0 else 0)
        told = {1: "beats", -1: "loses to", 0: "cannot be told from"}[signs[0]]
        counts[told] += 1
        best += signs == [1, 1]
    told = ", ".join(f"{words} `all` in {count}" for words, count in counts.items() if count)
    return (
        f"Away from home, `{cell(agent)}` {told} of {len(away)} cells; it beats both controls in "
        f"{best}."
    )
