import numpy as np
import pytest

from dtql_jax.report.statistics import bootstrap_interval, iqm, summarise


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
