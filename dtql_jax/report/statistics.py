"""Summarises scores over a few seeds.

The interquartile mean (IQM) and the stratified percentile bootstrap are those of Agarwal et al.,
'Deep Reinforcement Learning at the Edge of the Statistical Precipice' (arXiv:2108.13264). The IQM
drops the lowest and the highest quarter of the runs. One lucky or broken seed moves it less than
the mean, and it varies less than the median.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# A percentile bootstrap of fewer values gives far too narrow an interval. Show the values instead.
MIN_SEEDS_FOR_INTERVAL = 5


def iqm(values: np.ndarray) -> float:
    """The mean of all `n` values without the `floor(n / 4)` lowest and as many highest.

    So the middle 2 of 4 values count, the middle 3 of 5, the middle 5 of 7, the middle 4 of 8, and
    all values below 4. This is rliable's rule.

    Raises:
        ValueError: a value is not finite, or there is none.
    """
    values = np.sort(_finite(values), axis=None)
    cut = len(values) // 4
    return float(values[cut : len(values) - cut].mean())


def bootstrap_interval(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], float] = iqm,
    *,
    confidence: float = 0.95,
    resamples: int = 5000,
) -> tuple[float, float]:
    """The percentile bootstrap interval of `statistic` over seeds.

    It is stratified: the seeds of each task are resampled separately. The generator's seed is
    fixed, so the same values always give the same interval.

    Args:
        values: scores, `[S]` or `[S, tasks]`.
        statistic: maps scores of the shape of `values` to a number.
        confidence: the share of the distribution between the two ends.
        resamples: the number of bootstrap samples.

    Returns:
        The lower and the upper end.

    Raises:
        ValueError: a value is not finite, or there is none.
    """
    values = _finite(values)
    values = values.reshape(len(values), -1)
    rng = np.random.default_rng(0)
    tail = (1 - confidence) / 2
    draws = rng.integers(len(values), size=(resamples, *values.shape))
    samples = [statistic(np.take_along_axis(values, rows, axis=0)) for rows in draws]
    low, high = np.quantile(samples, [tail, 1 - tail])
    return float(low), float(high)


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


def _finite(values: np.ndarray) -> np.ndarray:
    """Returns `values` as float64; raises ValueError for a NaN, which sorting would hide."""
    values = np.asarray(values, np.float64)
    if not values.size or not np.isfinite(values).all():
        raise ValueError(f'needs finite values, at least one; got {values.tolist()}')
    return values
