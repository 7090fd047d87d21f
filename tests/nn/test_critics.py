"""Twin critics, values, and both as one network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.nn.critics import AGGREGATES, Critic, TwinQ, Value, apart, joined
from dtql_jax.nn.kernels import few_kernels
from dtql_jax.nn.layers import MLP
from tests.helpers.networks import apply, params_of

pytestmark = pytest.mark.usefixtures('quick_compile')


def test_TwinQ__has_separate_weights_and_reads_state_before_action():
    module = TwinQ((8, 8), jax.nn.mish, layer_norm=True)
    obs, action = jnp.ones((5, 3)), jnp.ones((5, 2))
    params = params_of(module, obs, action)
    first, second = (params[name]['Linear_0']['kernel'] for name in ('q1', 'q2'))
    assert first.shape == (5, 8)
    assert (first != second).all()
    q = apply(module, params, obs, action)
    assert q.shape == (2, 5)
    for k, name in enumerate(('q1', 'q2')):
        single = MLP((8, 8), 1, jax.nn.mish, layer_norm=True)
        alone = apply(single, params[name], jnp.concatenate([obs, action], axis=-1))
        np.testing.assert_allclose(alone[:, 0], q[k], rtol=1e-5)


def test_AGGREGATES__join_the_critics_of_each_action():
    q = jnp.array([[1.0, 5.0], [3.0, -1.0], [2.0, 2.0]])
    joined = {name: join(q).tolist() for name, join in AGGREGATES.items()}
    assert joined == {'min': [1, -1], 'mean': [2, 2]}


def test_Critic__holds_the_networks_that_are_applied_alone():
    q, v = TwinQ((4,), jax.nn.mish), Value((4,), jax.nn.mish)
    obs, action = jnp.ones((5, 3)), jnp.ones((5, 2))
    params = params_of(Critic(q, v), obs, action)
    both = apply(Critic(q, v), params, obs, action)
    np.testing.assert_array_equal(both[0], apply(q, params['q'], obs, action))
    np.testing.assert_array_equal(both[1], apply(v, params['v'], obs))
    assert both[1].shape == (5,)


@pytest.mark.parametrize('layer_norm', [False, True])
def test_TwinQ__of_few_kernels_has_the_same_values_and_gradients(layer_norm):
    q = TwinQ((8, 8), jax.nn.relu, layer_norm)
    obs, action = (jax.random.normal(jax.random.key(i), (4, n)) for i, n in enumerate((3, 2)))
    params = q.init(jax.random.key(2), obs, action)['params']

    def products(params):  # traced anew at each call: jax keeps the trace of a function
        traced = jax.make_jaxpr(lambda p: q.apply({'params': p}, obs, action))(params)
        return str(traced).count('dot_general')

    def gradients(params):
        loss = lambda p: (q.apply({'params': p}, obs, action) ** 2).sum()  # noqa: E731
        return jax.value_and_grad(loss)(params)

    count, values = products(params), gradients(params)
    with few_kernels(True):
        counts = products(params), products(joined(params))
        others = gradients(params), apart(gradients(joined(params)))
    assert (count, *counts, products(params)) == (6, 3, 3, 6)
    for other in others:
        assert jax.tree.structure(other) == jax.tree.structure(values)
        for ours, theirs in zip(*map(jax.tree.leaves, (values, other)), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_joined__stacks_what_has_the_names_of_twins_and_nothing_else():
    twins = {'q1': {'w': jnp.ones(3)}, 'q2': {'w': jnp.zeros(3)}}
    tree = {
        'params': {'critic': {'q': twins, 'v': jnp.ones(2)}},
        'opt': [twins, {'q1': jnp.ones(1)}],
    }
    stacked = joined(tree)
    shapes = [x.shape for x in jax.tree.leaves(stacked)]
    assert shapes == [(2, 3), (1,), (2, 3), (2,)]
    assert jax.tree.structure(apart(stacked)) == jax.tree.structure(tree)
    for ours, theirs in zip(*map(jax.tree.leaves, (tree, apart(stacked))), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_few_kernels__draws_the_same_parameters():
    q, obs, action = TwinQ((8,), jax.nn.relu), jnp.ones((4, 3)), jnp.ones((4, 2))
    plain = q.init(jax.random.key(2), obs, action)
    with few_kernels(True):
        batched = q.init(jax.random.key(2), obs, action)
    assert jax.tree.structure(plain) == jax.tree.structure(batched)
    for ours, theirs in zip(*map(jax.tree.leaves, (plain, batched)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
