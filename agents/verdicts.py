"""What a table of results says, in words that claim no more than the intervals allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agents.headroom import head_room, oracles_of, own_soft_label
from agents.hyperparameters import soft_label_changes
from agents.names import TRAINED, base_agent

CONTROLS = ("all", "random", "random:once", "cycle", "smooth", "fixed", "single:best")
LEARNERS = ("reinforce", "a2c", "ppo", "dqn", "sac", "td3")
FOOTNOTE = (
    "MRR and Hits are filtered, both directions, mean rank of ties. Each student was selected by "
    "its valid MRR and read test once. [..] are 95 % intervals over seeds: of differences "
    "Student's t, paired by seed; of shares Fieller's; of one agent's MRR a bootstrap's, which "
    "with three seeds covers 75 %. The formulas of DSoM are a reconstruction."
)


def compared(row: dict[str, Any], other: str) -> str:
    """How an agent did against another, by the paired difference of test MRR.

    Args:
        row: of `summary`.
        other: name of the other agent.
    """
    agent = row["agent"]
    difference = row["differences"].get(other)
    if difference is None:
        return f"{agent} was not compared with {other}"
    mean, interval = difference["mean"], difference["interval"]
    if interval is None:
        return f"{agent} and {other} differ by {mean:+.3f} on one seed, which shows nothing"
    low, high = interval
    shown = f"{mean:+.3f} MRR [{low:+.3f}, {high:+.3f}]"
    if low > 0:
        return f"{agent} beats {other} by {shown}"
    if high < 0:
        return f"{agent} loses to {other} by {shown}"
    return f"{agent} is not distinguishable from {other} ({shown})"


def beats(row: dict[str, Any], other: str) -> bool:
    """Whether the paired interval against `other` lies above zero."""
    difference = row["differences"].get(other)
    return bool(difference and difference["interval"] and difference["interval"][0] > 0)


def against_controls(row: dict[str, Any], controls: Sequence[str]) -> str:
    """How an agent did against every control, in one sentence.

    Args:
        row: of `summary`.
        controls: names of agents; itself and those it was not compared with are left out.
    """
    parts: dict[str, list[str]] = {}
    for control in controls:
        difference = row["differences"].get(control)
        if difference is None:
            continue
        mean, interval = difference["mean"], difference["interval"]
        if interval is None:
            outcome, shown = "cannot be told on one seed from", f"({mean:+.4f})"
        else:
            low, high = interval
            shown = f"({mean:+.4f} [{low:+.4f}, {high:+.4f}])"
            outcome = "is not distinguishable from"
            if low > 0 or high < 0:
                outcome = "beats" if low > 0 else "loses to"
        parts.setdefault(outcome, []).append(f"{control} {shown}")
    sentences = [f"{outcome} {', '.join(found)}" for outcome, found in parts.items()]
    return f"{row['agent']} {'; '.join(sentences)}" if sentences else ""


def controls_of(results: dict[str, Any]) -> list[str]:
    """The controls that were run."""
    names = {row["agent"] for row in results["summary"]}
    return [name for name in CONTROLS if name in names]


def rivals_of(results: dict[str, Any], agent: str) -> list[str]:
    """Whom an agent is measured by: what it is a variant of, and the controls with its soft label.

    For a variant with another soft label than the comparison's, those are variants of controls
    that differ by this soft label and nothing else.
    """
    changes = {run["agent"]: run.get("changes", {}) for run in results["runs"]}
    label = soft_label_changes(changes[agent])
    alike = {"environment": label} if label else {}
    controls = [
        name
        for control in CONTROLS
        for name in changes
        if base_agent(name) == control and changes[name] == alike
    ]
    return [name for name in dict.fromkeys([base_agent(agent), *controls]) if name != agent]


def relabelled(results: dict[str, Any]) -> set[str]:
    """Agents that were taught by another soft label than the comparison's."""
    return {run["agent"] for run in results["runs"] if own_soft_label(run)}


def learners_of(results: dict[str, Any]) -> list[str]:
    """The agents of `summary` that learn, variants after their own; plugged-in ones come last."""
    learned = {run["agent"] for run in results["runs"] if "hyperparameters" in run}
    learned -= oracles_of(results["runs"])
    names = [row["agent"] for row in results["summary"]]
    learners = [name for name in names if name in learned or name in LEARNERS]

    def place(name: str) -> tuple[int, bool]:
        base = base_agent(name)
        return LEARNERS.index(base) if base in LEARNERS else len(LEARNERS), base != name

    return sorted(learners, key=place)


