"""Scores and what may be said of them over a few seeds.

The interquartile mean (IQM) and the stratified percentile bootstrap are those of Agarwal et al.,
'Deep Reinforcement Learning at the Edge of the Statistical Precipice' (arXiv:2108.13264). The IQM
drops the lowest and the highest quarter of the runs: less at the mercy of one lucky or broken
seed than the mean, and steadier than the median.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# A percentile bootstrap of fewer values is far too narrow: the values themselves say more.
MIN_SEEDS_FOR_INTERVAL = 5


def iqm(values: np.ndarray) -> float:
    """The mean without the `floor(n / 4)` lowest and as many highest of all `n` values.

    So of 4 values the middle 2 count, of 5 the middle 3, of 7 the middle 5, of 8 the middle 4, and
    below 4 all: rliable's rule. Raises ValueError where a value is not finite or there is none.
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
    """The percentile bootstrap interval of `statistic` over seeds: `values` `[S]` or `[S, tasks]`.

    Stratified: the seeds of each task are drawn anew on their own, and never mix between tasks.
    The generator's seed is fixed, so the same values always give the same interval. Raises
    ValueError where a value is not finite or there is none.
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
    """What to report of one score per seed, `[S]`; NaN marks a seed that diverged.

    `seeds` and `diverged` count them all and the NaNs; `mean` and `iqm` are of the seeds that did
    not diverge (None if none is left), so neither is ever to be shown without `diverged`.
    From five such seeds on, `interval` is the 95 % bootstrap interval of the IQM; below, `values`
    lists every seed's score instead, None for a diverged one. Last and best scores are two calls.
    """
    scores = np.asarray(scores, np.float64)
    sound = scores[~np.isnan(scores)]
    summary: dict[str, Any] = {
        'seeds': len(scores),
        'diverged': len(scores) - len(sound),
        'mean': float(sound.mean()) if len(sound) else None,
        'iqm': iqm(sound) if len(sound) else None,
    }
    if len(sound) >= MIN_SEEDS_FOR_INTERVAL:
        return summary | {'interval': bootstrap_interval(sound)}
    return summary | {'values': [None if np.isnan(score) else float(score) for score in scores]}


def _finite(values: np.ndarray) -> np.ndarray:
    """`values` as float64; sorting or averaging would lose a NaN, or spread it, without a word."""
    values = np.asarray(values, np.float64)
    if not values.size or not np.isfinite(values).all():
        raise ValueError(f'needs finite values, at least one; got {values.tolist()}')
    return values
