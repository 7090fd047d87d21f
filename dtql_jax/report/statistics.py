"""Summarises scores over a few seeds, and compares samples by their ranks.

The interquartile mean (IQM) and the stratified percentile bootstrap are those of Agarwal et al.,
'Deep Reinforcement Learning at the Edge of the Statistical Precipice' (arXiv:2108.13264). The IQM
drops the lowest and the highest quarter of the runs. One lucky or broken seed moves it less than
the mean, and it varies less than the median.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

Statistic = Callable[..., Any]

# A percentile bootstrap of fewer values gives far too narrow an interval. Show the values instead.
MIN_SEEDS_FOR_INTERVAL = 5
# Of one task among several. The bootstrap of a single seed has no width at all.
MIN_SEEDS_OF_A_TASK = 3


def iqm(values: ArrayLike, axis: int | None = None) -> Any:
    """The mean of all `n` values without the `floor(n / 4)` lowest and as many highest.

    So the middle 2 of 4 values count, the middle 3 of 5, the middle 5 of 7, the middle 4 of 8, and
    all values below 4. This is rliable's rule.

    Args:
        values: the values.
        axis: the axis along which they are taken; None means all of them.

    Raises:
        ValueError: a value is not finite, or there is none.
    """
    values = _finite(values)
    values = values.reshape(-1) if axis is None else np.moveaxis(values, axis, -1)
    values = np.sort(values, axis=-1)
    count = values.shape[-1]
    middle = values[..., count // 4 : count - count // 4].mean(-1)
    return float(middle) if axis is None else middle


def bootstrap_interval(
    values: ArrayLike,
    statistic: Statistic = iqm,
    *,
    confidence: float = 0.95,
    resamples: int = 5000,
) -> tuple[float, float]:
    """The percentile bootstrap interval of `statistic` over seeds.

    It is stratified: the seeds of each task are resampled separately. The generator's seed is
    fixed, so the same values always give the same interval.

    Args:
        values: scores, `[S]` or `[S, tasks]`.
        statistic: `statistic(values, axis=1)` maps all scores `[N]` of each sample to a number.
        confidence: the share of the distribution between the two ends.
        resamples: the number of bootstrap samples.

    Returns:
        The lower and the upper end.

    Raises:
        ValueError: a value is not finite, or there is none.
    """
    values = _finite(values)
    strata = list(values.reshape(len(values), -1).T)
    return stratified_interval(strata, statistic, confidence=confidence, resamples=resamples)


def stratified_interval(
    strata: Sequence[np.ndarray],
    statistic: Statistic = iqm,
    *,
    confidence: float = 0.95,
    resamples: int = 5000,
) -> tuple[float, float]:
    """`bootstrap_interval` of tasks that may differ in their number of seeds.

    Args:
        strata: the scores of each task, `[S]`.
        statistic: as there; it gets the scores of all tasks of a sample in one row.
        confidence: as there.
        resamples: as there.

    Raises:
        ValueError: a value is not finite, or a task has none.
    """
    rng = np.random.default_rng(0)
    samples = [resampled(rng, values, resamples) for values in strata]
    return interval(statistic(np.concatenate(samples, axis=1), axis=1), confidence)


def tells_interval(strata: Sequence[np.ndarray]) -> bool:
    """Whether the scores of each task, `[S]`, are enough for `stratified_interval`."""
    counts = [len(values) for values in strata]
    return sum(counts) >= MIN_SEEDS_FOR_INTERVAL and min(counts) >= MIN_SEEDS_OF_A_TASK


def resampled(rng: np.random.Generator, values: ArrayLike, resamples: int) -> np.ndarray:
    """Bootstrap samples of values `[S, ...]`: `[resamples, S, ...]`.

    Raises:
        ValueError: a value is not finite, or there is none.
    """
    values = _finite(values)
    return values[rng.integers(len(values), size=(resamples, len(values)))]


def interval(samples: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """The two ends between which the middle share of the samples lies."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return float(low), float(high)


def curve(values: np.ndarray, resamples: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The course of several seeds in one line with a band.

    Args:
        values: scores `[S, E]` of each seed at each evaluation; NaN where a seed has none.
        resamples: the number of bootstrap samples.

    Returns:
        At each evaluation, `[E]`: the IQM and its 95 % interval where five seeds have a score. With
        fewer the mean, the lowest and the highest. NaN where no seed has one.
    """
    values = np.asarray(values, np.float64)
    middle, low, high = np.full((3, values.shape[1]), np.nan)
    known = ~np.isnan(values)
    for mask in np.unique(known, axis=1).T:  # evaluations that the same seeds have, at once
        at = (known == mask[:, None]).all(0)
        mine = values[mask][:, at]
        if len(mine) >= MIN_SEEDS_FOR_INTERVAL:
            samples = iqm(resampled(np.random.default_rng(0), mine, resamples), axis=1)
            middle[at] = iqm(mine, axis=0)
            low[at], high[at] = np.quantile(samples, [0.025, 0.975], axis=0)
        elif len(mine):
            middle[at], low[at], high[at] = mine.mean(0), mine.min(0), mine.max(0)
    return middle, low, high


def summarise(scores: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """Summarises one score per seed, `[S]`; NaN marks a seed without a score.

    Returns:
        `seeds` counts all seeds and `missing` the NaNs, of seeds that diverged or whose evaluation
        failed. `mean` and `iqm` are over the other seeds, None if none is left: show them only with
        `missing`. From five such seeds on, `interval` is the 95 % bootstrap interval of the IQM.
        Below five, `values` lists the score of each seed instead, None for one without.
    """
    scores = np.asarray(scores, np.float64)
    sound = scores[~np.isnan(scores)]
    summary: dict[str, Any] = {
        'seeds': len(scores),
        'missing': len(scores) - len(sound),
        'mean': float(sound.mean()) if len(sound) else None,
        'iqm': iqm(sound) if len(sound) else None,
    }
    if len(sound) >= MIN_SEEDS_FOR_INTERVAL:
        return summary | {'interval': bootstrap_interval(sound)}
    return summary | {'values': [None if np.isnan(score) else float(score) for score in scores]}


def ranks(values: ArrayLike) -> np.ndarray:
    """The rank of each value `[N]`, from 1 on. Equal values share the mean of their ranks."""
    _, index, count = np.unique(_finite(values), return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[index]


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's coefficient of two samples `[N]`: the correlation of their ranks.

    It is NaN where all values of a sample are equal.
    """
    x, y = (r - r.mean() for r in (ranks(a), ranks(b)))
    norm = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / norm) if norm else math.nan


def auroc(low: ArrayLike, high: ArrayLike) -> float:
    """The share of pairs in which the value of `high` is above that of `low`; equal ones are half.

    It is the area under the receiver operating characteristic of a detector that gives `low` to
    what it should pass and `high` to what it should find: 1 tells all apart, 0.5 nothing.
    """
    low, high = _finite(low), _finite(high)
    sum_of_ranks = ranks(np.concatenate([low, high]))[len(low) :].sum()
    return float((sum_of_ranks - len(high) * (len(high) + 1) / 2) / (len(low) * len(high)))


def _finite(values: ArrayLike) -> np.ndarray:
    """Returns `values` as float64; raises ValueError for a NaN, which sorting would hide."""
    values = np.asarray(values, np.float64)
    if not values.size or not np.isfinite(values).all():
        raise ValueError(f'needs finite values, at least one; got {values.tolist()}')
    return values
