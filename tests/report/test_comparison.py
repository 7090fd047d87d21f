"""Profiles and the probability of improvement, by hand and by loops over all runs."""

import itertools
import random

import numpy as np
import pytest

from dtql_jax.report.comparison import (
    difference_of_means,
    improvement_interval,
    performance_profile,
    probability_of_improvement,
    profile_band,
)


def strata(seed, sizes=(5, 8, 3)):
    rng = np.random.default_rng(seed)
    return [np.round(rng.normal(50 + 10 * seed, 12, size)) for size in sizes]


def test_performance_profile__by_hand():
    runs = [np.array([10.0, 20.0]), np.array([20.0, 30.0, 40.0, 50.0])]
    # Above 0: all. Above 20: none of two and three of four. Above 45: none and one of four.
    found = performance_profile(runs, np.array([0.0, 20.0, 45.0, 50.0]))
    assert found.tolist() == [1, 0.375, 0.125, 0]


def test_performance_profile__is_the_mean_of_survival_functions():
    stats = pytest.importorskip('scipy.stats', reason='scipy is not installed')
    runs, thresholds = strata(0), np.linspace(20, 90, 15)
    expected = np.mean([stats.ecdf(x).sf.evaluate(thresholds) for x in runs], axis=0)
    assert performance_profile(runs, thresholds) == pytest.approx(expected)


def test_profile_band__agrees_with_loops():
    runs, thresholds, draw = strata(0), np.array([40.0, 50.0, 60.0]), random.Random(0)
    low, high = profile_band(runs, thresholds, resamples=8000)
    for i, threshold in enumerate(thresholds):
        samples = []
        for _ in range(4000):
            drawn = [draw.choices(list(scores), k=len(scores)) for scores in runs]
            samples.append(sum(sum(x > threshold for x in s) / len(s) for s in drawn) / len(runs))
        assert (low[i], high[i]) == pytest.approx(np.quantile(samples, [0.025, 0.975]), abs=0.03)


def test_profile_band__of_equal_runs_is_the_profile():
    low, high = profile_band([np.full(6, 5.0)], np.array([4.0, 6.0]))
    assert [*low, *high] == pytest.approx([1, 0, 1, 0])


def test_probability_of_improvement__by_hand():
    ours, theirs = [np.array([3.0, 1.0]), np.array([5.0])], [np.array([2.0, 1.0]), np.array([7.0])]
    # Of the first task's pairs 3 > 2, 3 > 1, 1 < 2, 1 = 1: 2.5 of 4. Of the second's none.
    assert probability_of_improvement(ours, theirs) == pytest.approx(0.3125)
    assert probability_of_improvement(theirs, ours) == pytest.approx(1 - 0.3125)


def test_probability_of_improvement__is_that_of_mann_and_whitney():
    stats = pytest.importorskip('scipy.stats', reason='scipy is not installed')
    ours, theirs = strata(0), strata(1, (4, 8, 6))
    expected = [
        stats.mannwhitneyu(a, b).statistic / (len(a) * len(b))
        for a, b in zip(ours, theirs, strict=True)
    ]
    assert probability_of_improvement(ours, theirs) == pytest.approx(np.mean(expected))


def test_improvement_interval__agrees_with_loops():
    ours, theirs, draw = strata(0), strata(1, (4, 8, 6)), random.Random(0)

    def chance(left, right):
        pairs = list(itertools.product(left, right))
        return sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)

    samples = [
        np.mean([
            chance(draw.choices(list(a), k=len(a)), draw.choices(list(b), k=len(b)))
            for a, b in zip(ours, theirs, strict=True)
        ])
        for _ in range(3000)
    ]  # fmt: skip
    found = improvement_interval(ours, theirs, resamples=8000)
    assert found == pytest.approx(np.quantile(samples, [0.025, 0.975]), abs=0.02)


def test_improvement_interval__of_one_that_always_wins_is_a_point():
    ours, theirs = [np.arange(5.0) + 10], [np.arange(5.0)]
    assert probability_of_improvement(ours, theirs) == 1
    assert improvement_interval(ours, theirs) == (1, 1)


def test_difference_of_means__agrees_with_all_splits():
    ours, theirs = np.array([50.0, 70, 90, 95, 100]), np.array([10.0, 40, 55, 60, 65])
    found = difference_of_means(ours, theirs)
    pooled = [*ours, *theirs]
    splits = [sum(chosen) for chosen in itertools.combinations(pooled, 5)]
    apart = [abs(2 * total - sum(pooled)) / 5 for total in splits]
    assert found.mean == pytest.approx(35)
    assert found.p == pytest.approx(np.mean(np.array(apart) >= 35), abs=0.005)
    assert found.low < 35 < found.high
    assert found.verdict == 'higher'
    assert difference_of_means(theirs, ours).verdict == 'lower'


@pytest.mark.parametrize('ours', [[0, 0, 0, 0, 0], [0, 0, 20, 40, 100], [100, 100, 0, 0, 0]])
def test_difference_of_means__five_seeds_show_little(ours):
    """The bootstrap alone would tell the second one from zeros."""
    assert difference_of_means(ours, [0.0] * 5).verdict == 'inconclusive'
