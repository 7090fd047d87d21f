import random

import numpy as np
import pytest

from dtql_jax.report.statistics import (
    auroc,
    bootstrap_interval,
    curve,
    iqm,
    rank_correlation,
    ranks,
    stratified_interval,
    summarise,
)


@pytest.mark.parametrize(
    ('values', 'expected'),
    [
        ([7.0], 7),
        ([1, 2, 9], 4),  # below four nothing is dropped
        ([100, 2, 4, -50], 3),
        ([100, 2, 4, 6, -50], 4),
        ([0, 1, 2, 3, 4, 5, 60], 3),  # 7 // 4 = 1 from each end
        ([-90, -80, 1, 2, 3, 4, 80, 99], 2.5),
        ([[-90, 80, 1, 2], [3, 4, -80, 99]], 2.5),
    ],
)
def test_iqm__by_hand(values, expected):
    assert iqm(values) == pytest.approx(expected)


@pytest.mark.parametrize('bad', [[1, np.nan], [np.inf, 2], []])
def test_iqm__and_interval_refuse_what_is_not_finite(bad):
    with pytest.raises(ValueError, match='finite'):
        iqm(bad)
    with pytest.raises(ValueError, match='finite'):
        bootstrap_interval(bad)


def test_bootstrap_interval__of_equal_values_is_a_point():
    assert bootstrap_interval([4.0] * 6) == (4, 4)


def test_bootstrap_interval__of_two_values_by_hand():
    # The mean of two draws from {0, 8} is 0, 4 or 8 with probability 1/4, 1/2, 1/4.
    assert bootstrap_interval([0.0, 8.0], np.mean) == (0, 8)
    assert bootstrap_interval([0.0, 8.0], np.mean, confidence=0.4) == (4, 4)


def test_bootstrap_interval__covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        low, high = bootstrap_interval(rng.normal(size=20), np.mean, resamples=300)
        hits += low <= 0 <= high
    assert 170 <= hits <= 198  # a percentile bootstrap of 20 values covers some 92 %


def test_bootstrap_interval__draws_each_task_on_its_own():
    # Were whole rows drawn, the sum of the two tasks would always be 0.
    values = np.array([[1.0, -1.0], [-1.0, 1.0]])
    low, high = bootstrap_interval(values, np.sum)
    assert low == -4
    assert high == 4


def test_bootstrap_interval__is_the_same_every_time():
    values = np.random.default_rng(0).normal(size=7)
    assert bootstrap_interval(values) == bootstrap_interval(values)


def test_summarise__below_five_seeds_gives_every_value():
    assert summarise([1.0, 5.0, 3.0]) == {
        'seeds': 3,
        'missing': 0,
        'mean': 3,
        'iqm': 3,
        'values': [1, 5, 3],
    }


def test_summarise__from_five_seeds_on_gives_an_interval():
    summary = summarise([0.0, 1.0, 2.0, 3.0, 100.0])
    assert (summary['mean'], summary['iqm']) == (pytest.approx(21.2), 2)
    assert 'values' not in summary
    low, high = summary['interval']
    assert 0 <= low < 2 < high <= 100


def test_summarise__counts_seeds_without_a_score_apart():
    summary = summarise([1.0, np.nan, 3.0, 4.0, 4.0])
    assert summary['missing'] == 1
    assert summary['mean'] == 3
    assert summary['values'] == [1, None, 3, 4, 4]
    assert summarise([np.nan])['mean'] is None


def by_definition(values):
    """The IQM written another way: scipy's trimmed mean where it is installed."""
    stats = pytest.importorskip('scipy.stats', reason='scipy is not installed')
    return stats.trim_mean(np.ravel(values), 0.25)


@pytest.mark.parametrize('count', [1, 3, 4, 5, 7, 8, 11, 40])
def test_iqm__is_the_trimmed_mean_of_a_quarter(count):
    values = np.random.default_rng(count).normal(size=count)
    assert iqm(values) == pytest.approx(by_definition(values))


