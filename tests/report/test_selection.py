"""The choice of the best policy: by hand, by loops, and that luck does not raise its value."""

import math
import random

import numpy as np
import pytest

from dtql_jax.report.selection import select


def test_select__policies_that_never_vary_by_hand():
    """Each policy plays once, in any order; the kept one is the best of those that played."""
    pool = [np.full(4, value) for value in (1.0, 2.0, 6.0)]
    found = select(pool, 3, budget=100, trials=20_000)
    # After one episode any of the three; after two the better of two: 2, 6, 6; then the best.
    assert found.mean[:3] == pytest.approx([3, 14 / 3, 6], abs=0.05)
    assert found.mean[2:] == pytest.approx(6)
    assert found.episodes.tolist() == [1, 2, 3, 4, 5, 6]  # half of four, three times
    assert (found.low[-1], found.high[-1]) == (6, 6)
    assert (found.low[0], found.high[0]) == (1, 6)


def test_select__draws_the_policies_of_a_trial_from_the_pool():
    pool = [np.full(4, value) for value in (1.0, 2.0, 6.0)]
    found = select(pool, 2, budget=100, trials=20_000)
    assert found.policies == 2
    assert found.mean[-1] == pytest.approx(14 / 3, abs=0.05)


def ucb(scores, spread, t):
    if not scores:
        return math.inf
    return sum(scores) / len(scores) + spread * math.sqrt(2 * math.log(t) / len(scores))


def in_loops(pool, policies, budget, trials):
    """The same rule for one trial after another, with Python's own numbers."""
    draw = random.Random(0)
    spread = sum(float(np.std(scores)) for scores in pool) / len(pool)
    total = [0.0] * budget
    for _ in range(trials):
        chosen = [list(scores) for scores in draw.sample(pool, policies)]
        for scores in chosen:
            draw.shuffle(scores)
        first = [scores[: len(scores) // 2] for scores in chosen]
        rest = [scores[len(scores) // 2 :] for scores in chosen]
        played = [[] for _ in chosen]
        for t in range(1, budget + 1):
            indices = [
                ucb(mine, spread, t) if len(mine) < len(half) else -math.inf
                for mine, half in zip(played, first, strict=True)
            ]
            arm = indices.index(max(indices))
            played[arm].append(first[arm][len(played[arm])])
            known = [k for k in range(policies) if played[k]]
            kept = max(known, key=lambda k: sum(played[k]) / len(played[k]))
            total[t - 1] += sum(rest[kept]) / len(rest[kept])
    return [value / trials for value in total]


def test_select__agrees_with_loops():
    rng = np.random.default_rng(0)
    pool = [rng.normal(mean, 10, size) for mean, size in ((40, 8), (50, 12), (55, 9), (30, 10))]
    found = select(pool, 3, budget=12, trials=20_000)
    assert found.mean == pytest.approx(in_loops(pool, 3, 12, 5000), abs=0.5)


def test_select__luck_does_not_raise_the_value():
    """Of policies that are all the same the best mean is high; the value of the kept one is not."""
    rng = np.random.default_rng(0)
    ends, best = [], []
    for _ in range(200):
        pool = list(rng.normal(0, 1, (8, 10)))
        ends.append(select(pool, 8, budget=100, trials=50).mean[-1])
        best.append(max(scores.mean() for scores in pool))
    assert np.mean(best) > 0.35
    assert abs(np.mean(ends)) < 0.06


@pytest.mark.parametrize(('pool', 'policies'), [([[1.0]], 1), ([[1.0, 2.0]], 2), ([[1.0, 2.0]], 0)])
def test_select__refuses_too_few(pool, policies):
    with pytest.raises(ValueError, match='two episodes'):
        select([np.array(scores) for scores in pool], policies, 5)


def test_select__is_the_same_every_time():
    pool = list(np.random.default_rng(0).normal(size=(4, 6)))
    assert (select(pool, 3, 9).mean == select(pool, 3, 9).mean).all()
