"""The loss of DTQL's policy, and its likelihood term, whose weight `gamma` is data."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.dtql import DTQL, Draws
from dtql_jax.agents.one_step import Gaussian
from dtql_jax.types import Transition
from tests.helpers.small_dtql import make, state_of

pytestmark = pytest.mark.usefixtures('quick_compile')

INSIDE = np.random.default_rng(1).uniform(-1, 1, (8, 2))
OUTSIDE = INSIDE + 5.0


@functools.cache
def loss_program(agent):
    return jax.jit(agent.policy_loss)


def batch_of(agent, action, seed=0):
    """A batch of these actions at random states, with rewards of 0."""
    n = len(action)
    obs = jnp.float32(np.random.default_rng(seed).normal(size=(n, agent.spec.obs_dim)))
    return Transition(obs, jnp.float32(action), jnp.zeros(n), jnp.ones(n), obs)


def draws_of(n=8, seed=2):
    rng = np.random.default_rng(seed)
    u, noise = (lambda: rng.uniform(size=n)), (lambda: rng.normal(size=(n, 2)))
    return Draws(*(jnp.float32(x) for x in (u(), noise(), noise(), u(), noise())))


def policy_loss(agent, action, **hparams):
    """The loss and its metrics for a batch of these actions."""
    state = state_of(agent)
    hparams = {name: jnp.float32(value) for name, value in hparams.items()}
    state = state.replace(hparams=state.hparams | hparams)
    return loss_program(agent)(state, batch_of(agent, action), draws_of(len(action)))


def test_policy_loss__is_the_weighted_sum_of_its_terms():
    agent = make(gamma=1.0)
    loss, metrics = policy_loss(agent, INSIDE, alpha=3.0, eta=2.0, gamma=0.5)
    terms = {name.removeprefix('pi/'): float(value) for name, value in metrics.items()}
    expected = 3 * terms['trust_loss'] - 2 * terms['q'] - 0.5 * terms['log_prob']
    assert loss == pytest.approx(expected, rel=1e-5)
    assert terms['loss'] == pytest.approx(float(loss))


def test_policy_loss__at_gamma_0_ignores_the_actions_of_the_data():
    """Also those outside the box: a weight of 0 times a NaN would be a NaN."""
    agent = make()
    loss, metrics = policy_loss(agent, OUTSIDE)
    assert jnp.isfinite(loss)
    assert loss == policy_loss(agent, INSIDE)[0]
    assert jnp.isfinite(metrics['pi/log_prob'])

    @jax.jit
    def gradient(action):
        def loss(params):
            state = state_of(agent)
            state = state.replace(params={**state.params, 'pi': params})
            return agent.policy_loss(state, batch_of(agent, action), draws_of())[0]

        return jax.grad(loss)(state_of(agent).params['pi'])

    for x, y in zip(*(jax.tree.leaves(gradient(a)) for a in (INSIDE, OUTSIDE)), strict=True):
        assert jnp.isfinite(x).all()
        np.testing.assert_array_equal(x, y)


def test_policy_loss__likelihood_is_finite_at_the_edge_and_beyond_and_depends_on_the_data():
    agent = make(gamma=1.0)
    edge = policy_loss(agent, np.ones((8, 2)))[1]['pi/log_prob']
    assert jnp.isfinite(edge)
    assert edge != policy_loss(agent, INSIDE)[1]['pi/log_prob']
    assert jnp.isfinite(policy_loss(agent, OUTSIDE)[0])


def test_policy_loss__likelihood_is_that_of_the_data_before_tanh():
    """By hand, with pi's own mean and deviation: no Jacobian of tanh."""
    agent = make(gamma=1.0)
    log_prob = policy_loss(agent, INSIDE)[1]['pi/log_prob']
    obs = jnp.float32(np.random.default_rng(0).normal(size=(8, 1)))
    mean, log_std = agent.pi.apply({'params': state_of(agent).params['pi']}, obs)
    z = (np.arctanh(INSIDE / 1.001) - mean) / np.exp(log_std)
    expected = (-0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(-1).mean()
    assert log_prob == pytest.approx(float(expected), rel=1e-4)


class WithoutTerm(DTQL):
    """DTQL with a policy without a likelihood: its program has no such term."""

    @property
    def policy(self):
        released = super().policy
        cls = type('NoDensity', (Gaussian,), {'has_density': False})
        return cls(**{f.name: getattr(released, f.name) for f in dataclasses.fields(released)})


def policy_steps(agent, state, over_lanes=lambda step: step):
    """The state after two steps of pi, the one network that gamma concerns, and their metrics."""
    batch, draws, metrics = batch_of(agent, INSIDE), draws_of(), []

    @jax.jit
    @over_lanes
    def step(state):
        return agent.descend(state, 'pi', 1e-3, agent.policy_loss, batch, draws)

    for _ in range(2):
        state, m = step(state)
        metrics.append(m)
    return state, metrics


@functools.cache
def alone(gamma, agent=DTQL):
    """The same of a run without lanes."""
    agent = make(agent=agent, gamma=gamma)
    return policy_steps(agent, state_of(agent))


def test_policy_loss__with_gamma_0_gives_the_update_without_the_term():
    (ours, m_ours), (theirs, m_theirs) = alone(0.0), alone(0.0, WithoutTerm)
    pairs = (jax.tree.leaves((state.params, state.opt)) for state in (ours, theirs))
    for x, y in zip(*pairs, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-8)
    for now, then in zip(m_ours, m_theirs, strict=True):
        assert set(now) - set(then) == {'pi/log_prob'}
        for name, value in then.items():
            np.testing.assert_allclose(now[name], value, rtol=1e-6, atol=1e-7, err_msg=name)


def test_policy_loss__lanes_with_gamma_0_and_1_differ_as_runs_of_their_own_do():
    """Both in one program."""
    agent = make()
    lanes = jax.tree.map(lambda x: jnp.stack([x, x]), state_of(agent))
    lanes = lanes.replace(hparams=lanes.hparams | {'gamma': jnp.array([0.0, 1.0])})
    after, metrics = policy_steps(agent, lanes, jax.vmap)
    for lane, gamma in enumerate((0.0, 1.0)):
        own, m_own = alone(gamma)
        for x, y in zip(*(jax.tree.leaves(s.params) for s in (after, own)), strict=True):
            np.testing.assert_allclose(x[lane], y, rtol=1e-5, atol=2e-6)
        for now, then in zip(metrics, m_own, strict=True):
            for name, value in then.items():
                np.testing.assert_allclose(now[name][lane], value, rtol=1e-4, atol=1e-5)
    for name, params in after.params.items():
        differ = any((x[0] != x[1]).any() for x in jax.tree.leaves(params))
        assert differ == (name == 'pi'), name
    # At the first step pi is the same, so the losses differ by the term alone.
    first = {name: np.asarray(value) for name, value in metrics[0].items()}
    assert first['pi/log_prob'][0] == pytest.approx(first['pi/log_prob'][1])
    difference = first['pi/loss'][0] - first['pi/loss'][1]
    assert difference == pytest.approx(first['pi/log_prob'][0], rel=1e-4)
