"""A policy's chance apart from its computation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.runs.export.noise import Draw, Policy
from dtql_jax.types import UserError

pytestmark = pytest.mark.usefixtures('quick_compile')
OBS = jnp.linspace(-1, 1, 3)


def gumbel(obs, key):
    return obs[jax.random.categorical(key, obs)][None]


def bounded(obs, key):
    return jax.random.uniform(key, (3,), minval=-2.0, maxval=obs)


def derived(obs, key):
    a, b = jax.random.split(jax.random.fold_in(key, 3))
    return jax.random.laplace(a, (3,)) * jax.random.bernoulli(b, 0.3, (3,))


def in_a_loop(obs, key):
    def step(x, i):
        noise = jax.random.normal(jax.random.fold_in(key, i), (3,))
        return x + noise, x

    x, rows = jax.lax.scan(step, obs, jnp.arange(2), reverse=True)
    return x + rows[0]


def for_many_keys(obs, key):
    keys = jax.random.split(key, 2)
    return jax.vmap(lambda k: jax.random.normal(k, (3,)) + jax.random.uniform(k, (3,)))(keys).sum(0)


def without(obs, key):
    return obs


@pytest.mark.parametrize(
    ('act', 'draws'),
    [
        (gumbel, [('uniform', (3,))]),
        (bounded, [('uniform', (3,))]),
        (derived, [('uniform', (3,)), ('uniform', (3,))]),
        (in_a_loop, [('normal', (3,)), ('normal', (3,))]),
        (for_many_keys, [('normal', (2, 3)), ('uniform', (2, 3))]),
        (without, []),
    ],
)
def test_policy__acts_as_its_key_would(act, draws):
    policy = Policy(act, 3)
    assert policy.draws == tuple(Draw(*draw) for draw in draws)
    key = jax.random.key(5)
    noise = jax.jit(policy.draw)(key)
    assert [x.shape for x in noise] == [draw.shape for draw in policy.draws]
    for x, draw in zip(noise, policy.draws, strict=True):
        assert draw.kind == 'normal' or (x.min() >= 0 and x.max() < 1)
    found = jax.jit(policy.act)(OBS, noise)
    np.testing.assert_allclose(found, jax.jit(act)(OBS, key), rtol=0, atol=1e-6)


def test_policy__the_median_is_without_chance():
    policy = Policy(lambda obs, key: obs + jax.random.normal(key, (3,)), 3)
    np.testing.assert_array_equal(policy.act(OBS, policy.median()), OBS)
    (half,) = Policy(gumbel, 3).median()
    assert half.tolist() == [0.5] * 3


@pytest.mark.parametrize(
    ('act', 'operation'),
    [
        (lambda obs, key: obs + jax.random.randint(key, (3,), 0, 5), 'random_bits'),
        (lambda obs, key: obs + jax.random.key_data(key).sum(), 'random_unwrap'),
        (
            lambda obs, key: jax.lax.cond(
                obs[0] > 0, lambda: jax.random.normal(key, (3,)), lambda: obs
            ),
            'cond',
        ),
    ],
)
def test_policy__other_draws_are_named(act, operation):
    with pytest.raises(UserError, match=f'draws by the operation {operation} of jax'):
        Policy(act, 3)
