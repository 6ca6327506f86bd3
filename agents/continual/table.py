"""A study of methods against forgetting as Markdown, for the terminal and for `table.md`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from agents.continual.metrics import curves, summary
from agents.report.markdown import cell, table
from agents.statistics import mean_interval, paired_difference

BASELINE = "finetuning"
CLAIMED = "asymmetric"
NOTE = (
    "Points of filtered test MRR, both directions, mean rank of ties, among the entities that "
    "exist when it is asked. *seen*: on all tasks so far, at the end; *newest*: on each task right "
    "after it, mean of the tasks; *forgetting*: drop from each task's best, at the end (below 0: "
    "later tasks helped); *forward*: on a task before its first update, above an untrained "
    "student. ± is half of a 95 % interval over orders and seeds; differences are paired by both, "
    "with Student's t."
)
Key = tuple[int, int]


def runs_of(results: dict[str, Any], method: str) -> list[dict[str, Any]]:
    """The finished runs of a method."""
    return [run for run in results["runs"] if run["method"] == method]


def differences(
    results: dict[str, Any],
    method: str,
    other: str,
    who: str,
    metric: str,
    order: int | None = None,
) -> tuple[float, tuple[float, float] | None] | None:
    """A metric of one method above another's: mean and interval, paired by order and seed.

    Args:
        results: of a study.
        method: of `results["config"]["methods"]`.
        other: another one.
        who: `student` or a teacher.
        metric: of `agents.continual.metrics.summary`.
        order: of one task order alone; None for all.

    Returns:
        None where the two have no finished pair.
    """
    values = [_by_key(results, name, who, metric, order) for name in (method, other)]
    keys = sorted(values[0].keys() & values[1].keys())
    if not keys:
        return None
    # Pairs are numbered: what they are paired by does not matter to the statistic.
    pairs = [{number: one[key] for number, key in enumerate(keys)} for one in values]
    return paired_difference(*pairs)


def _by_key(
    results: dict[str, Any], method: str, who: str, metric: str, order: int | None
) -> dict[Key, float]:
    return {
        (run["order"], run["seed"]): summary(run, who)[metric]
        for run in runs_of(results, method)
        if order is None or run["order"] == order
    }


def render_markdown(results: dict[str, Any]) -> str:
    """The whole study.

    Args:
        results: content of a study's `results.json`.
    """
    config = results["config"]
    trial = config["trial"]
    parts = [
        f"# {cell(results['graph']['name'])} in {config['tasks']} tasks, by {config['arrival']}",
        f"Agent {trial['agent']}, {trial['epochs']} epochs a task, batch {trial['batch']}; orders "
        f"{_listed(config['orders'])}, seeds {_listed(config['seeds'])}.",
    ]
    if not results["complete"]:
        parts.append("**Partial results:** not every trial has finished.")
    parts += [f"Failed: {_failure(failure)}" for failure in results["failures"]]
    if results["runs"]:
        teachers = list(results["runs"][0]["teachers"])
        parts += [_stream(results), NOTE]
        for who in ("student", *teachers):
            title = "The student" if who == "student" else f"The teacher {who}"
            parts += [f"## {title}", _methods(results, who), _against(results, who)]
            parts += [f"*seen* after every task, {who}:", _by_task(results, who)]
        parts += [f"## The claim\n\n{claim(results)}"]
    provenance = results["provenance"]
    parts.append(f"`{shlex.join(_without_folders(provenance['command']))}`")
    return "\n\n".join(parts) + "\n"


def _without_folders(command: str) -> list[str]:
    words = shlex.split(command)
    return [word.rstrip("/").rpartition("/")[2] if word.startswith("/") else word for word in words]


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _failure(failure: dict[str, Any]) -> str:
    return (
        f"{failure['method']} order {failure['order']} seed {failure['seed']}: {failure['error']}"
    )


def _stream(results: dict[str, Any]) -> str:
    """What arrives in each order."""
    by_order = {run["order"]: run for run in results["runs"]}
    rows = [
        [
            str(order),
            *(_arrow(by_order[order][name]) for name in ("entities", "relations", "triples")),
            f"{by_order[order]['deferred']:.1%}",
        ]
        for order in sorted(by_order)
    ]
    return table(["order", "entities", "relations", "training triples", "questions put off"], rows)


def _arrow(values: Sequence[int]) -> str:
    return " → ".join(f"{value:,}" for value in values)


def _methods(results: dict[str, Any], who: str) -> str:
    names = ["seen", "newest", "forgetting", *(["forward"] if who == "student" else [])]
    rows = []
    for method in results["config"]["methods"]:
        runs = runs_of(results, method)
        if not runs:
            continue
        cells = []
        for name in names:
            values = np.array([summary(run, who)[name] for run in runs])
            mean, interval = mean_interval(100 * values)
            half = "" if interval is None else f" ± {(interval[1] - interval[0]) / 2:.2f}"
            cells.append(f"{mean:.2f}{half}")
        seconds = np.mean([run["seconds"] for run in runs])
        rows.append([f"`{method}`", str(len(runs)), *cells, f"{seconds:.0f}"])
    return table(["method", "runs", *names, "seconds"], rows)


def _against(results: dict[str, Any], who: str) -> str:
    """Every method against finetuning, per order and over all, and the claimed one's rivals."""
    methods = [method for method in results["config"]["methods"] if runs_of(results, method)]
    orders = results["config"]["orders"]
    pairs = [(method, BASELINE) for method in methods if method != BASELINE]
    for method in methods:
        name, colon, size = method.partition(":")
        if name == CLAIMED:
            pairs += [(method, other + colon + size) for other in ("replay", "symmetric")]
    rows = []
    for method, other in pairs:
        if other not in methods:
            continue
        cells = [_difference(results, method, other, who, "seen", order) for order in orders]
        whole = [_difference(results, method, other, who, name) for name in ("seen", "forgetting")]
        rows.append([f"`{method}` − `{other}`", *cells, *whole])
    if not rows:
        return "Nothing to compare yet."
    columns = [f"seen, order {order}" for order in orders]
    return table(["difference", *columns, "seen, all", "forgetting, all"], rows)


