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
from dtql_jax.training import engine as engine_module
from dtql_jax.training.engine import INDEX_TAG, sample, usable_devices
from dtql_jax.types import UserError
from tests.helpers import toy, transfers

ALIVE = np.array([True, True, True])


@pytest.fixture(scope='module')
def engine():
    """Three lanes; a run would make 6 updates and then 12, but a dispatch may make any number."""
    return toy.engine(toy.lanes(3, 1, 4))


def by_ones(engine, phase, state, sums, n):
    for _ in range(n):
        state, sums, finite = engine.dispatch(phase, state, sums, 1)
    return state, sums, finite


# Compilation.


def test_a_phase_is_traced_once_whatever_the_number_of_updates(engine):
    for phase in engine.agent.phases():
        engine.compile(phase)
    assert engine.traces == {'pretrain': 1, 'train': 1}
    for index in (0, 1):
        phase, state, sums = toy.start(engine, index)
        for n in (1, 7, 3, 1000, 0):
            state, sums, _ = engine.dispatch(phase, state, sums, n)
        again = toy.bits((state, jax.random.key_data(state.key)))
        state, sums, _ = engine.dispatch(phase, *engine.shard((state, sums)), 2)
        assert int(jax.device_get(state.step)[0]) == int(again[0].step[0]) + 2
    assert engine.traces == {'pretrain': 1, 'train': 1}


@pytest.mark.parametrize('precision', ['default', 'highest'])
def test_products_are_as_exact_as_the_setting_says(precision):
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
    player = Player(None, engine.agent, engine.lanes, types.SimpleNamespace(num_envs=1), 1)
    acting = jax.vmap(engine.agent.acting)(engine.init())
    player.actor(player.actor.place(acting), [0], [0], [0], [0], np.zeros((1, 3), np.float32))
    assert len(asked) > 1
    # Nobody is asked for numbers where shapes alone are traced.
    assert set(asked) - {None} == {asked[-1]} == {precision}


def test_an_option_that_the_compiler_does_not_know_is_left_out(monkeypatch):
    """As it may be in another version of jaxlib."""
    monkeypatch.setattr(engine_module, 'COMPILER_OPTIONS', {'cpu': {'xla_cpu_no_such': 'x'}})
    engine = toy.engine(toy.lanes(0))
    *_, finite = engine.dispatch(*toy.start(engine), 2)
    assert jax.device_get(finite).all()
    monkeypatch.setattr(
        jax.stages.Lowered, 'compile', lambda *_: raise_(jax.errors.JaxRuntimeError('no memory'))
    )
    with pytest.raises(jax.errors.JaxRuntimeError, match='no memory'):
        engine.compile(engine.agent.phases()[1])


def raise_(error):
    raise error


def test_divergence_does_not_recompile(engine):
    phase, state, sums = toy.start(engine)
    before = dict(engine.traces) or {'pretrain': 1, 'train': 1}
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


# How updates are cut into dispatches.


def test_one_dispatch_of_n_is_n_dispatches_of_one(engine):
    many = engine.dispatch(*toy.start(engine), 23)
    ones = by_ones(engine, *toy.start(engine), 23)
    assert toy.equal(many, ones)
    assert jax.device_get(many[0].step).tolist() == [23, 23, 23]


def test_a_dispatch_of_none_changes_nothing(engine):
    before = toy.bits(toy.start(engine)[1:])
    assert toy.equal(engine.dispatch(*toy.start(engine), 0)[:2], before)


def test_the_sums_are_sums(engine):
    phase, state, sums = toy.start(engine)
    _, sums, _ = engine.dispatch(phase, state, sums, 10)
    assert jax.device_get(sums['net/step']).tolist() == [45.0, 45.0, 45.0]


# Lanes.


def test_a_lane_depends_on_its_seed_and_not_on_its_place(engine):
    other = toy.engine(toy.lanes(4, 3, 1))
    assert toy.equal(toy.lane(engine.init(), 0, 1, 2), toy.lane(other.init(), 1, 2, 0))
    ours = engine.dispatch(*toy.start(engine), 20)
    theirs = other.dispatch(*toy.start(other), 20)
    # Bit for bit among as many lanes; another number of lanes may sum products in another order.
    assert toy.equal(toy.lane(ours, 0, 1, 2), toy.lane(theirs, 1, 2, 0))


