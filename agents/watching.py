"""How far a comparison is, read from its files: what is done, what runs, and how long it takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agents.names import folder_of
from agents.running import DEAD_AFTER, FILE, PROGRESS

State = Literal["running", "complete", "failed", "stopped"]


@dataclass(frozen=True)
class Progress:
    """A trial in progress.

    Attributes:
        agent: whose trial.
        seed: its seed.
        epoch: the last that has ended; 0 before the first.
        valid_mrr: of the student after it.
        elapsed: seconds since the trial began.
    """

    agent: str
    seed: int
    epoch: int
    valid_mrr: float | None
    elapsed: float


@dataclass(frozen=True)
class Done:
    """A finished trial: its agent and seed, its best valid MRR, and its seconds."""

    agent: str
    seed: int
    valid_mrr: float
    seconds: float


@dataclass(frozen=True)
class Snapshot:
    """A comparison at one moment.

    Attributes:
        state: `failed` where every trial has ended and some have failed; `stopped` where trials
            are missing and nobody is running them.
        agents: those compared.
        seeds: of each agent.
        epochs: of each trial.
        jobs: processes.
        done: finished trials.
        running: trials in progress.
        failures: agent, seed and error of trials that failed.
        verdict: what came out so far; empty before the first result.
    """

    state: State
    agents: tuple[str, ...]
    seeds: tuple[int, ...]
    epochs: int
    jobs: int
    done: tuple[Done, ...]
    running: tuple[Progress, ...]
    failures: tuple[Mapping[str, Any], ...]
    verdict: str

    @property
    def trials(self) -> int:
        """How many there are."""
        return len(self.agents) * len(self.seeds)

    @property
    def waiting(self) -> list[str]:
        """The agent of every trial that has not begun."""
        begun = {(one.agent, one.seed) for one in self.done}
        begun |= {(one.agent, one.seed) for one in self.running}
        begun |= {(failure["agent"], failure["seed"]) for failure in self.failures}
        pairs = [(agent, seed) for seed in self.seeds for agent in self.agents]
        return [agent for agent, seed in pairs if (agent, seed) not in begun]

    def seconds_left(self) -> float | None:
        """About how long it takes; None while nothing tells.

        A trial takes as long as the finished ones of its agent; without any, as its progress so
        far says; else as long as all others on average.
        """
        finished: dict[str, list[float]] = {}
        for one in self.done:
            finished.setdefault(one.agent, []).append(one.seconds)
        known = {agent: sum(values) / len(values) for agent, values in finished.items()}
        for trial in self.running:
            if trial.epoch:
                known.setdefault(trial.agent, trial.elapsed * self.epochs / trial.epoch)
        if not known:
            return None
        usual = sum(known.values()) / len(known)
        left = sum(known.get(agent, usual) for agent in self.waiting)
        for trial in self.running:
            left += max(known.get(trial.agent, usual) - trial.elapsed, 0.0)
        processes = min(self.jobs, len(self.waiting) + len(self.running))
        return left / max(processes, 1)


def look(out: Path, now: float) -> Snapshot:
    """What the files of a comparison say.

    Args:
        out: its folder.
        now: seconds since 1970.

    Raises:
        ValueError: there is no comparison in it.
    """
    results, plan = _read(out / "results.json"), _read(out / FILE)
    # A comparison that was killed leaves its sign of life behind.
    alive = plan is not None and now - _written(out / FILE) < DEAD_AFTER
    if results is None and not alive:
        raise ValueError(f"{out} holds no comparison: results.json is missing")
    try:
        return _snapshot(out, results, plan if alive else None, now)
    except (KeyError, TypeError) as error:
        path = out / "results.json"
        raise ValueError(f"{path} is not the result of a comparison: {error!r}") from None


def _written(path: Path) -> float:
    """When a file was last written; long ago for one that has just been removed."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None


