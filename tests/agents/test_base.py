"""What all agents inherit: the initial state, one optimiser step, targets, delayed updates."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.base import Agent, Config
from dtql_jax.types import Rare, Spec

pytestmark = pytest.mark.usefixtures('quick_compile')


class Linear(Agent):
    """Two linear networks, of which the first has a target."""

    targets = ('a',)

    def networks(self):
        return {name: (nn.Dense(2), (jnp.zeros((1, 3)),)) for name in ('a', 'b')}

    def one_step(self, state):
        """A step of a on a gradient of ones."""
        return self.descend(state, 'a', jnp.float32(0.1), self.loss_of_ones)

    def loss_of_ones(self, state):
        """Its gradient is 1 for every entry of a."""
        loss = sum(jnp.sum(x) for x in jax.tree.leaves(state.params['a']))
        return loss, {'a/loss': loss}


@pytest.fixture(scope='module')
def agent():
    return Linear(Spec(3, 2), Config(discount=0.5))


@pytest.fixture(scope='module')
def state(agent, quick_compile):
    return jax.jit(agent.init)(jax.random.key(0))


def same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def moved(a, b):
    """By how much each entry has changed."""
    return jax.tree.map(lambda x, y: np.asarray(y - x), a, b)


def test_init__has_networks_targets_floats_and_a_key_of_its_own(agent, state):
    assert set(state.params) == set(state.opt) == {'a', 'b'}
    assert not same(state.params['a'], state.params['b'])
    assert same(state.target, {'a': state.params['a']})
    assert state.hparams == {'discount': 0.5}
    assert state.step == 0
    words = jax.random.key_data(state.key)
    assert not np.array_equal(words, jax.random.key_data(jax.random.key(0)))


def test_descend__moves_one_network_by_its_optimiser_and_learning_rate(agent, state):
    """Adam's first step has the size of the learning rate."""
    after, metrics = jax.jit(agent.one_step)(state)
    for change in jax.tree.leaves(moved(state.params['a'], after.params['a'])):
        np.testing.assert_allclose(change, -0.1, rtol=1e-6)
    assert same(after.params['b'], state.params['b'])
    assert same(after.target, state.target)
    assert list(metrics) == ['a/loss']


def test_descend__shows_the_loss_what_was_updated_before(agent, state):
    """The loss of a uses the updated b, whose own entries get no gradient."""

    def sum_of(params):
        return sum(jnp.sum(x) for x in jax.tree.leaves(params))

    def loss_of_b(state):
        return sum_of(state.params['b']), {}

    def loss_of_a(state):
        b = sum_of(state.params['b'])
        return sum_of(state.params['a']) * b, {'a/b': b}

    def both(state):
        state, _ = agent.descend(state, 'b', 0.1, loss_of_b)
        middle = state.params['b']
        state, metrics = agent.descend(state, 'a', 0.1, loss_of_a)
        return state, middle, metrics

    after, middle, metrics = jax.jit(both)(state)
    # The network b has eight entries, each moved by 0.1.
    assert metrics['a/b'] == pytest.approx(float(sum_of(state.params['b'])) - 0.8, abs=1e-5)
    assert same(after.params['b'], middle)
    assert not same(after.params['a'], state.params['a'])


def test_descend__clips_the_gradient(agent, state):
    """Eight entries of 1 have the norm sqrt(8); the first moment shows the clipped gradient."""

    def step(state, max_norm):
        return agent.descend(state, 'a', 0.1, agent.loss_of_ones, max_norm=max_norm)[0]

    for max_norm, entry in ((1.0, 1 / np.sqrt(8)), (9.0, 1.0)):
        after = jax.jit(step)(state, max_norm)
        for m in jax.tree.leaves(after.opt['a'].mu):
            np.testing.assert_allclose(m, 0.1 * entry, rtol=1e-5)


def test_descend_together__every_loss_sees_the_state_from_before(agent, state):
    """One after the other, b's loss would see the moved a."""

    def of_a(state, factor):
        loss, metrics = agent.loss_of_ones(state)
        return factor * loss, metrics

    def of_b(state, factor):
        a, b = (sum(jnp.sum(x) for x in jax.tree.leaves(state.params[k])) for k in 'ab')
        return factor * a * b, {'b/a': a}  # its gradient is the sum of a's entries

    steps = {'a': (jnp.float32(0.1), of_a), 'b': (jnp.float32(0.2), of_b)}
    together = jax.jit(lambda s: agent.descend_together(s, steps, 3.0))
    after, metrics = together(state)
    for name, (lr, loss) in steps.items():
        alone, told = jax.jit(lambda s, n=name, x=lr, f=loss: agent.descend(s, n, x, f, 3.0))(state)
        assert same(after.params[name], alone.params[name])
        assert same(after.opt[name], alone.opt[name])
        assert told.items() <= metrics.items()
    assert same(after.target, state.target)


def test_unit__divides_by_the_box_and_clips_just_inside(agent):
    wide = Linear(Spec(3, 2, 2.0), agent.config)
    action = jnp.array([[0.5, -1.0], [2.0, -3.0]])
    np.testing.assert_allclose(wide.unit(action), [[0.25, -0.5], [0.99999, -0.99999]])
    np.testing.assert_allclose(agent.unit(action[:1]), [[0.5, -0.99999]])