def _difference(
    results: dict[str, Any],
    method: str,
    other: str,
    who: str,
    metric: str,
    order: int | None = None,
) -> str:
    found = differences(results, method, other, who, metric, order)
    if found is None:
        return "–"
    mean, interval = found
    if interval is None:
        return f"{100 * mean:+.2f}"
    low, high = interval
    shown = f"{100 * mean:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"
    return shown if low <= 0 <= high else f"**{shown}**"


def _by_task(results: dict[str, Any], who: str) -> str:
    rows = []
    for method in results["config"]["methods"]:
        runs = runs_of(results, method)
        if runs:
            found = [curves(run, who)["seen"] for run in runs]
            means = np.mean(np.array(found, dtype=np.float64), axis=0)
            rows.append([f"`{method}`", *(f"{100 * value:.2f}" for value in means)])
    header = [str(task + 1) for task in range(results["config"]["tasks"])]
    return table(["method", *header], rows)


def claim(results: dict[str, Any]) -> str:
    """Whether attention distillation beat finetuning on every order, at every size of the memory.

    It did where the whole paired interval of the student's *seen* lies above 0.
    """
    sentences = []
    for method in results["config"]["methods"]:
        if method.partition(":")[0] != CLAIMED:
            continue
        words = []
        for order in results["config"]["orders"]:
            found = differences(results, method, BASELINE, "student", "seen", order)
            if found is None or found[1] is None:
                words.append(f"cannot be told from it on order {order}, with fewer than two pairs")
                continue
            low, high = found[1]
            verb = "beats it" if low > 0 else "loses to it" if high < 0 else "is not told from it"
            words.append(
                f"{verb} on order {order} "
                f"({100 * found[0]:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}])"
            )
        sentences.append(f"Against {BASELINE}, {method} {', '.join(words)}.")
    return " ".join(sentences) or f"{CLAIMED} was not run."
