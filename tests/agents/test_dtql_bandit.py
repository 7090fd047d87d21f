"""DTQL on a bandit: four modes in the square, one of them best."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.dtql import DTQL
from dtql_jax.training.update import sample
from dtql_jax.types import Transition
from tests.helpers.small_dtql import lanes_of, make

# `test_bandit` is its quick counterpart for all agents.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('quick_compile')]

MODES = np.array([[-0.6, -0.6], [-0.6, 0.6], [0.6, -0.6], [0.6, 0.6]])
REWARDS = np.array([0.0, 0.3, 0.6, 1.0])
UPDATES = 1000


@pytest.fixture(scope='module')
def bandit(quick_compile):
    """DTQL and its clone, trained side by side: the agent, its states and 200 actions of each."""
    rng = np.random.default_rng(0)
    n = 4000
    mode = rng.integers(4, size=n)
    action = MODES[mode] + 0.05 * rng.normal(size=(n, 2))
    obs = np.zeros((n, 1))
    data = (obs, action, REWARDS[mode], np.zeros(n), obs)
    data = Transition(*[jnp.float32(x) for x in data])
    settings = {'lr': 2e-3, 'critic_lr': 2e-3, 'lr_decay': True}
    agent = make(steps=UPDATES, pretrain_steps=0, candidates=16, **settings)
    update = agent.phases()[1].update

    def train(state):
        step = lambda _, state: update(state, sample(state, data, 32))  # noqa: E731
        return jax.lax.fori_loop(0, UPDATES, lambda i, s: step(i, s)[0], state)

    states = lanes_of(agent)
    lanes = {'eta': jnp.array([1.0, DTQL.clone['eta']])}
    lanes['inverse_temperature'] = jnp.array([10.0, DTQL.clone['inverse_temperature']])
    states = jax.jit(jax.vmap(train))(states.replace(hparams=states.hparams | lanes))
    act = jax.vmap(jax.vmap(agent.act, (None, None, 0)), (0, None, None))
    keys = jax.random.split(jax.random.key(9), 200)
    actions = jax.jit(act)(jax.vmap(agent.acting)(states), jnp.zeros(1), keys)
    return agent, states, np.asarray(actions)


def nearest(points):
    """The nearest mode of each point, and how far it is."""
    distance = np.linalg.norm(points[:, None] - MODES, axis=-1)
    return distance.argmin(1), distance.min(1)


def test_act__is_at_the_best_mode(bandit):
    mode, distance = nearest(bandit[2][0])
    assert (mode == 3).mean() > 0.9
    assert np.median(distance) < 0.35


def test_clone__has_no_favourite(bandit):
    mode, _ = nearest(bandit[2][1])
    assert np.bincount(mode, minlength=4).min() > 0.1 * 200


def test_mu__has_all_four_modes_in_equal_parts(bandit):
    """Sampled from by Euler steps of its probability flow."""
    agent, states, _ = bandit
    mu = jax.tree.map(lambda x: x[1], states.params['mu'])
    obs, sigma = jnp.zeros((400, 1)), np.geomspace(10, 0.01, 30, dtype=np.float32)

    @jax.jit
    def denoise(x, level):
        def network(y, c):
            return agent.mu.apply({'params': mu}, y, c, obs)

        return agent.schedule.denoise(network, x, jnp.full(400, level), clip=1.0)

    x = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32) * sigma[0]
    for now, then in itertools.pairwise(sigma):
        x += (then - now) / now * (x - np.asarray(denoise(x, now)))
    mode, distance = nearest(x)
    assert np.bincount(mode, minlength=4).min() > 0.15 * 400
    assert np.median(distance) < 0.2
