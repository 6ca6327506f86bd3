"""Intervals for a handful of seeds, as in rliable (Agarwal et al. 2021), in plain numpy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
CONFIDENCE = 0.95
REPETITIONS = 2000
# Two-sided 97.5 % quantiles of Student's t by degrees of freedom, and the normal's.
_T_QUANTILES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_NORMAL_QUANTILE = 1.959964


def _t_quantile(freedom: int) -> float:
    if freedom <= len(_T_QUANTILES):
        return _T_QUANTILES[freedom - 1]
    # Two terms of the expansion about the normal quantile: right to four digits from here on.
    z = _NORMAL_QUANTILE
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def iqm(scores: Scores) -> float:
    """Interquartile mean: the mean without the lowest and the highest quarter of the scores.

    Of `n` scores `⌊n/4⌋` are cut on each side, so up to three scores give their plain mean.

    Raises:
        ValueError: no scores.
    """
    values = np.sort(np.asarray(scores, dtype=np.float64).reshape(-1))
    if not len(values):
        raise ValueError("no scores")
    cut = len(values) // 4
    return float(values[cut : len(values) - cut].mean())


def stratified_bootstrap(
    scores: Scores,
    statistic: Callable[[Scores], float],
    rng: np.random.Generator,
    repetitions: int = REPETITIONS,
) -> tuple[float, float]:
    """Percentile interval (95 %) of a statistic, runs resampled within each task.

    Args:
        scores: `[runs, tasks]`.
        statistic: of an array like `scores`.
        rng: source of the resamples.
        repetitions: resamples.
    """
    runs, tasks = scores.shape
    values = []
    for _ in range(repetitions):
        rows = rng.integers(0, runs, size=(runs, tasks))
        values.append(statistic(scores[rows, np.arange(tasks)]))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def probability_of_improvement(better: Scores, worse: Scores) -> float:
    """Share of pairs in which a run of `better` beats one of `worse`; ties count one half."""
    gaps = np.subtract.outer(better, worse)
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())


def improvement_interval(
    better: Scores, worse: Scores, rng: np.random.Generator, repetitions: int = REPETITIONS
) -> tuple[float, float]:
    """Percentile interval (95 %) of `probability_of_improvement`, both sides resampled."""
    values = [
        probability_of_improvement(
            rng.choice(better, size=len(better)), rng.choice(worse, size=len(worse))
        )
        for _ in range(repetitions)
    ]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def paired_difference(
    scores: dict[int, float], baseline: dict[int, float]
) -> tuple[float, tuple[float, float] | None]:
    """Mean difference by seed and its 95 % interval from Student's t.

    Seeds share initial weights and batches, so differences by seed vary less than the scores. The
    interval is t's and not a bootstrap's: with three seeds a percentile bootstrap can only return
    values between the smallest and the largest difference, and covers far less than 95 %.

    Args:
        scores: by seed.
        baseline: by seed; only seeds that both have count.

    Returns:
        Difference, and its interval; None with fewer than two common seeds.

    Raises:
        ValueError: no seed in common.
    """
    seeds = sorted(scores.keys() & baseline.keys())
    if not seeds:
        raise ValueError("no seed in common")
    gaps = np.array([scores[seed] - baseline[seed] for seed in seeds])
    mean = float(gaps.mean())
    if len(gaps) < 2:
        return mean, None
    half = _t_quantile(len(gaps) - 1) * float(gaps.std(ddof=1)) / math.sqrt(len(gaps))
    return mean, (mean - half, mean + half)


def summarise(runs: Sequence[dict[str, Any]], baseline: str = "all") -> list[dict[str, Any]]:
    """One row per agent, best first by the IQM of test MRR (docs/results-format.md).

    Args:
        runs: entries of `runs` of `results.json`.
        baseline: agent that the others are compared with.
    """
    by_agent: dict[str, dict[int, float]] = {}
    for run in runs:
        by_agent.setdefault(run["agent"], {})[run["seed"]] = run["test"]["mrr"]
    reference = by_agent.get(baseline)
    rows = []
    for agent, by_seed in by_agent.items():
        scores = np.array([by_seed[seed] for seed in sorted(by_seed)])
        # A generator of its own, so that an agent's interval does not depend on its company.
        rng = np.random.default_rng(0)
        row: dict[str, Any] = {
            "agent": agent,
            "runs": len(scores),
            "iqm": iqm(scores),
            "interval": list(stratified_bootstrap(scores[:, None], iqm, rng)),
            "probability_of_improvement": None,
            "improvement_interval": None,
            "differences": {},
        }
        if reference is not None:
            others = np.array([reference[seed] for seed in sorted(reference)])
            row["probability_of_improvement"] = probability_of_improvement(scores, others)
            row["improvement_interval"] = list(improvement_interval(scores, others, rng))
        for other, other_scores in by_agent.items():
            if other != agent and by_seed.keys() & other_scores.keys():
                mean, interval = paired_difference(by_seed, other_scores)
                row["differences"][other] = {
                    "mean": mean,
                    "interval": list(interval) if interval else None,
                }
        rows.append(row)
    return sorted(rows, key=lambda row: -row["iqm"])
