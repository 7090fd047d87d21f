"""The engine: a lane that diverges stops at its last finite state and touches no other."""

import jax
import numpy as np
import pytest

from tests.helpers import toy
from tests.helpers.toy import blow

ALIVE = np.array([True, True, True])


def trained(state, sums, *_):
    """All but the hyper-parameters."""
    return state.replace(hparams={}), sums


def blown(engine, phase_state_sums, lane, at):
    phase, state, sums = phase_state_sums
    return phase, *engine.shard((blow(state, lane, at), sums))


@pytest.mark.parametrize('at', [0, 1, 4, 6, 7, 10, 15])
def test_advance__a_lane_that_diverges_stops_at_its_last_finite_state(engine, at):
    n = 16
    healthy = engine.dispatch(*toy.start(engine), n)
    state, sums, done = engine.advance(*blown(engine, toy.start(engine), 1, at), n, ALIVE)
    assert done.tolist() == [n, at, n]
    assert toy.equal(
        toy.lane((state.params, sums), 0, 2), toy.lane((healthy[0].params, healthy[1]), 0, 2)
    )
    ones = blown(engine, toy.start(engine), 1, at)
    for _ in range(at):
        ones = (ones[0], *engine.dispatch(*ones, 1)[:2])
    assert toy.equal(toy.lane((state, sums), 1), toy.lane(ones[1:], 1))
    assert jax.device_get(state.step).tolist() == [n, at, n]
    assert not jax.device_get(engine.dispatch(*ones, 1)[2])[1]


def test_advance__a_dead_lane_rests_and_the_others_go_on_bit_for_bit(engine):
    healthy = engine.dispatch(*toy.start(engine), 30)
    phase, state, sums = blown(engine, toy.start(engine), 0, 5)
    state, sums, done = engine.advance(phase, state, sums, 10, ALIVE)
    at_death = toy.lane((state, sums), 0)
    state, sums, done = engine.advance(phase, state, sums, 20, done == 10)
    assert done.tolist() == [0, 20, 20]
    assert toy.equal(toy.lane((state, sums), 0), at_death)
    assert toy.equal(toy.lane(trained(state, sums), 1, 2), toy.lane(trained(*healthy), 1, 2))


@pytest.mark.parametrize('slices', [1, 5, 100])
def test_advance__slices_change_no_bit_also_where_a_lane_diverges(engine, slices):
    whole = engine.advance(*blown(engine, toy.start(engine), 1, 6), 16, ALIVE)
    sliced = engine.advance(*blown(engine, toy.start(engine), 1, 6), 16, ALIVE, slices)
    assert sliced[2].tolist() == whole[2].tolist() == [16, 6, 16]
    assert toy.equal(toy.bits(sliced[:2]), toy.bits(whole[:2]))


def test_advance__slices_are_dispatches_with_one_copy_of_the_states(engine, monkeypatch):
    sizes, copies, dispatch, copy = [], [], engine.dispatch, engine._copy
    monkeypatch.setattr(engine, 'dispatch', lambda *a: sizes.append(a[-1]) or dispatch(*a))
    monkeypatch.setattr(engine, '_copy', lambda tree: copies.append(1) or copy(tree))
    engine.advance(*toy.start(engine), 16, ALIVE, 6)
    assert (sizes, copies) == ([6, 6, 4], [1])


def test_advance__several_lanes_may_diverge_in_one_dispatch(engine):
    phase, state, sums = toy.start(engine)
    state = engine.shard(blow(blow(blow(state, 0, 9), 1, 2), 2, 9))
    state, sums, done = engine.advance(phase, state, sums, 12, ALIVE)
    assert done.tolist() == [9, 2, 9]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(toy.bits((state.params, sums))))


def test_advance__a_learning_rate_that_is_too_large_ends_its_lane_only():
    engine = toy.engine(toy.lanes(5, 6, 5, 6, at2={'lr': 1e30}, at3={'lr': np.inf}))
    phase, *ones = toy.start(engine)
    last_finite = np.zeros(4, int)
    for step in range(1, 11):
        *ones, finite = engine.dispatch(phase, *ones, 1)
        last_finite[jax.device_get(finite)] = step
    state, sums, done = engine.advance(*toy.start(engine), 10, np.ones(4, bool))
    assert done.tolist() == last_finite.tolist()
    assert done[:2].tolist() == [10, 10]
    assert 0 < done[2] < 10
    assert done[3] == 0
    assert np.isfinite(toy.bits(state.params)['net']['kernel']).all()
    assert toy.equal(toy.lane(trained(state, sums), 0, 1), toy.lane(trained(*ones), 0, 1))


def test_advance__divergence_does_not_recompile(engine):
    phase, state, sums = toy.start(engine)
    engine.compile(phase)
    before = dict(engine.traces)
    with pytest.MonkeyPatch.context() as patch:
        compiled = []
        lower = jax.stages.Lowered.compile
        patch.setattr(
            jax.stages.Lowered, 'compile', lambda *a, **k: compiled.append(1) or lower(*a, **k)
        )
        *_, done = engine.advance(phase, blow(state, 1, 3), sums, 9, ALIVE)
    assert done.tolist() == [9, 3, 9]
    assert engine.traces == before
    assert not compiled
