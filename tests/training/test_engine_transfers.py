"""The engine: buffers are donated, and nothing is transferred that nobody asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import toy, transfers


def test_dispatch__donates_state_and_sums(engine):
    phase, state, sums = toy.start(engine)
    leaves = jax.tree.leaves((state, sums))
    after = engine.dispatch(phase, state, sums, 1)
    assert all(leaf.is_deleted() for leaf in leaves)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((after, engine.data)))


def test_dispatch__transfers_nothing(engine, monkeypatch):
    phase, state, sums = toy.start(engine)
    engine.compile(phase)
    with transfers.forbidden(monkeypatch):
        state, sums, _ = engine.dispatch(phase, state, sums, 5)
        engine.dispatch(phase, state, sums, 5)


def test_advance__transfers_nothing_implicitly_even_where_a_lane_diverges(engine, monkeypatch):
    phase, state, sums = toy.start(engine)
    state = toy.blow(state, 2, 3)
    engine.compile(phase)
    with transfers.forbidden(monkeypatch):
        state, sums, done = engine.advance(phase, state, sums, 8, np.ones(3, bool))
        engine.advance(phase, state, sums, 2, done == 8)


@pytest.mark.parametrize('planted', ['n', 'sums'])
def test_forbidden__finds_a_planted_transfer_to_the_device(engine, monkeypatch, planted):
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
def test_forbidden__finds_a_planted_transfer_from_the_device(engine, monkeypatch, convert):
    phase, state, sums = toy.start(engine)
    program = engine.compile(phase)
    one, ones = jnp.int32(1), jnp.ones(3)

    def leaking(*args):
        convert(ones if convert is list else one)
        return program(*args)

    monkeypatch.setitem(engine._programs, (phase.name, 1), leaking)
    with transfers.forbidden(monkeypatch), pytest.raises(transfers.ImplicitTransfer):
        engine.dispatch(phase, state, sums, 5)
    convert(ones if convert is list else one)  # and is no error itself