def _snapshot(out: Path, results: Any, plan: Any, now: float) -> Snapshot:
    config = plan or results["config"]
    agents, seeds = tuple(config["agents"]), tuple(config["seeds"])
    asked = {(agent, seed) for agent in agents for seed in seeds}
    runs = results["runs"] if results else []
    done = [
        Done(run["agent"], run["seed"], run["valid"]["mrr"], run["seconds"])
        for run in runs
        if (run["agent"], run["seed"]) in asked
    ]
    failures = tuple(results["failures"]) if results else ()
    if plan and failures and _written(out / "results.json") < plan["started"]:
        # Those of the last time: they are tried again.
        failures = ()
    over = {(one.agent, one.seed) for one in done}
    running = _in_progress(out, plan["started"], sorted(asked - over), now) if plan else []
    state: State = "stopped"
    if plan:
        state = "running"
    elif results["complete"]:
        state = "complete"
    elif len(done) + len(failures) == len(asked):
        state = "failed"
    return Snapshot(
        state=state,
        agents=agents,
        seeds=seeds,
        epochs=config["epochs"],
        jobs=plan["jobs"] if plan else 1,
        done=tuple(done),
        running=tuple(running),
        failures=failures,
        verdict=results["verdict"] if results and done else "",
    )


def _in_progress(
    out: Path, since: float, trials: Sequence[tuple[str, int]], now: float
) -> list[Progress]:
    """Trials that began since the comparison did: older signs are of one that was killed."""
    found = []
    for agent, seed in trials:
        said = _read(folder_of(out, agent, seed) / PROGRESS)
        if said is not None and said["started"] >= since:
            elapsed = now - said["started"]
            found.append(Progress(agent, seed, said["epoch"], said["valid_mrr"], elapsed))
    return found


def progress_text(snapshot: Snapshot) -> str:
    """The comparison as a table, without how long it still takes."""
    waiting = snapshot.waiting
    counts = [f"{len(snapshot.done)} of {snapshot.trials} trials done"]
    if snapshot.state == "running":
        counts += [f"{len(snapshot.running)} running", f"{len(waiting)} waiting"]
    if snapshot.failures:
        counts.append(f"{len(snapshot.failures)} failed")
    lines = [", ".join(counts)]
    if snapshot.state == "running" and not snapshot.running and len(waiting) == snapshot.trials:
        lines.append("nothing has begun: first the teachers are trained and asked")
    width = max(map(len, (*snapshot.agents, "agent")))
    lines += ["", f"{'agent':{width}}  valid MRR   done  now"]
    for agent in snapshot.agents:
        own = [one.valid_mrr for one in snapshot.done if one.agent == agent]
        mean = f"{sum(own) / len(own):9.4f}" if own else f"{'–':>9}"
        done = f"{len(own)}/{len(snapshot.seeds)}"
        now = "; ".join(
            f"seed {one.seed}: epoch {one.epoch}/{snapshot.epochs}"
            + (f", {one.valid_mrr:.4f}" if one.valid_mrr is not None else "")
            for one in snapshot.running
            if one.agent == agent
        )
        lines.append(f"{agent:{width}}  {mean}  {done:>5}  {now}".rstrip())
    lines += [
        f"failed: {failure['agent']} seed {failure['seed']}: {failure['error']}"
        for failure in snapshot.failures
    ]
    return "\n".join(lines)


def ending(snapshot: Snapshot) -> str:
    """What there is to say once nobody works on it any more, or how long it still takes."""
    if snapshot.state == "running":
        left = snapshot.seconds_left()
        return "" if left is None else f"about {duration(left)} left"
    if snapshot.state == "stopped":
        return "stopped before it was complete: the same compare command resumes"
    return snapshot.verdict


def duration(seconds: float) -> str:
    """`40 s`, `3 min`, `2 h 10 min`."""
    if seconds < 90:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def watch(
    out: Path,
    say: Callable[[str], None],
    wait: Callable[[], None],
    clock: Callable[[], float],
    every_time: bool = False,
) -> Snapshot:
    """Say how far a comparison is whenever that changes, until nobody works on it any more.

    Args:
        out: its folder.
        say: gets the text.
        wait: called between two looks.
        clock: seconds since 1970.
        every_time: say also what has not changed, but for the time left.

    Returns:
        The last look.
    """
    said = None
    while True:
        snapshot = look(out, clock())
        text = progress_text(snapshot)
        if every_time or text != said or snapshot.state != "running":
            last = ending(snapshot)
            say(f"{text}\n\n{last}" if last else text)
            said = text
        if snapshot.state != "running":
            return snapshot
        wait()
