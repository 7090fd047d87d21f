"""Gaussian mixtures by hand, by quadrature and by Tweedie's formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.diffusion.mixture import GaussianMixture

pytestmark = pytest.mark.usefixtures('quick_compile')

one = GaussianMixture(np.array([[1.0, -2.0]]), np.array([0.5]), np.array([1.0]))
two = GaussianMixture(np.array([[0.5], [-1.0]]), np.array([0.3, 0.2]), np.array([0.25, 0.75]))


def normal(x, mean, variance):
    return np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)


def test_log_density__of_one_gaussian_by_hand():
    """Under alpha 2 and sigma 3 it is N((2, -4), 2^2 / 4 + 9 = 10)."""
    x = jnp.array([2.0, -4.0])
    assert one.log_density(x[None], 2.0, 3.0) == pytest.approx(-np.log(2 * np.pi * 10), rel=1e-6)
    assert one.log_density(x + 1, 2.0, 3.0) == pytest.approx(-np.log(2 * np.pi * 10) - 0.1)
    assert one.log_density(x, 2.0) == pytest.approx(-np.log(2 * np.pi))


def test_denoise__of_one_gaussian_by_hand():
    """`mean + alpha std^2 / (alpha^2 std^2 + sigma^2) (x - alpha mean)`, gain 0.05."""
    x = jnp.array([4.0, -4.0])
    np.testing.assert_allclose(one.denoise(x, 2.0, 3.0), [1.1, -2.0], rtol=1e-6)


@pytest.mark.parametrize(('alpha', 'sigma'), [(1.0, 0.4), (0.6, 0.8)])
def test_denoise__is_the_mean_of_the_actions_behind_x(alpha, sigma):
    """By quadrature over the actions."""
    action = np.linspace(-3, 3, 20_001)
    prior = 0.25 * normal(action, 0.5, 0.09) + 0.75 * normal(action, -1.0, 0.04)
    for x in (-1.2, -0.1, 0.2, 2.0):
        likely = prior * normal(x, alpha * action, sigma**2)
        expected = (likely * action).sum() / likely.sum()
        assert two.denoise(jnp.array([x]), alpha, sigma)[0] == pytest.approx(expected, rel=1e-4)
        density = likely.sum() * (action[1] - action[0])
        found = two.log_density(jnp.array([x]), alpha, sigma)
        assert found == pytest.approx(np.log(density), rel=1e-4)


def test_denoise__follows_the_slope_of_the_log_density():
    """Tweedie: `alpha D(x) = x + sigma^2 grad log p(x)`, with a sigma for each x."""
    x, sigma = jnp.array([[-0.4], [0.1], [0.9]]), jnp.array([0.1, 0.5, 2.0])
    slope = jax.vmap(jax.grad(lambda x, s: two.log_density(x, 0.7, s)))(x, sigma)
    expected = (x + sigma[:, None] ** 2 * slope) / 0.7
    np.testing.assert_allclose(two.denoise(x, 0.7, sigma), expected, rtol=2e-4)


def test_sample__draws_components_by_their_weight():
    u = np.array([0.0, 0.24, 0.25, 0.99])
    drawn = two.sample(u, np.array([[1.0], [0.0], [0.0], [-1.0]]))
    np.testing.assert_allclose(drawn, [[0.8], [0.5], [-1.0], [-1.2]])