def test_another_number_of_lanes_draws_the_same_and_trains_the_same_up_to_rounding(engine):
    single = toy.engine(toy.lanes(1))
    assert toy.equal(toy.lane(engine.init(), 1), toy.lane(single.init(), 0))
    _, many, _ = engine.dispatch(*toy.start(engine), 20)
    _, one, _ = single.dispatch(*toy.start(single), 20)
    # The numbers of the drawn rows are integers, which add exactly.
    assert jax.device_get(many['net/row'])[1] == jax.device_get(one['net/row'])[0]
    for ours, theirs in zip(*map(jax.tree.leaves, (many, one)), strict=True):
        np.testing.assert_allclose(ours[1], theirs[0], rtol=1e-5)


def test_equal_seeds_are_equal_and_different_seeds_differ():
    engine = toy.engine(toy.lanes(5, 6, 5))
    state, sums, _ = engine.dispatch(*toy.start(engine), 5)
    assert toy.equal(toy.lane((state, sums), 0), toy.lane((state, sums), 2))
    for leaf in (state.params['net']['kernel'], jax.random.key_data(state.key), sums['net/row']):
        assert not np.array_equal(leaf[0], leaf[1])


def test_a_hyper_parameter_of_a_lane_changes_that_lane_only(engine):
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


def test_an_unknown_hyper_parameter_is_named():
    with pytest.raises(UserError, match=r"lane 'toy': no hyper-parameter 'heat'; known: .*weight"):
        toy.engine(toy.lanes(0, at0={'heat': 1.0}))


# Keys.


def test_batches_are_drawn_anew_each_step_from_all_rows(engine):
    state = jax.tree.map(lambda x: x[0], engine.init())
    draw = jax.jit(lambda step: sample(state.replace(step=step), engine.data, 8).reward)
    rows = np.stack([jax.device_get(draw(jnp.int32(step))) for step in range(200)])
    assert len({tuple(row) for row in rows}) == 200
    assert np.bincount(rows.astype(int).ravel(), minlength=toy.ROWS).min() > 5  # 25 expected


def test_a_batch_is_drawn_with_the_index_key_of_the_step(engine):
    state = jax.tree.map(lambda x: x[0], engine.init()).replace(step=jnp.int32(7))
    step_key, index_key = (
        jax.random.fold_in(key, 7) for key in (state.key, jax.random.fold_in(state.key, INDEX_TAG))
    )
    rows = toy.bits(sample(state, engine.data, 32)).reward
    drawn = [toy.bits(jax.random.randint(key, 32, 0, toy.ROWS)) for key in (index_key, step_key)]
    assert (rows == drawn[0]).all()
    assert (rows != drawn[1]).any()


def test_all_fields_of_a_batch_come_from_the_same_rows(engine):
    state = jax.tree.map(lambda x: x[0], engine.init())
    batch = jax.device_get(sample(state, engine.data, 32))
    everything = jax.device_get(engine.data)
    rows = batch.reward.astype(int)
    assert toy.equal(batch, jax.tree.map(lambda x: x[rows], everything))


def test_no_index_key_is_the_key_of_a_step(engine):
    keys = engine.init().key
    steps = jnp.arange(5000)
    fold = jax.vmap(jax.random.fold_in, (None, 0))
    words = [tuple(x) for k in keys for x in jax.device_get(jax.random.key_data(fold(k, steps)))]
    tagged = [jax.random.fold_in(key, INDEX_TAG) for key in keys]
    words += [tuple(x) for k in tagged for x in jax.device_get(jax.random.key_data(fold(k, steps)))]
    assert len(set(words)) == len(words) == 2 * 3 * 5000


# Memory and transfers.


def test_what_is_dispatched_is_donated(engine):
    phase, state, sums = toy.start(engine)
    leaves = jax.tree.leaves((state, sums))
    after = engine.dispatch(phase, state, sums, 1)
    assert all(leaf.is_deleted() for leaf in leaves)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((after, engine.data)))


def test_a_dispatch_transfers_nothing(engine, monkeypatch):
    phase, state, sums = toy.start(engine)
    engine.compile(phase)
    with transfers.forbidden(monkeypatch):
        state, sums, _ = engine.dispatch(phase, state, sums, 5)
        engine.dispatch(phase, state, sums, 5)


def test_advancing_transfers_nothing_implicitly_even_where_a_lane_diverges(engine, monkeypatch):
    phase, state, sums = toy.start(engine)
    state = blow(state, 2, 3)
    engine.compile(phase)
    with transfers.forbidden(monkeypatch):
        state, sums, done = engine.advance(phase, state, sums, 8, ALIVE)
        engine.advance(phase, state, sums, 2, done == 8)


@pytest.mark.parametrize('planted', ['n', 'sums'])
def test_the_check_finds_a_planted_transfer_to_the_device(engine, monkeypatch, planted):
    phase, state, sums = toy.start(engine)
    program, n = engine.compile(phase), np.int32(5)
    if planted == 'sums':
        sums, n = {**sums, 'net/step': np.zeros(3, np.float32)}, jax.device_put(n)
    with transfers.forbidden(monkeypatch), pytest.raises(Exception, match='Disallowed'):
        program(state, sums, engine.data, n)


