"""The engine: one compilation, lanes that know nothing of each other, no transfer, no surprise."""

import os
import pathlib
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.rollout.player import Player
from dtql_jax.training.update import INDEX_TAG, sample
from tests.helpers import toy, toy_run


def by_ones(engine, phase, state, sums, n):
    for _ in range(n):
        state, sums, finite = engine.dispatch(phase, state, sums, 1)
    return state, sums, finite


# Compilation.


def test_compile__traces_a_phase_once_whatever_the_number_of_updates(engine):
    for phase in engine.agent.phases():
        engine.compile(phase)
    assert engine.traces == toy.TRACED_ONCE
    for index in (0, 1):
        phase, state, sums = toy.start(engine, index)
        for n in (1, 7, 3, 1000, 0):
            state, sums, _ = engine.dispatch(phase, state, sums, n)
        again = toy.bits((state, jax.random.key_data(state.key)))
        state, sums, _ = engine.dispatch(phase, *engine.shard((state, sums)), 2)
        assert int(jax.device_get(state.step)[0]) == int(again[0].step[0]) + 2
    assert engine.traces == toy.TRACED_ONCE


@pytest.mark.parametrize('precision', ['default', 'highest'])
def test_compile__products_are_as_exact_as_the_setting_says(precision):
    class Asked(toy.Toy):
        def update(self, state, batch):
            asked.append(jax.config.jax_default_matmul_precision)
            return super().update(state, batch)

        def act(self, acting, obs, key):
            asked.append(jax.config.jax_default_matmul_precision)
            return super().act(acting, obs, key)

    asked = []
    engine = toy.engine(toy.lanes(0), agent=Asked, precision=precision)
    engine.compile(engine.agent.phases()[0])
    pool = types.SimpleNamespace(num_envs=1)
    player = Player(None, engine.agent, engine.lanes, lambda: pool, 1)
    acting = jax.vmap(engine.agent.acting)(engine.init())
    acting = jax.device_put(acting, jax.local_devices()[0])
    player.actor(acting, [0], [0], [0], [0], np.zeros((1, 3), np.float32))
    assert len(asked) > 1
    # Nobody is asked for numbers where shapes alone are traced.
    assert set(asked) - {None} == {asked[-1]} == {precision}


# How updates are cut into dispatches.


def test_dispatch__one_of_n_is_n_of_one(engine):
    many = engine.dispatch(*toy.start(engine), 23)
    ones = by_ones(engine, *toy.start(engine), 23)
    assert toy.equal(many, ones)
    assert jax.device_get(many[0].step).tolist() == [23, 23, 23]


def test_dispatch__no_updates_change_nothing(engine):
    before = toy.bits(toy.start(engine)[1:])
    assert toy.equal(engine.dispatch(*toy.start(engine), 0)[:2], before)


def test_dispatch__the_sums_are_sums(engine):
    phase, state, sums = toy.start(engine)
    _, sums, _ = engine.dispatch(phase, state, sums, 10)
    assert jax.device_get(sums['net/step']).tolist() == [45.0, 45.0, 45.0]


# Lanes.


def test_Engine__a_lane_depends_on_its_seed_and_not_on_its_place(engine):
    other = toy.engine(toy.lanes(4, 3, 1))
    assert toy.equal(toy.lane(engine.init(), 0, 1, 2), toy.lane(other.init(), 1, 2, 0))
    ours = engine.dispatch(*toy.start(engine), 20)
    theirs = other.dispatch(*toy.start(other), 20)
    # Bit for bit among as many lanes; another number of lanes may sum products in another order.
    assert toy.equal(toy.lane(ours, 0, 1, 2), toy.lane(theirs, 1, 2, 0))


def test_Engine__another_number_of_lanes_draws_the_same_and_trains_the_same_up_to_rounding(engine):
    single = toy.engine(toy.lanes(1))
    assert toy.equal(toy.lane(engine.init(), 1), toy.lane(single.init(), 0))
    _, many, _ = engine.dispatch(*toy.start(engine), 20)
    _, one, _ = single.dispatch(*toy.start(single), 20)
    # The numbers of the drawn rows are integers, which add exactly.
    assert jax.device_get(many['net/row'])[1] == jax.device_get(one['net/row'])[0]
    for ours, theirs in zip(*map(jax.tree.leaves, (many, one)), strict=True):
        np.testing.assert_allclose(ours[1], theirs[0], rtol=1e-5)