def test_iqm__along_an_axis_is_that_of_each_row():
    values = np.random.default_rng(0).normal(size=(3, 9, 2))
    found = iqm(values, axis=1)
    assert found.shape == (3, 2)
    assert found == pytest.approx(
        np.array([[iqm(values[i, :, j]) for j in range(2)] for i in range(3)])
    )


def brute_interval(strata, resamples):
    """The stratified bootstrap in loops over Python's own numbers, with draws of its own."""
    draw = random.Random(1)
    samples = []
    for _ in range(resamples):
        sample = sorted(x for values in strata for x in draw.choices(list(values), k=len(values)))
        cut = len(sample) // 4
        middle = sample[cut : len(sample) - cut]
        samples.append(sum(middle) / len(middle))
    samples.sort()
    return samples[round(0.025 * resamples)], samples[round(0.975 * resamples) - 1]


def test_stratified_interval__agrees_with_a_bootstrap_in_loops():
    rng = np.random.default_rng(3)
    strata = [rng.normal(20, 5, 6), rng.normal(60, 10, 9), rng.normal(90, 3, 4)]
    assert stratified_interval(strata, resamples=8000) == pytest.approx(
        brute_interval(strata, 8000), abs=0.6
    )


def test_stratified_interval__by_hand():
    # The first task is 0 or 8 twice, the second always 4: sums of {8, 16, 24} + ... with np.sum.
    low, high = stratified_interval([np.array([0.0, 8.0]), np.array([4.0])], np.sum)
    assert (low, high) == (4, 20)


def test_curve__by_hand():
    values = np.array([[1.0, 2.0, np.nan], [3.0, 6.0, np.nan]])
    middle, low, high = curve(values)
    assert middle[:2].tolist() == [2, 4]
    assert low[:2].tolist() == [1, 2]
    assert high[:2].tolist() == [3, 6]
    assert np.isnan([middle[2], low[2], high[2]]).all()


def test_curve__from_five_seeds_on_is_the_iqm_and_its_interval_at_each_evaluation():
    values = np.random.default_rng(0).normal(size=(8, 4))
    values[2, 1:] = np.nan  # diverged
    middle, low, high = curve(values, resamples=4000)
    for i in range(4):
        column = values[:, i][~np.isnan(values[:, i])]
        assert middle[i] == pytest.approx(by_definition(column))
        assert (low[i], high[i]) == pytest.approx(bootstrap_interval(column), abs=0.08)


# Ranks.


def test_ranks__equal_values_share_the_mean():
    assert ranks([30, 10, 20, 10, 30, 30]).tolist() == [5, 1.5, 3, 1.5, 5, 5]


def test_rank_correlation__by_hand():
    # Ranks 1 2 3 4 5 and 2 1 4 3 5: 1 - 6 * (1 + 1 + 1 + 1 + 0) / (5 * 24) = 0.8.
    assert rank_correlation([1, 2, 3, 4, 50], [0.2, 0.1, 0.4, 0.3, 7]) == pytest.approx(0.8)
    # Ranks 1 2.5 2.5 4 and 1 2 3 4: covariance 4.5, squares 4.5 and 5.
    tied = rank_correlation([0, 1, 1, 2], [0, 1, 2, 3])
    assert tied == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert np.isnan(rank_correlation([1, 1], [1, 2]))


def test_auroc__by_hand():
    assert auroc([1, 2], [3, 4]) == 1
    assert auroc([3, 4], [1, 2]) == 0
    # Of the six pairs (1, 2), (1, 3), (4, 2), (4, 3), (3, 2), (3, 3), two are above, one is equal.
    assert auroc([1, 4, 3], [2, 3]) == pytest.approx(2.5 / 6)
    assert auroc([7, 7], [7]) == 0.5
    with pytest.raises(ValueError, match='finite'):
        auroc([], [1])