@pytest.mark.parametrize(
    'convert',
    [
        float, int, bool, list, str, repr, lambda x: x.item(), lambda x: x.tolist(),
        lambda x: f'{x}', lambda x: range(3)[x], lambda x: [0, 1][x], lambda x: 1 if x else 0,
        # Not the functions themselves, which would be those from before the watch began.
        lambda x: np.asarray(x), lambda x: np.array(x), lambda x: np.ascontiguousarray(x),
    ],
)  # fmt: skip
def test_the_check_finds_a_planted_transfer_from_the_device(engine, monkeypatch, convert):
    phase, state, sums = toy.start(engine)
    program = engine.compile(phase)
    one, ones = jnp.int32(1), jnp.ones(3)

    def leaking(*args):
        convert(ones if convert is list else one)
        return program(*args)

    monkeypatch.setitem(engine._programs, phase.name, leaking)
    with transfers.forbidden(monkeypatch), pytest.raises(transfers.ImplicitTransfer):
        engine.dispatch(phase, state, sums, 5)
    convert(ones if convert is list else one)  # and is no error itself


# Divergence.


def blow(state, lane, at):
    """The state, with the lane's update number `at` going to NaN."""
    return state.replace(
        hparams={**state.hparams, 'blow_at': state.hparams['blow_at'].at[lane].set(at)}
    )


def trained(state, sums, *_):
    """All but the hyper-parameters."""
    return state.replace(hparams={}), sums


def placed(engine, phase_state_sums, lane, at):
    phase, state, sums = phase_state_sums
    return phase, *engine.shard((blow(state, lane, at), sums))


@pytest.mark.parametrize('at', [0, 1, 4, 6, 7, 10, 15])
def test_a_lane_that_diverges_stops_at_its_last_finite_state(engine, at):
    n = 16
    healthy = engine.dispatch(*toy.start(engine), n)
    state, sums, done = engine.advance(*placed(engine, toy.start(engine), 1, at), n, ALIVE)
    assert done.tolist() == [n, at, n]
    assert toy.equal(
        toy.lane((state.params, sums), 0, 2), toy.lane((healthy[0].params, healthy[1]), 0, 2)
    )
    ones = placed(engine, toy.start(engine), 1, at)
    for _ in range(at):
        ones = (ones[0], *engine.dispatch(*ones, 1)[:2])
    assert toy.equal(toy.lane((state, sums), 1), toy.lane(ones[1:], 1))
    assert jax.device_get(state.step).tolist() == [n, at, n]
    assert not jax.device_get(engine.dispatch(*ones, 1)[2])[1]


def test_a_dead_lane_rests_and_the_others_go_on_bit_for_bit(engine):
    healthy = engine.dispatch(*toy.start(engine), 30)
    phase, state, sums = placed(engine, toy.start(engine), 0, 5)
    state, sums, done = engine.advance(phase, state, sums, 10, ALIVE)
    at_death = toy.lane((state, sums), 0)
    state, sums, done = engine.advance(phase, state, sums, 20, done == 10)
    assert done.tolist() == [0, 20, 20]
    assert toy.equal(toy.lane((state, sums), 0), at_death)
    assert toy.equal(toy.lane(trained(state, sums), 1, 2), toy.lane(trained(*healthy), 1, 2))


def test_several_lanes_may_diverge_in_one_dispatch(engine):
    phase, state, sums = toy.start(engine)
    state = engine.shard(blow(blow(blow(state, 0, 9), 1, 2), 2, 9))
    state, sums, done = engine.advance(phase, state, sums, 12, ALIVE)
    assert done.tolist() == [9, 2, 9]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(toy.bits((state.params, sums))))


def test_a_learning_rate_that_is_too_large_ends_its_lane_only():
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


# Devices.


@pytest.mark.parametrize(
    ('lanes', 'devices', 'used'), [(4, 4, 4), (5, 4, 1), (6, 4, 3), (8, 3, 2), (1, 8, 1), (7, 1, 1)]
)
def test_the_lanes_are_split_evenly(lanes, devices, used):
    assert usable_devices(lanes, devices) == used


@pytest.mark.slow
def test_lanes_know_nothing_of_each_other_on_many_devices():
    """A process of its own, since the number of emulated devices is fixed at jax's start."""
    env = {**os.environ, 'XLA_FLAGS': '--xla_force_host_platform_device_count=4'}
    script = pathlib.Path(__file__).with_name('four_devices.py')
    done = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ['lanes', 'collectives', 'results', 'divergence', 'run']
