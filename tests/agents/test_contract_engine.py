"""The engine accepts every agent that keeps the contract, in each way of advancing lanes.

XLA may round otherwise in a program for another number of lanes. Without its optimisations, as
here, it does not, so that lanes can be compared bit for bit.
"""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.training.engine import Engine, sample
from dtql_jax.types import Lane
from tests.helpers import contract, toy

pytestmark = pytest.mark.usefixtures('quick_compile')

LANES = (Lane('contract', 3), Lane('contract', 4))
UPDATES = 4
ROWS = 64
PHASES = [
    (name, phase.name)
    for name in contract.AGENTS
    for phase in contract.make(name).phases()
    if phase.steps
]


@pytest.fixture(scope='module')
def draw():
    """A batch of a state, as the engine draws it; compiled once for all agents."""
    by_key = jax.jit(lambda state, data: sample(state, data, contract.BATCH))
    Drawn = collections.namedtuple('Drawn', ['key', 'step'])
    return lambda state, data: by_key(Drawn(state.key, state.step), data)


def in_engine(subject, phase, lanes, one_by_one=None):
    """States, and sums of metrics, of the first `lanes` lanes after a few updates."""
    data = contract.batch_of(0, rows=ROWS)
    engine = Engine(subject.agent, data, LANES[:lanes], jax.local_devices()[:1], one_by_one)
    # As `engine.init` makes them, which each engine would compile anew.
    states = jax.tree.map(lambda x: jnp.copy(x[:lanes]), subject.lanes)
    *result, finite = engine.dispatch(phase, engine.shard(states), engine.zeros(phase), UPDATES)
    assert finite.all()
    return toy.bits(result)


def by_hand(subject, phase, lane, draw):
    """State and sums of a lane after as many updates outside the engine."""
    data = contract.batch_of(0, rows=ROWS)
    state, sums = subject.state(lane), None
    for _ in range(UPDATES):
        state, metrics = subject.updates[phase.name](state, draw(state, data))
        sums = metrics if sums is None else jax.tree.map(jnp.add, sums, metrics)
    return toy.bits((state, sums))


def phase_of(subject, name):
    return next(phase for phase in subject.phases if phase.name == name)


@pytest.mark.parametrize(('name', 'phase'), PHASES)
def test_dispatch__makes_the_updates_of_the_agent(name, phase, draw):
    """One by one: the bits of updates by hand. By `vmap`: the same up to rounding."""
    subject = contract.subject(name)
    phase = phase_of(subject, phase)
    one_by_one, by_vmap = (in_engine(subject, phase, 2, way) for way in (True, False))
    for i in range(len(LANES)):
        ours = jax.tree.map(lambda x, i=i: x[i], one_by_one)
        assert toy.equal(ours, list(by_hand(subject, phase, i, draw)))
    for ours, theirs in zip(*map(jax.tree.leaves, (one_by_one, by_vmap)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'phase'), PHASES)
def test_dispatch__a_lane_alone_makes_the_bits_that_it_makes_beside_another(name, phase):
    subject = contract.subject(name)
    phase = phase_of(subject, phase)
    alone, beside = (in_engine(subject, phase, n, True) for n in (1, 2))
    assert toy.equal(alone, toy.lane(beside, 0))
