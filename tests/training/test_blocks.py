"""Blocks of updates: their size, and that they change no bit."""

import jax
import numpy as np
import pytest

from dtql_jax.training.blocks import MOST, block_size, unrolled
from dtql_jax.types import Phase
from tests.helpers import toy


def phases(*steps, **given):
    return [Phase(f'p{i}', print, n, 1, **given) for i, n in enumerate(steps)]


@pytest.mark.parametrize(
    ('steps', 'eval_every', 'size'),
    [
        ((1_000_000,), 50_000, 10),
        ((50_000, 250_000), 50_000, 10),
        ((1_600, 3_200), 800, 16),
        ((1_600, 3_200), 4_800, 10),  # rows end at multiples of 1,000
        ((1_500, 4_500), 1_500, 10),
        ((1_000, 1_001), 1_000, 1),
        ((7,), 7, 7),
        ((30,), 30, 10),  # even numbers first
        ((0, 64), 64, MOST),
    ],
)
def test_block_size__fits_every_dispatch(steps, eval_every, size):
    assert block_size(phases(*steps), eval_every) == size
    for end in (*steps, 1000 if eval_every > 1000 else eval_every, eval_every):
        assert end % size == 0


def test_unrolled__pairs_fill_even_blocks():
    assert [unrolled(block) for block in (1, 2, 7, 16)] == [1, 2, 1, 2]


def test_block_size__leaves_the_phase_in_the_environment_alone():
    assert block_size([*phases(1_600), *phases(999, online=True)], 800) == 16


@pytest.mark.parametrize('one_by_one', [True, False])
def test_dispatch__how_many_blocks_it_has_changes_no_bit(one_by_one):
    engine = toy.engine(toy.lanes(0, 1), agent=toy.Delayed, one_by_one=one_by_one, block=4)
    (phase, *whole), (_, *cut) = toy.start(engine), toy.start(engine)
    for n in (4, 16, 7):
        *whole, finite = engine.dispatch(phase, *whole, n)
        for size in [4] * (n // 4) + [1] * (n % 4) + [0]:
            *cut, _ = engine.dispatch(phase, *cut, size)
        assert toy.equal(whole, cut)
        assert finite.tolist() == [True, True]


@pytest.mark.parametrize('one_by_one', [True, False])
def test_dispatch__blocks_round_otherwise_at_most(one_by_one):
    engines = [
        toy.engine(toy.lanes(0, 1), agent=toy.Delayed, one_by_one=one_by_one, block=block)
        for block in (1, 4)
    ]
    ours, theirs = (toy.bits(each.dispatch(*toy.start(each), 9)) for each in engines)
    for x, y in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5)


def test_dispatch__compiles_the_rest_only_where_there_is_one():
    engine = toy.engine(toy.lanes(0), block=4)
    phase, state, sums = toy.start(engine)
    state, sums, _ = engine.dispatch(phase, state, sums, 8)
    assert list(engine._programs) == [(phase.name, 4)]
    engine.dispatch(phase, state, sums, 9)
    assert list(engine._programs) == [(phase.name, 4), (phase.name, 1)]
    assert engine.traces == toy.TRACED_ONCE


def test_whole__fills_blocks_where_it_can():
    engine = toy.engine(toy.lanes(0), block=4)
    asked = ((1, 100), (4, 100), (7, 100), (100, 10), (1, 3), (100, 3))
    assert [engine.whole(*sizes) for sizes in asked] == [4, 4, 4, 8, 3, 3]
