"""Flow matching: the loss by hand, and samples of velocities with a known flow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.diffusion.flow import flow_loss, follow

pytestmark = pytest.mark.usefixtures('quick_compile')


def test_flow_loss__by_hand():
    data, noise = jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 4.0]])
    t = jnp.array([[0.25]])  # x_t is [0.5, 3]; the velocity is [2, -4]
    loss = flow_loss(lambda x, t: x + t, data, noise, t)  # which says [0.75, 3.25]
    np.testing.assert_allclose(loss, ((0.75 - 2) ** 2 + (3.25 + 4) ** 2) / 2)


def test_flow_loss__is_0_for_the_velocity_of_one_point():
    point = jnp.array([0.3, -0.7])
    noise = jax.random.normal(jax.random.key(0), (8, 2))
    t = jax.random.uniform(jax.random.key(1), (8, 1), maxval=0.9)
    loss = flow_loss(lambda x, t: (point - x) / (1 - t), jnp.tile(point, (8, 1)), noise, t)
    assert loss < 1e-9


@pytest.mark.parametrize('steps', [1, 3, 10])
def test_follow__straight_lines_end_at_their_point(steps):
    """Times are 0, 1/N, ..., 1 - 1/N: at 1 this velocity would divide by 0."""
    point = jnp.array([0.3, -0.7])
    noise = jax.random.normal(jax.random.key(0), (4, 2))
    found = follow(lambda x, t: (point - x) / (1 - t), noise, steps, clip=1.0)
    np.testing.assert_allclose(found, np.tile(point, (4, 1)), atol=1e-6)


def test_follow__clips_at_the_end_only():
    """Out of the box and back, which a clip on the way would change."""
    found = follow(lambda x, t: jnp.where(t < 0.5, 4.0, -3.0) + 0 * x, jnp.zeros((1, 1)), 4, 1.0)
    np.testing.assert_allclose(found, [[0.5]])
    assert follow(lambda x, t: jnp.ones_like(x) * 3, jnp.zeros((1, 1)), 4, 1.0) == 1
