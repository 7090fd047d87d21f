"""The engine accepts every agent that keeps the contract, in each way of advancing lanes.

With XLA's optimisations a program for another number of lanes may round otherwise. Without them, as
here, it does not, so lanes can be compared bit for bit.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.training.engine import Engine
from dtql_jax.types import Lane
from tests.helpers import contract, toy

pytestmark = pytest.mark.usefixtures('quick_compile')

LANES = (Lane('contract', 3), Lane('contract', 4))
UPDATES = 4
SLOW = {
    'dtql',
    'bc',
    'iql',
    'rebrac',
    'td3_bc',
} | contract.SLOW  # here, where each phase is compiled three times
PHASES = [
    pytest.param(name, i, marks=[pytest.mark.slow] if name in SLOW else [], id=f'{name}-{p.name}')
    for name in contract.AGENTS
    for i, p in enumerate(contract.subject_phases(name))
]


def after(subject, phase, lanes, one_by_one, block, on_cpu=True):
    """States, and sums of metrics, of the first `lanes` lanes after a few updates.

    Not `on_cpu` the update is traced as for an accelerator.
    """
    data = contract.batch_of(0, rows=64)
    devices = jax.local_devices()[:1]
    engine = Engine(subject.agent, data, LANES[:lanes], devices, one_by_one, block)
    engine.on_cpu = on_cpu
    # As `engine.init` makes them, which each engine would compile anew.
    states = jax.tree.map(lambda x: jnp.copy(x[:lanes]), subject.lanes)
    *result, finite = engine.dispatch(phase, engine.shard(states), engine.zeros(phase), UPDATES)
    assert finite.all()
    return toy.bits(result)


@pytest.mark.parametrize(('name', 'phase'), PHASES)
def test_dispatch__lanes_one_by_one_by_vmap_and_alone_agree(name, phase):
    """One by one a lane makes the bits that it makes alone; by `vmap` it may round otherwise.

    Alone it makes its updates in blocks, which change no bit. By `vmap` the update is traced as for
    an accelerator.
    """
    subject = contract.subject(name)
    phase = subject.phases[phase]
    ways = (2, True, 1), (2, False, 1, False), (1, None, 2)
    one_by_one, by_vmap, alone = (after(subject, phase, *way) for way in ways)
    assert one_by_one[0].step.tolist() == [UPDATES] * 2
    assert toy.equal(toy.lane(one_by_one, 0), alone)
    for ours, theirs in zip(*map(jax.tree.leaves, (one_by_one, by_vmap)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    moved = [
        not toy.equal(toy.lane(params, 0), toy.lane(subject.lanes.params[network], 0))
        for network, params in one_by_one[0].params.items()
    ]
    assert any(moved)