def test_Engine__equal_seeds_are_equal_and_different_seeds_differ():
    engine = toy.engine(toy.lanes(5, 6, 5))
    state, sums, _ = engine.dispatch(*toy.start(engine), 5)
    assert toy.equal(toy.lane((state, sums), 0), toy.lane((state, sums), 2))
    for leaf in (state.params['net']['kernel'], jax.random.key_data(state.key), sums['net/row']):
        assert not np.array_equal(leaf[0], leaf[1])


def test_Engine__a_hyper_parameter_of_a_lane_changes_that_lane_only(engine):
    other = toy.engine(toy.lanes(3, 1, 4, at1={'lr': 0.02}))
    ours = toy.bits(engine.dispatch(*toy.start(engine), 20))
    theirs = toy.bits(other.dispatch(*toy.start(other), 20))
    assert toy.equal(toy.lane(ours, 0, 2), toy.lane(theirs, 0, 2))
    assert not np.array_equal(
        ours[0].params['net']['kernel'][1], theirs[0].params['net']['kernel'][1]
    )
    assert theirs[0].hparams['lr'].tolist() == pytest.approx([0.01, 0.02, 0.01])
    # The numbers are data of one program: setting them in the state is the same, without a trace.
    before = dict(engine.traces)
    phase, state, sums = toy.start(engine)
    state = state.replace(hparams={**state.hparams, 'lr': jnp.float32([0.01, 0.02, 0.01])})
    assert toy.equal(engine.dispatch(phase, *engine.shard((state, sums)), 20), theirs)
    assert engine.traces == before


# Keys.


def test_sample__batches_are_drawn_anew_each_step_from_all_rows(engine):
    state = jax.tree.map(lambda x: x[0], engine.init())
    draw = jax.jit(lambda step: sample(state.replace(step=step), engine.data, 8).reward)
    rows = np.stack([jax.device_get(draw(jnp.int32(step))) for step in range(200)])
    assert len({tuple(row) for row in rows}) == 200
    assert np.bincount(rows.astype(int).ravel(), minlength=toy.ROWS).min() > 5  # 25 expected


def test_sample__a_batch_is_drawn_with_the_index_key_of_the_step(engine):
    state = jax.tree.map(lambda x: x[0], engine.init()).replace(step=jnp.int32(7))
    step_key, index_key = (
        jax.random.fold_in(key, 7) for key in (state.key, jax.random.fold_in(state.key, INDEX_TAG))
    )
    rows = toy.bits(sample(state, engine.data, 32)).reward
    drawn = [toy.bits(jax.random.randint(key, 32, 0, toy.ROWS)) for key in (index_key, step_key)]
    assert (rows == drawn[0]).all()
    assert (rows != drawn[1]).any()


def test_sample__all_fields_of_a_batch_come_from_the_same_rows(engine):
    state = jax.tree.map(lambda x: x[0], engine.init())
    batch = jax.device_get(sample(state, engine.data, 32))
    everything = jax.device_get(engine.data)
    rows = batch.reward.astype(int)
    assert toy.equal(batch, jax.tree.map(lambda x: x[rows], everything))


def test_sample__no_index_key_is_the_key_of_a_step(engine):
    keys = engine.init().key
    steps = jnp.arange(5000)
    fold = jax.vmap(jax.random.fold_in, (None, 0))
    words = [tuple(x) for k in keys for x in jax.device_get(jax.random.key_data(fold(k, steps)))]
    tagged = [jax.random.fold_in(key, INDEX_TAG) for key in keys]
    words += [tuple(x) for k in tagged for x in jax.device_get(jax.random.key_data(fold(k, steps)))]
    assert len(set(words)) == len(words) == 2 * 3 * 5000


# Delayed updates, and branches that all lanes share.


