"""What each teacher is worth to each relation, read off students that were taught by chance.

Scores of teachers say how well they answer, not how well they teach, and students taught by chosen
masks differ in what was chosen and in why. Students of `random:relation` differ by coins alone:
for every relation, half of them were taught by a teacher and half were not. The difference of
their MRR on the valid triples of that relation is what this teacher's lessons on it cause, whatever
else was drawn. From it follows what choosing teachers by relation can win at all, before any agent
tries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.report.markdown import cell, table
from agents.report.outcome import parse_results
from agents.statistics import mean_interval

AGENT = "random:relation"
# More would choose better, and their intervals cover less: students would choose who is chosen for
# almost all others. Where nothing can be won two cover 92 %, ten 85 % (40 or 80 students).
FOLDS = 2
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Experiment:
    """Students and the masks that chance gave them.

    Attributes:
        relations: labels; those with valid triples.
        teachers: names.
        masks: `[students, relations, teachers]` of 0 and 1.
        mrr: `[students, relations]`, on the valid queries of each relation.
        queries: valid queries of each relation, `[relations]`.
    """

    relations: tuple[str, ...]
    teachers: tuple[str, ...]
    masks: Values
    mrr: Values
    queries: Values

    def __post_init__(self) -> None:
        """Refuse fewer students than the folds of `gain_of_choosing` can do with."""
        least = self.least_students(len(self.teachers))
        if len(self.masks) < least:
            raise ValueError(
                f"effects of {len(self.teachers)} teachers need at least {least} seeds of {AGENT}, "
                f"got {len(self.masks)}"
            )

    @staticmethod
    def least_students(teachers: int) -> int:
        """In each fold twice as many students as there are coefficients."""
        return 2 * FOLDS * (teachers + 1)

    @classmethod
    def of(cls, results: Mapping[str, Any]) -> Experiment:
        """The students of `random:relation` in the content of a `results.json`.

        Raises:
            ValueError: these are no results; or too few students, or from before
                `valid_by_relation` was noted; or the coins were not fair.
        """
        parse_results(results)
        if not results["config"]["environment"].get("allow_empty", True):
            raise ValueError("with allow_empty=false nobody is everybody, and no coin is fair")
        runs = [run for run in results["runs"] if run["agent"] == AGENT]
        if any("valid_by_relation" not in run for run in runs):
            raise ValueError(f"runs of {AGENT} lack valid_by_relation: run them again")
        teachers = tuple(results["teachers"])
        relations = tuple(runs[0]["valid_by_relation"]) if runs else ()
        shape = (len(runs), len(relations))
        masks = [
            [[run["mask_by_relation"].get(r, {}).get(t, 0.0) for t in teachers] for r in relations]
            for run in runs
        ]
        valid = [[run["valid_by_relation"][r] for r in relations] for run in runs]
        return cls(
            relations,
            teachers,
            np.array(masks, dtype=np.float64).reshape(*shape, len(teachers)),
            np.array([[metrics["mrr"] for metrics in row] for row in valid]).reshape(shape),
            np.array([metrics["count"] for metrics in valid[0]] if runs else [], dtype=np.float64),
        )

    @property
    def shares(self) -> Values:
        """Share of the valid queries that each relation has, `[relations]`."""
        shares: Values = self.queries / self.queries.sum()
        return shares


def least_squares(masks: Values, mrr: Values) -> tuple[Values, Values]:
    """MRR as a sum over the teachers that taught, by least squares.

    Args:
        masks: `[students, teachers]`.
        mrr: `[students]`.

    Returns:
        Coefficients `[1 + teachers]`, the constant first, and their standard errors. A teacher that
        taught all of the students, or none, has coefficient 0 and an infinite error.
    """
    design = np.column_stack([np.ones(len(masks)), masks])
    inverse = np.linalg.pinv(design.T @ design)
    coefficients = inverse @ design.T @ mrr
    left = mrr - design @ coefficients
    variance = (left @ left) / max(len(mrr) - design.shape[1], 1)
    errors = np.sqrt(variance * np.diag(inverse))
    known = np.concatenate([[True], masks.min(axis=0) < masks.max(axis=0)])
    return np.where(known, coefficients, 0.0), np.where(known, errors, np.inf)


def effects(experiment: Experiment) -> tuple[Values, Values]:
    """What being taught by each teacher adds to a relation's MRR, and the standard error.

    Returns:
        `[relations, teachers]` twice.
    """
    pairs = [
        least_squares(experiment.masks[:, r], experiment.mrr[:, r])
        for r in range(len(experiment.relations))
    ]
    return np.array([found[1:] for found, _ in pairs]), np.array([error[1:] for _, error in pairs])


@dataclass(frozen=True)
class Gain:
    """What the best masks per relation win over all teachers, in MRR over all valid queries.

    Attributes:
        mean: the estimate.
        interval: its 95 % interval.
        dropped: share of the valid queries' lessons that are left out.
    """

    mean: float
    interval: tuple[float, float]
    dropped: float


def gain_of_choosing(experiment: Experiment) -> Gain:
    """What leaving out, per relation, the teachers that do harm there wins over `all`.

    Cross-fitted over students, so that noise cannot choose and then applaud itself: who is left out
    is decided by one half of them, what it is worth is read off the other half, and the other way
    round. A student's reading of the effect of teacher `k` is `b + 4·(m_k − ½)·(y − ŷ)`, with `b`
    and `ŷ` from the other half and ½ the chance of the coin: unbiased whatever `b` and `ŷ` are
    (augmented inverse propensity weighting, Robins et al. 1994). Effects of teachers on one
    relation are taken to add up; the lessons on other relations are averaged over.
    """
    students, count = len(experiment.masks), len(experiment.teachers)
    readings, dropped = np.zeros(students), 0.0
    fold_of = np.arange(students) % FOLDS
    for fold in range(FOLDS):
        others, own = fold_of != fold, fold_of == fold
        for r, share in enumerate(experiment.shares.tolist()):
            masks, mrr = experiment.masks[:, r], experiment.mrr[:, r]
            fitted, _ = least_squares(masks[others], mrr[others])
            left = mrr[own] - fitted[0] - masks[own] @ fitted[1:]
            worth = fitted[1:] + 4.0 * (masks[own] - 0.5) * left[:, None]
            out = fitted[1:] < 0
            readings[own] -= share * worth[:, out].sum(axis=1)
            dropped += share * float(out.sum()) / count / FOLDS
    mean, interval = mean_interval(readings)
    assert interval is not None  # noqa: S101 - an experiment has more than one student
    return Gain(mean, interval, dropped)


def significant(found: Values, errors: Values) -> NDArray[np.bool_]:
    """Which of many effects no chance explains: 5 % for all of them together (Bonferroni)."""
    z = np.divide(found, errors, out=np.zeros_like(found), where=np.isfinite(errors) & (errors > 0))
    level = 0.05 / max(z.size, 1)
    two_sided = np.vectorize(lambda value: math.erfc(abs(value) / math.sqrt(2)))(z)
    chosen: NDArray[np.bool_] = two_sided < level
    return chosen


def render_effects(experiment: Experiment, most: int = 20) -> str:
    """The experiment as Markdown: a table of effects, and what they amount to.

    Args:
        experiment: the students.
        most: relations in the table, those with most valid queries.
    """
    found, errors = effects(experiment)
    marked = significant(found, errors)
    lines = [
        f"{len(experiment.masks)} students; of each relation every teacher taught by a coin. Valid "
        "MRR that a teacher's lessons on a relation add to that relation, in points (of 100), ± "
        "one standard error; a star where no chance explains it (5 % over the whole table).",
        "",
    ]
    rows = []
    order = np.argsort(-experiment.queries, kind="stable")
    means = 100 * experiment.mrr.mean(axis=0)
    for r in order[:most].tolist():
        cells = [
            f"{100 * found[r, k]:+.1f} ± {100 * errors[r, k]:.1f}{'*' if marked[r, k] else ''}"
            for k in range(len(experiment.teachers))
        ]
        head = [cell(experiment.relations[r]), f"{experiment.queries[r]:,.0f}", f"{means[r]:.1f}"]
        rows.append([*head, *cells])
    weights = experiment.shares[:, None]
    whole = 100 * (weights * found).sum(axis=0)
    spread = 100 * np.sqrt((weights**2 * errors**2).sum(axis=0))
    cells = [f"{whole[k]:+.1f} ± {spread[k]:.1f}" for k in range(len(whole))]
    total = 100 * float(experiment.shares @ experiment.mrr.mean(axis=0))
    queries = f"{experiment.queries.sum():,.0f}"
    rows.append(["*every relation*", queries, f"{total:.1f}", *cells])
    lines.append(table(["relation", "valid queries", "MRR", *map(cell, experiment.teachers)], rows))
    if len(order) > most:
        lines.append("")
        lines.append(f"{len(order) - most} relations with fewer valid queries are not shown.")
    gain = gain_of_choosing(experiment)
    low, high = (100 * end for end in gain.interval)
    harmful = int((marked & (found < 0)).sum())
    lines += [
        "",
        f"Effects that chance does not explain: {int(marked.sum())} of {marked.size}, {harmful} of "
        "them harmful. Leaving out, per relation, the teachers that seem to harm it (cross-fitted "
        f"over students: {gain.dropped:.0%} of the lessons) changes MRR by {100 * gain.mean:+.2f} "
        f"points [{low:+.2f}, {high:+.2f}] against all teachers.",
        "",
    ]
    return "\n".join(lines)
