"""Compares agents: performance profiles, the probability of improvement, a difference of means.

The first two are over several tasks, and are those of Agarwal et al. (arXiv:2108.13264). An agent's
scores are given as strata: an array `[S]` for each task, in the same order for all agents. Each
task weighs the same, however many seeds it has. Intervals are 95 % percentile bootstraps that
resample the seeds of each task separately.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from dtql_jax.report.statistics import interval, resampled

Strata = Sequence[np.ndarray]


def performance_profile(strata: Strata, thresholds: np.ndarray) -> np.ndarray:
    """The share of runs that score above each threshold `[T]`, averaged over tasks."""
    return np.mean([_above(scores, thresholds).mean(0) for scores in strata], axis=0)


def profile_band(
    strata: Strata, thresholds: np.ndarray, resamples: int = 1000
) -> tuple[np.ndarray, np.ndarray]:
    """The lower and the upper end of the profile's interval at each threshold, `[T]` both."""
    rng = np.random.default_rng(0)
    shares = np.zeros((resamples, len(thresholds)))
    for scores in strata:
        weights = _weights(rng, len(scores), resamples)
        shares += weights @ _above(scores, thresholds) / len(strata)
    low, high = np.quantile(shares, [0.025, 0.975], axis=0)
    return low, high


def probability_of_improvement(ours: Strata, theirs: Strata) -> float:
    """The probability that a run of ours scores above one of theirs, averaged over tasks.

    A tie counts as a half. The two runs are drawn from the same task, each at random.
    """
    return float(np.mean([_wins(a, b).mean() for a, b in zip(ours, theirs, strict=True)]))


def improvement_interval(
    ours: Strata, theirs: Strata, resamples: int = 2000
) -> tuple[float, float]:
    """The interval of `probability_of_improvement`, with the runs of both resampled."""
    rng = np.random.default_rng(0)
    chances = np.zeros(resamples)
    for a, b in zip(ours, theirs, strict=True):
        left, right = (_weights(rng, len(scores), resamples) for scores in (a, b))
        chances += np.einsum('rn,nm,rm->r', left, _wins(a, b), right, optimize=True) / len(ours)
    return interval(chances)


@dataclasses.dataclass(frozen=True)
class Difference:
    """The mean of some scores minus that of others.

    Attributes:
        mean: the difference.
        low: the lower end of its 95 % bootstrap interval.
        high: the upper end.
        p: the share of random splits of all scores into two such groups whose means differ by no
            less: the p-value of a permutation test.
    """

    mean: float
    low: float
    high: float
    p: float

    @property
    def verdict(self) -> str:
        """'higher', 'lower', or 'inconclusive': the interval holds 0, or p is above 0.05.

        The bootstrap of five seeds alone is too narrow; the permutation test does not depend on it.
        """
        if self.p > 0.05 or self.low <= 0 <= self.high:
            return 'inconclusive'
        return 'higher' if self.mean > 0 else 'lower'


def difference_of_means(ours: ArrayLike, theirs: ArrayLike, resamples: int = 10_000) -> Difference:
    """Compares scores `[S]` with others `[S']` of the same task; no pair of them belongs together.

    Raises:
        ValueError: a score is not finite, or there is none.
    """
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    rng = np.random.default_rng(0)
    samples = resampled(rng, ours, resamples).mean(1) - resampled(rng, theirs, resamples).mean(1)
    low, high = interval(samples)
    mean = float(ours.mean() - theirs.mean())
    pooled = np.tile(np.concatenate([ours, theirs]), (resamples, 1))
    split = rng.permuted(pooled, axis=1)
    apart = np.abs(split[:, : len(ours)].mean(1) - split[:, len(ours) :].mean(1))
    # The splits as they are count too; rounding must not tell them from their own difference.
    chance = (1 + np.count_nonzero(apart >= abs(mean) - 1e-9)) / (1 + resamples)
    return Difference(mean, low, high, chance)


def _above(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Whether each score is above each threshold, `[S, T]`."""
    return np.asarray(scores)[:, None] > thresholds


def _wins(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """1 where a score of ours is above one of theirs, a half where they are equal, `[S, S']`."""
    difference = np.asarray(ours)[:, None] - np.asarray(theirs)
    return (np.sign(difference) + 1) / 2


def _weights(rng: np.random.Generator, count: int, resamples: int) -> np.ndarray:
    """How often each of `count` runs is in each bootstrap sample, as a share, `[resamples, S]`."""
    return rng.multinomial(count, np.full(count, 1 / count), size=resamples) / count