@pytest.fixture(scope='module', params=[True, False], ids=['one by one', 'by vmap'])
def delayed(request):
    """Lanes whose actor moves at every third update; the one in the middle is lost at update 7."""
    lanes = toy.lanes(*toy_run.SEEDS, at1={'blow_at': 7.0})
    return toy.engine(lanes, agent=toy.Delayed, one_by_one=request.param)


def test_dispatch__a_delayed_network_moves_when_it_is_due(delayed):
    phase, *state_sums = toy.start(delayed)
    for step in range(7):
        before = toy.bits(state_sums)
        *state_sums, _ = delayed.dispatch(phase, *state_sums, 1)
        after = toy.bits(state_sums)
        due = step % 3 == 2
        for tree in ('params', 'opt'):
            was, now = getattr(before[0], tree), getattr(after[0], tree)
            assert toy.equal(was['actor'], now['actor']) == (not due), step
            assert not toy.equal(was['net'], now['net'])
        for name in ('actor/loss', 'actor/step'):
            assert toy.equal(before[1][name], after[1][name]) == (not due)
    assert after[1]['actor/step'].total.tolist() == [7, 7, 7]  # of the steps 2 and 5
    assert after[1]['actor/step'].count.tolist() == [2, 2, 2]
    assert toy.equal(toy.bits(delayed.dispatch(*toy.start(delayed), 7)[:2]), tuple(after))


@pytest.mark.parametrize('n', [8, 10, 16])
def test_advance__a_delayed_lane_that_diverges_keeps_its_rare_metrics(delayed, n):
    phase, *before = toy.start(delayed)
    state, sums, done = delayed.advance(phase, *before, n, np.ones(3, bool))
    assert done.tolist() == [n, 7, n]
    ones = by_ones(delayed, *toy.start(delayed), 7)[:2]
    assert toy.equal(toy.lane((state, sums), 1), toy.lane(ones, 1))
    assert toy.bits(sums)['actor/step'].count.tolist() == [n // 3, 2, n // 3]
    healthy = delayed.dispatch(*toy.start(delayed), n)[:2]
    assert toy.equal(toy.lane((state, sums), 0, 2), toy.lane(healthy, 0, 2))


def test_zeros__has_the_shapes_of_rare_metrics(delayed):
    phase = delayed.agent.phases()[0]
    zeros = delayed.zeros(phase)
    assert jax.tree.structure(zeros) == jax.tree.structure(delayed.metrics(phase))
    assert zeros['actor/loss'].count.tolist() == [0, 0, 0]


def test_compile__takes_branches_and_carries_that_all_lanes_share():
    """As `jax.jit` does. One by one and by `vmap` agree."""
    results = []
    for one_by_one in (True, False):
        engine = toy.engine(toy.lanes(3, 1), agent=toy.Shared, one_by_one=one_by_one)
        assert engine.one_by_one == one_by_one
        results.append(toy.bits(engine.dispatch(*toy.start(engine), 7)[:2]))
    scale = 0.5 + sum(1 / step for step in range(2, 8))
    np.testing.assert_allclose(results[0][1]['net/scale'], scale, rtol=1e-6)
    for ours, theirs in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(('lanes', 'asked', 'used'), [(1, False, True), (2, False, False)])
def test_Engine__a_single_lane_never_becomes_a_batch_of_one(lanes, asked, used):
    engine = toy.engine(toy.lanes(*range(lanes)), jax.local_devices()[:1], one_by_one=asked)
    assert engine.one_by_one == used
    assert toy.engine(toy.lanes(0, 1)).one_by_one == (jax.default_backend() == 'cpu')


# Devices.


@pytest.mark.slow
def test_Engine__lanes_know_nothing_of_each_other_on_many_devices():
    """A process of its own, since the number of emulated devices is fixed at jax's start."""
    env = {**os.environ, 'XLA_FLAGS': '--xla_force_host_platform_device_count=4'}
    script = [sys.executable, '-m', 'tests.helpers.four_devices']
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run(script, env=env, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ['lanes', 'collectives', 'results', 'divergence', 'run']
