"""The choice among sampled actions, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.candidates import best_by_q, draw_by_q, min_q
from dtql_jax.nn.critics import TwinQ

pytestmark = pytest.mark.usefixtures('quick_compile')


def q_of(action):
    """Largest at (0.2, -0.4)."""
    return -((action[:, 0] - 0.2) ** 2) - (action[:, 1] + 0.4) ** 2


def test_best_by_q__takes_the_largest():
    candidates = jnp.array([[1, 1], [0, 0], [0.5, 0], [0.1, -0.5], [-1, 0], [0.2, 0.4]])
    np.testing.assert_array_equal(best_by_q(q_of, candidates), candidates[3])


def test_best_by_q__takes_the_first_of_equals():
    candidates = jnp.array([[0.3, -0.4], [0.1, -0.4], [0.2, 0.6]])
    best = best_by_q(lambda a: jnp.array([1.0, 1.0, 0.5]), candidates)
    np.testing.assert_array_equal(best, candidates[0])


def test_min_q__is_the_smaller_of_the_two_critics_for_each_action():
    q = TwinQ((4,), jax.nn.relu)
    obs, action = jnp.array([0.5, -1.0, 2.0]), jnp.array([[0.1, 0.2], [-0.9, 0.9], [0, 0], [1, -1]])
    params = q.init(jax.random.key(0), obs[None], action[:1])['params']
    smallest = min_q(q, params, obs, action)
    assert smallest.shape == (4,)
    members = jax.tree.map(np.asarray, [params['q1'], params['q2']])
    for i, a in enumerate(np.asarray(action)):
        x, values = np.concatenate([obs, a]), []
        for member in members:
            first, second = member['Linear_0'], member['Linear_1']
            h = np.maximum(x @ first['kernel'] + first['bias'], 0)
            values.append((h @ second['kernel'] + second['bias'])[0])
        assert smallest[i] == pytest.approx(min(values), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize('inverse_temperature', [0.0, 2.0])
def test_draw_by_q__draws_by_the_softmax_of_scaled_q(inverse_temperature):
    """Frequencies of 20,000 draws, within four deviations."""
    candidates, q = jnp.array([[0.0], [1.0], [2.0]]), np.array([0.0, 1.0, -1.0])
    keys = jax.random.split(jax.random.key(0), 20_000)
    draw = jax.vmap(lambda key: draw_by_q(key, lambda a: q, candidates, inverse_temperature))
    drawn = np.asarray(jax.jit(draw)(keys))[:, 0]
    probability = np.exp(inverse_temperature * q) / np.exp(inverse_temperature * q).sum()
    share = [(drawn == i).mean() for i in range(3)]
    deviation = np.sqrt(probability * (1 - probability) / len(keys))
    assert (np.abs(share - probability) < 4 * deviation).all()
