"""How much choosing could gain, as far as an oracle shows it, and who gains how much of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from agents.hyperparameters import soft_label_changes
from agents.names import SINGLE, base_agent
from agents.statistics import iqm, paired_difference, ratio_interval

Interval = tuple[float, float]
# Their masks follow from nothing that is known of the query: what is to be had without choosing.
UNCHOOSING = ("none", "smooth", "all", "random", "random:once", "random:relation", "cycle", "fixed")


@dataclass(frozen=True)
class HeadRoom:
    """Test MRR of the best oracle above the best agent that does not choose, paired by seed.

    Both are the best by *valid* MRR: the best of many by test would flatter both ends.

    Attributes:
        oracle: name of the bound.
        control: name of the agent that does not choose.
        mean: difference by seed.
        interval: its 95 % Student's t interval; None with one seed in common.
        shares: per other agent the share of the difference that it realises, and its 95 % interval
            by Fieller's theorem; empty unless the difference has its whole interval above 0.
    """

    oracle: str
    control: str
    mean: float
    interval: Interval | None
    shares: Mapping[str, tuple[float, Interval]]

    def to_json(self) -> dict[str, Any]:
        """As JSON types, see docs/results-format.md."""
        plain = asdict(self)
        plain["interval"] = list(self.interval) if self.interval else None
        plain["shares"] = {
            agent: {"mean": mean, "interval": list(interval)}
            for agent, (mean, interval) in self.shares.items()
        }
        return plain

    def sentence(self, percent: bool = False) -> str:
        """How large it is; where there is none to share, why.

        Args:
            percent: whether MRR is shown in percent.
        """
        pair = f"{self.oracle} and {self.control}"
        if self.interval is None:
            return f"Head-room is not measurable: {pair} have one seed in common."
        low, high = self.interval
        mean, start, end = (
            f"{100 * value:+.2f}" if percent else f"{value:+.4f}"
            for value in (self.mean, low, high)
        )
        shown = f"{mean} MRR [{start}, {end}]"
        if low > 0:
            return f"Head-room: {self.oracle} beats {self.control} by {shown}."
        if high < 0:
            return (
                f"There is no head-room: {self.oracle} loses to {self.control} by {shown}, "
                "so it is no bound."
            )
        return (
            f"Head-room is not measurable: {self.oracle} is not distinguishable from "
            f"{self.control} ({shown}), so a share of it would mean nothing."
        )

    def share(self, agent: str) -> str:
        """What an agent realises: `37 %`, `< 0` or `> 100 %`; a dash where that means nothing."""
        return _percent(self.shares[agent][0]) if agent in self.shares else "–"

    def share_with_interval(self, agent: str) -> str:
        """The same with its interval, `37 % [< 0, 82 %]`."""
        if agent not in self.shares:
            return "–"
        mean, (low, high) = self.shares[agent]
        return f"{_percent(mean)} [{_percent(low)}, {_percent(high)}]"

    def realised(self, agent: str) -> str:
        """The same as half a sentence, `ppo realises 37 % of it [< 0, 82 %]`; or nothing."""
        if agent not in self.shares:
            return ""
        mean, (low, high) = self.shares[agent]
        amount = "none" if mean < 0 else "more than all" if mean > 1 else _percent(mean)
        return f"{agent} realises {amount} of it [{_percent(low)}, {_percent(high)}]"


def _percent(share: float) -> str:
    """A share in words where it leaves [0, 1]: how far beyond says more of noise than of agents."""
    if share < 0:
        return "< 0"
    return "> 100 %" if share > 1 else f"{share:.0%}".replace("%", " %")


def head_room(runs: Sequence[Mapping[str, Any]]) -> HeadRoom | None:
    """Head-room of a comparison; None without an oracle, or without an agent that does not choose.

    Runs taught by another soft label than the comparison's are left out, see `own_soft_label`.

    Args:
        runs: entries of `runs` of `results.json`.
    """
    test: dict[str, dict[int, float]] = {}
    valid: dict[str, list[float]] = {}
    runs = [run for run in runs if not own_soft_label(run)]
    for run in runs:
        test.setdefault(run["agent"], {})[run["seed"]] = run["test"]["mrr"]
        valid.setdefault(run["agent"], []).append(run["valid"]["mrr"])
    known = oracles_of(runs)
    oracles = [name for name in test if name in known]
    controls = [name for name in test if not chooses(name)]
    if not oracles or not controls:
        return None

    def best(names: Sequence[str]) -> str:
        return max(names, key=lambda name: iqm(np.array(valid[name])))

    oracle, control = best(oracles), best(controls)
    if not test[oracle].keys() & test[control].keys():
        return None
    mean, interval = paired_difference(test[oracle], test[control])
    shares = {}
    if interval is not None and interval[0] > 0:
        for agent in test:
            seeds = sorted(test[agent].keys() & test[oracle].keys() & test[control].keys())
            gains, room = (
                np.array([test[name][seed] - test[control][seed] for seed in seeds])
                for name in (agent, oracle)
            )
            share = ratio_interval(gains, room)
            if share is not None and agent not in (oracle, control):
                shares[agent] = share
    return HeadRoom(oracle, control, mean, interval, shares)


def own_soft_label(run: Mapping[str, Any]) -> bool:
    """Whether the student of a run was taught by another soft label than the comparison's.

    A variant's changes say so, or its agent chose how sharp it was (`action_mode=tempered`). What
    is gained or lost by it is not the choice's alone, since the controls did without.

    Args:
        run: an entry of `runs` of `results.json`.
    """
    tempered = "tempering" in run.get("selection", {}).get("epochs", {})
    return tempered or bool(soft_label_changes(run.get("changes", {})))


def oracles_of(runs: Sequence[Mapping[str, Any]]) -> set[str]:
    """Agents that know what no agent can; in files from before `oracle` was noted, by name."""
    return {
        run["agent"] for run in runs if run.get("oracle", run["agent"].split(":")[0] == "oracle")
    }


def chooses(agent: str) -> bool:
    """Whether the masks of an agent, or of what it varies, follow from what the query is."""
    return base_agent(agent) not in UNCHOOSING and not agent.startswith(SINGLE)
