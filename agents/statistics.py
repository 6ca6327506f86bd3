"""Intervals for a handful of seeds, in plain numpy.

Of an agent's scores: interquartile means with bootstrap intervals, as in rliable (Agarwal et al.
2021). Of differences between agents, from which all verdicts follow: Student's t, paired by seed.
Simulated on normals, the bootstrap's 95 % intervals cover 75 % with three seeds, 88 % with four or
five, 93 % with ten; Student's t covers 95 % with any number (tests/agents/test_statistics.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
CONFIDENCE = 0.95
REPETITIONS = 2000
# Pairs of runs compared at a time, over all resamples.
_PAIRS = 2**20
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
    values = np.asarray(scores, dtype=np.float64)
    if not values.size:
        raise ValueError("no scores")
    return float(_iqms(values.reshape(1, -1, 1))[0])


def _iqms(scores: Scores) -> Scores:
    """Interquartile mean of each `[runs, tasks]` of `[resamples, runs, tasks]`."""
    values = np.sort(scores.reshape(len(scores), -1), axis=1)
    cut = values.shape[1] // 4
    means: Scores = values[:, cut : values.shape[1] - cut].mean(axis=1)
    return means


def stratified_bootstrap(
    scores: Scores,
    statistic: Callable[[Scores], Scores],
    rng: np.random.Generator,
    repetitions: int = REPETITIONS,
) -> tuple[float, float]:
    """Percentile interval (95 %) of a statistic, runs resampled within each task.

    Args:
        scores: `[runs, tasks]`.
        statistic: of many arrays like `scores`, `[repetitions, runs, tasks]`, one value each.
        rng: source of the resamples.
        repetitions: resamples.
    """
    runs, tasks = scores.shape
    rows = rng.integers(0, runs, size=(repetitions, runs, tasks))
    values = statistic(scores[rows, np.arange(tasks)])
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def performance_profile(
    scores: Scores, thresholds: Scores, rng: np.random.Generator, repetitions: int = 500
) -> tuple[Scores, Scores, Scores]:
    """Share of all runs on all tasks whose score lies above each threshold.

    The performance profile of Agarwal et al. (2021) with its pointwise 95 % bootstrap interval,
    runs resampled within each task: it shows whether an agent is better everywhere or here and
    there, which a mean cannot.

    Args:
        scores: `[runs, tasks]`.
        thresholds: `[thresholds]`.
        rng: source of the resamples.
        repetitions: resamples.

    Returns:
        The share, and the lower and upper end of its interval, `[thresholds]` each.
    """
    runs, tasks = scores.shape

    def above(values: Scores) -> Scores:
        ordered = np.sort(values, axis=None)
        shares: Scores = 1.0 - np.searchsorted(ordered, thresholds, "right") / len(ordered)
        return shares

    resampled = [
        above(scores[rng.integers(0, runs, size=(runs, tasks)), np.arange(tasks)])
        for _ in range(repetitions)
    ]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail], axis=0)
    return above(scores), low, high


def probability_of_improvement(better: Scores, worse: Scores) -> float:
    """Share of pairs in which a run of `better` beats one of `worse`; ties count one half."""
    gaps = np.subtract.outer(better, worse)
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())


def improvement_interval(
    better: Scores, worse: Scores, rng: np.random.Generator, repetitions: int = REPETITIONS
) -> tuple[float, float]:
    """Percentile interval (95 %) of `probability_of_improvement`, both sides resampled."""
    counts = np.repeat((len(better), len(worse)), (len(better), len(worse)))
    rows = rng.integers(0, counts, size=(repetitions, len(counts)))
    together = max(_PAIRS // (len(better) * len(worse)), 1)
    values = []
    for start in range(0, repetitions, together):
        part = rows[start : start + together]
        first, second = better[part[:, : len(better)]], worse[part[:, len(better) :]]
        gaps = first[:, :, None] - second[:, None, :]
        values += ((gaps > 0) + 0.5 * (gaps == 0)).mean(axis=(1, 2)).tolist()
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
    return mean_interval(np.array([scores[seed] - baseline[seed] for seed in seeds]))


def mean_interval(values: Scores) -> tuple[float, tuple[float, float] | None]:
    """Mean of `values` `[n]` and its 95 % interval from Student's t; None for a single value."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, None
    half = _t_quantile(len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean, (mean - half, mean + half)


def ratio_interval(
    numerator: Scores, denominator: Scores
) -> tuple[float, tuple[float, float]] | None:
    """Ratio of the means of paired samples and its 95 % interval, by Fieller's theorem.

    Exact for pairs of normals, as the interval of `paired_difference` is for their differences:
    the ratios `ρ` for which Student's t does not reject that `numerator − ρ·denominator` has
    mean 0.

    Args:
        numerator: `[pairs]`.
        denominator: `[pairs]`.

    Returns:
        Ratio and interval; None where the mean of the denominator has not its whole interval above
        0, because then every ratio, however large, is consistent with the samples.
    """
    pairs = len(denominator)
    if pairs < 2:
        return None
    over, under = float(numerator.mean()), float(denominator.mean())
    noise = _t_quantile(pairs - 1) ** 2 / pairs * np.cov(numerator, denominator, ddof=1)
    # The interval lies between the roots of a·ρ² − 2·b·ρ + c.
    a, b, c = under**2 - noise[1, 1], over * under - noise[0, 1], over**2 - noise[0, 0]
    if under <= 0 or a <= 0:
        return None
    root = math.sqrt(max(b**2 - a * c, 0.0))
    return over / under, (float((b - root) / a), float((b + root) / a))


def spearman(first: Scores, second: Scores) -> float | None:
    """Rank correlation, ties at their mean rank; None where either is constant."""
    ranks = [_ranks(first), _ranks(second)]
    if any(len(one) < 2 or one.min() == one.max() for one in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: Scores) -> Scores:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Scores = (np.cumsum(counts) - (counts - 1) / 2)[inverse.reshape(-1)]
    return ranks


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
            "interval": list(stratified_bootstrap(scores[:, None], _iqms, rng)),
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