def overall_verdict(results: dict[str, Any]) -> str:
    """Whether choosing per triple helped: every learner against the controls that are there.

    It helped where a learner's whole paired interval lies above 0 against *every* control that was
    run. That no control may be missed makes a correction for their number unnecessary; for the
    number of learners, variants included, nothing is corrected. Agents that were taught by
    another soft label do not take part: whatever they gain, the controls did without it.
    """
    verdict, apart = _verdict(results), relabelled(results)
    others = [name for name in learners_of(results) if name in apart]
    if others:
        verdict += f" Taught by another soft label, and not judged here: {', '.join(others)}."
    room = head_room(results["runs"])
    if room is None:
        return verdict
    realised = [words for name in learners_of(results) if (words := room.realised(name))]
    shares = f" {'; '.join(realised)}." if realised else ""
    return f"{verdict} {room.sentence()}{shares}"


def _verdict(results: dict[str, Any]) -> str:
    rows = {row["agent"]: row for row in results["summary"]}
    apart = relabelled(results)
    learners = [name for name in learners_of(results) if name not in apart]
    controls = controls_of(results)
    if not rows:
        return "No trial has finished."
    partial = "" if results["complete"] else " (partial results)"
    if not learners:
        what = "had the soft label of the others" if learners_of(results) else "was compared"
        return f"No learning agent {what}; {next(iter(rows))} has the best test MRR{partial}."
    if not {"all", "random"} <= set(controls):
        missing = ", ".join(name for name in ("all", "random") if name not in controls)
        return f"Whether choosing helped cannot be said without {missing}{partial}."
    # Trials that failed or have not run yet may leave an agent with a single seed.
    learners = [name for name in learners if rows[name]["runs"] > 1]
    if not learners or min(rows[name]["runs"] for name in controls) < 2:
        return f"One seed cannot tell any agents apart{partial}."
    winners = [name for name in learners if all(beats(rows[name], control) for control in controls)]
    if winners:
        names = " and ".join(winners)
        verb = "beats" if len(winners) == 1 else "beat"
        return f"{names} {verb} every control ({', '.join(controls)}): choosing helped{partial}."
    words = []
    for name in learners:
        short = [control for control in controls if not beats(rows[name], control)]
        words.append(f"{name} does not beat {', '.join(short)}")
    return f"Choosing per triple did not help here: {'; '.join(words)}{partial}."


def terminal_table(results: dict[str, Any]) -> str:
    """The table, best first, with a verdict per agent; 100 columns wide if names are short."""
    wide = max([16, *(len(row["agent"]) for row in results["summary"])])
    room = head_room(results["runs"])
    shared = room is not None and bool(room.shares)
    lines = [
        f"{'agent':{wide}} {'test MRR':>8} {'95 % interval':>17} {'Hits@1':>7} {'Hits@10':>7} "
        f"{'P(>all)':>8} {'seconds':>8} {'search':>7}{'  of room' if shared else ''}"
    ]
    for row in results["summary"]:
        runs = [run for run in results["runs"] if run["agent"] == row["agent"]]

        def mean(*path: str, runs: list[dict[str, Any]] = runs) -> float:
            values = [run[path[0]][path[1]] if len(path) > 1 else run[path[0]] for run in runs]
            return float(sum(values) / len(values))

        chance = row["probability_of_improvement"]
        low, high = row["interval"]
        search = mean("search_epochs")
        share = f"{room.share(row['agent']):>9}" if room is not None and shared else ""
        lines.append(
            f"{row['agent']:{wide}} {row['iqm']:8.4f} {f'[{low:.4f}, {high:.4f}]':>17} "
            f"{mean('test', 'hits@1'):7.4f} {mean('test', 'hits@10'):7.4f} "
            f"{'–' if chance is None else f'{chance:.2f}':>8} {mean('seconds'):8.1f} "
            f"{f'+{search:.0f} ep' if search else '':>7}{share}"
        )
    lines.append("")
    learners = learners_of(results)
    for row in results["summary"]:
        agent = row["agent"]
        # Whoever learns, or has learned, must hold its ground against every control, the others
        # against `all`, and a variant against what it varies.
        if agent in learners or agent.startswith(TRAINED):
            lines += _wrapped(against_controls(row, rivals_of(results, agent)))
        elif base_agent(agent) in row["differences"]:
            lines.append(compared(row, base_agent(agent)))
        elif agent != "all":
            lines.append(compared(row, "all"))
    lines += [
        f"failed: {failure['agent']} seed {failure['seed']}: {failure['error']}"
        for failure in results["failures"]
    ]
    return "\n".join([*lines, "", *_wrapped(results["verdict"]), "", *_wrapped(FOOTNOTE)])


def _wrapped(text: str, width: int = 98) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