def test_descend__tells_the_norm_of_the_gradient_before_it_is_clipped(agent, state):
    """It is a metric only where it was asked for, and changes no number."""
    told = Linear(agent.spec, Config(discount=0.5, gradient_norms=True))

    def step(agent):
        return agent.descend(state, 'a', 0.1, agent.loss_of_ones, max_norm=1.0)

    after, metrics = step(told)
    assert metrics['a/grad_norm'] == pytest.approx(np.sqrt(8))
    before, without = step(agent)
    assert list(without) == ['a/loss']
    assert same((after.params, after.opt), (before.params, before.opt))


def test_descend__the_norm_of_a_rare_loss_is_as_rare(agent, state):
    told = Linear(agent.spec, Config(discount=0.5, gradient_norms=True))

    def delayed(state, due):
        loss, metrics = told.loss_of_ones(state)
        _, rare = told.when(due, lambda x: (x, metrics), loss)
        return loss * due, rare

    for due in (0.0, 1.0):
        _, metrics = told.descend(state, 'a', 0.1, delayed, jnp.float32(due))
        assert metrics['a/grad_norm'].count == due
        np.testing.assert_allclose(metrics['a/grad_norm'].total, due * np.sqrt(8), rtol=1e-5)


def test_track__is_a_running_average(agent, state):
    other = state.replace(params=jax.tree.map(lambda x: x + 1, state.params))
    after = jax.jit(lambda s: agent.track(s, 'a', 0.25))(other)
    for change in jax.tree.leaves(moved(state.target, after.target)):
        np.testing.assert_allclose(change, 0.25, rtol=1e-5)
    assert same(after.params, other.params)


def test_precise__sets_the_precision_of_matrix_products():
    for precision in ('default', 'high', 'highest'):
        agent = Linear(Spec(3, 2), Config(precision=precision))
        product = agent.precise(lambda x: x @ x)
        jaxpr = str(jax.make_jaxpr(product)(jnp.ones((2, 2))))
        assert f'Precision.{precision.upper()}' in jaxpr


# Delayed updates.


def delayed(agent, state):
    """A step of a at every third update."""
    state, metrics = agent.when(state.step % 3 == 0, agent.one_step, state)
    return state.replace(step=state.step + 1), metrics


def test_when__updates_if_due_and_else_leaves_the_state(agent, state):
    update = jax.jit(lambda s: delayed(agent, s))
    expected, _ = jax.jit(agent.one_step)(state)
    first, metrics = update(state)
    assert same(first.params, expected.params)
    assert isinstance(metrics['a/loss'], Rare)
    assert metrics['a/loss'].count == 1
    assert metrics['a/loss'].total == agent.loss_of_ones(state)[1]['a/loss']
    second, metrics = update(first)
    assert same((second.params, second.opt, second.target), (first.params, first.opt, first.target))
    assert (metrics['a/loss'].total, metrics['a/loss'].count) == (0, 0)
    third = update(update(second)[0])[0]
    assert not same(third.params, second.params)


def test_when__gives_metrics_of_one_shape_and_type_in_both_cases(agent, state):
    update = jax.jit(lambda s: delayed(agent, s))
    shapes = [
        jax.tree.map(lambda x: (x.shape, x.dtype), update(state.replace(step=jnp.int32(i)))[1])
        for i in (0, 1)
    ]
    assert shapes[0] == shapes[1] == {'a/loss': Rare(((), jnp.float32), ((), jnp.float32))}


def test_when__may_stand_within_another(agent, state):
    def inner(state):
        return agent.when(state.step % 2 == 0, agent.one_step, state)

    update = jax.jit(lambda s: agent.when(s.step % 3 == 0, inner, s)[1]['a/loss'])
    made = [update(state.replace(step=jnp.int32(i))) for i in range(7)]
    assert [float(metric.count) for metric in made] == [1, 0, 0, 0, 0, 0, 1]
    assert made[0].total == agent.loss_of_ones(state)[1]['a/loss']
    assert made[3].total == 0


def test_when__of_a_loss_is_0_with_gradient_0_where_it_is_not_due(agent, state):
    def loss(state, due):
        return agent.when(due, lambda _: agent.loss_of_ones(state), jnp.zeros(()))

    lr = jnp.float32(0.1)
    step = jax.jit(lambda s, due: agent.descend(s, 'a', lr, loss, due))
    rested, metrics = step(state, False)
    assert (metrics['a/loss'].total, metrics['a/loss'].count) == (0, 0)
    assert same(rested.params, state.params)
    learned, metrics = step(state, True)
    assert metrics['a/loss'].count == 1
    assert not same(learned.params['a'], state.params['a'])
    assert not same(step(learned, False)[0].params['a'], learned.params['a'])  # by momentum


def test_when__lanes_may_differ_in_what_is_due(agent, state):
    """By `vmap`: one lane moves and the other does not, in the same program."""
    lanes = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    lanes = lanes.replace(step=jnp.int32([3, 4]))
    after, metrics = jax.jit(jax.vmap(lambda s: delayed(agent, s)))(lanes)
    due, rest = (jax.tree.map(lambda x, i=i: x[i], after.params['a']) for i in range(2))
    assert not same(due, state.params['a'])
    assert same(rest, state.params['a'])
    assert metrics['a/loss'].count.tolist() == [1, 0]
    assert metrics['a/loss'].total[1] == 0
