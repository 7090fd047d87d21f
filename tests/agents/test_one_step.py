"""One-step policies: their networks, actions and likelihoods."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.one_step import POLICIES
from dtql_jax.types import Spec

pytestmark = pytest.mark.usefixtures('quick_compile')

OBS, ACTION, BATCH = 3, 2, 8


def policy_of(name, max_action=1.0):
    """A policy of that kind, and its parameters."""
    policy = POLICIES[name](Spec(OBS, ACTION, max_action), 16)
    inputs = policy.inputs(jnp.zeros((1, OBS)), jnp.zeros((1, ACTION)))
    return policy, jax.jit(policy.network.init)(jax.random.key(0), *inputs)['params']


@functools.cache
def obs_of():
    return jnp.float32(np.random.default_rng(0).normal(size=(BATCH, OBS)))


def test_Deterministic__ignores_noise():
    policy, params = policy_of('deterministic', max_action=2.0)
    obs = obs_of()
    z = policy.network.apply({'params': params}, obs)
    assert z.shape == (BATCH, ACTION)
    for noise in (jnp.zeros((BATCH, ACTION)), jnp.full((BATCH, ACTION), 3.0)):
        actions = policy.sample(policy.at(params, obs), noise)
        np.testing.assert_allclose(actions, 2 * np.tanh(z), rtol=1e-6)
    many = policy.sample(policy.at(params, obs[0]), jnp.zeros((5, ACTION)))
    assert many.shape == (5, ACTION)
    assert len(np.unique(many, axis=0)) == 1


def test_Implicit__is_a_function_of_state_and_noise():
    policy, params = policy_of('implicit', max_action=2.0)
    obs, noise = obs_of(), jax.random.normal(jax.random.key(0), (BATCH, ACTION))
    actions = policy.sample(policy.at(params, obs), noise)
    z = policy.network.apply({'params': params}, jnp.concatenate([obs, noise], -1))
    np.testing.assert_allclose(actions, 2 * np.tanh(z), rtol=1e-6)
    for i in range(BATCH):  # many actions at one state, as when acting
        many = policy.sample(policy.at(params, obs[i]), noise)
        np.testing.assert_allclose(many[i], actions[i], rtol=1e-5, atol=1e-6)
        assert len(np.unique(many, axis=0)) == BATCH


@pytest.mark.parametrize('name', POLICIES)
def test_network__is_three_orthogonal_layers_and_an_output(name):
    params = policy_of(name)[1]
    inputs, outputs = OBS + ACTION * (name == 'implicit'), ACTION * (1 + (name == 'gaussian'))
    shapes = [params[f'Dense_{i}']['kernel'].shape for i in range(4)]
    assert len(params) == 4
    assert shapes == [(inputs, 16), (16, 16), (16, 16), (16, outputs)]
    for i in range(4):
        kernel = np.asarray(params[f'Dense_{i}']['kernel'])
        gram = kernel.T @ kernel if kernel.shape[0] >= kernel.shape[1] else kernel @ kernel.T
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)
        assert not params[f'Dense_{i}']['bias'].any()


@pytest.mark.parametrize('max_action', [0.2, 1.0, 30.0, 1e6])
def test_log_prob__is_finite_everywhere_and_clips_nothing_inside_a_usual_box(max_action):
    """Up to the edge of a box below 999 it uses `arctanh(a / (max_action + 1e-3))` as released."""
    policy, params = policy_of('gaussian', max_action)
    mean, log_std = pi = policy.at(params, obs_of()[:1])
    for share in (0.0, 0.5, 1.0, 2.0, -3.0):
        action = jnp.full((1, ACTION), share * max_action)
        log_prob = policy.log_prob(pi, action)
        assert jnp.isfinite(log_prob).all()
        if abs(share) <= 1 and max_action < 100:
            z = np.arctanh(np.float32(action) / np.float32(max_action + 1e-3))
            noise = (z - mean) / np.exp(log_std)
            expected = (-0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)).sum(-1)
            np.testing.assert_allclose(log_prob, expected, rtol=1e-3)


def test_has_density__is_that_of_the_gaussian_alone():
    assert [name for name, policy in POLICIES.items() if policy.has_density] == ['gaussian']
