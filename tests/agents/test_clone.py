"""The trust region of DTQL's diffusion policy; `test_bc` has its training."""

import math

import jax
import jax.numpy as jnp
import pytest

from dtql_jax.diffusion import SCHEDULES
from tests.helpers.small_dtql import make, state_of

pytestmark = pytest.mark.usefixtures('quick_compile')

ACTIONS = jax.random.uniform(jax.random.key(0), (8, 3), minval=-1, maxval=1)  # and observations


def test_denoising_loss__clips_for_edm_alone():
    """As in the sources. A mu with a last bias of 100 predicts far outside the box."""
    far, data = {}, ACTIONS
    cases = {schedule: {'schedule': schedule} for schedule in SCHEDULES}
    cases['unclipped'] = {'clip_denoised': False}
    for case, settings in cases.items():
        agent = make(**settings)
        mu = jax.tree.map(lambda x: x, state_of(agent).params['mu'])
        last = mu['trunk']['Linear_3']
        last['bias'] = jnp.full_like(last['bias'], 100.0)
        u, noise = jnp.full(8, 0.5), jnp.zeros((8, 2))
        far[case] = float(jax.jit(agent.denoising_loss)(mu, data[:, :1], data[:, 1:], u, noise))
    # Unclipped it is the mean of F^2, 100^2; clipped the error is at most 2, divided by c_out.
    assert far['edm'] < 4 / (0.5 * 0.5 / math.sqrt(0.5)) ** 2
    assert far['vp'] == pytest.approx(1e4, rel=0.05)
    assert far['ve'] == pytest.approx(1e4, rel=0.05)
    assert far['unclipped'] == pytest.approx(1e4, rel=0.05)


def test_trust_region__is_the_denoising_loss_of_each_action():
    """On the same draws for all; so an action's loss does not depend on those beside it."""
    agent = make()
    mu, (obs, action) = state_of(agent).params['mu'], jnp.split(ACTIONS, [1], axis=1)
    u, noise = jnp.array([0.1, 0.5, 0.9]), jax.random.normal(jax.random.key(1), (3, 2))
    found = jax.jit(agent.trust_region)(mu, obs, action, u, noise)
    assert found.shape == (8,)
    for i in (0, 5):
        many = (jnp.tile(x[i], (3, 1)) for x in (obs, action))
        expected = float(agent.denoising_loss(mu, *many, u, noise))
        assert found[i] == pytest.approx(expected, rel=1e-5)
