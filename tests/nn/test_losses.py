"""Losses and targets by hand, and their gradients by finite differences."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.nn import losses
from tests.helpers.finite_differences import assert_gradients

pytestmark = pytest.mark.usefixtures('quick_compile')


def test_expectile_loss__weighs_by_the_sign_of_the_difference():
    diff = jnp.array([2.0, -1.0, 0.0, -3.0])
    # 0.9 * 4 + 0.1 * 1 + 0 + 0.1 * 9, over four.
    assert losses.expectile_loss(diff, 0.9) == pytest.approx(4.6 / 4)
    assert losses.expectile_loss(diff, 0.5) == pytest.approx(0.5 * 14 / 4)


def test_expectile_loss__gradient_has_the_same_weights():
    gradient = jax.grad(losses.expectile_loss)(jnp.array([2.0, -1.0, 0.0]), 0.7)
    np.testing.assert_allclose(gradient, [0.7 * 4 / 3, 0.3 * -2 / 3, 0], rtol=1e-6)


def test_expectile_loss__is_smallest_at_the_expectile():
    """Of 0 and 1 it is tau itself: tau (1 - m) = (1 - tau) m."""
    target = jnp.array([0.0, 1.0])
    gradient = jax.grad(lambda m: losses.expectile_loss(target - m, 0.8))(0.8)
    assert gradient == pytest.approx(0, abs=1e-7)


def test_td_target__bootstraps_where_the_mask_is_1():
    reward, mask, value = jnp.array([1.0, -1.0]), jnp.array([1.0, 0.0]), jnp.array([10.0, 20.0])
    np.testing.assert_allclose(losses.td_target(reward, mask, value, 0.9), [10.0, -1.0])


def test_td_target__has_no_gradient():
    ones = jnp.ones(3)
    gradient = jax.grad(lambda x: losses.td_target(x, ones, x, x[0]).sum())(ones)
    np.testing.assert_array_equal(gradient, 0)


def test_td_target__refuses_shapes_that_would_broadcast():
    with pytest.raises(AssertionError):
        losses.td_target(jnp.ones((3, 1)), jnp.ones(3), jnp.ones(3), 0.9)


def test_twin_td_loss__sums_over_critics_and_averages_over_the_batch():
    q = jnp.array([[1.0, 2.0], [0.0, 5.0]])
    # (1 + 0) / 2 + (4 + 9) / 2
    assert losses.twin_td_loss(q, jnp.array([2.0, 2.0])) == pytest.approx(0.5 + 6.5)
    with pytest.raises(AssertionError):
        losses.twin_td_loss(q, q)


def test_gaussian_log_prob__sums_over_dimensions():
    x, mean = jnp.array([[1.0, 0.0], [0.5, 2.0]]), jnp.array([[1.0, 0.0], [0.0, 0.0]])
    log_std = jnp.log(jnp.array([[1.0, 2.0], [0.5, 1.0]]))
    half_log = 0.5 * math.log(2 * math.pi)
    expected = [
        -2 * half_log - math.log(2.0),
        -2 * half_log - 0.5 - math.log(0.5) - 2.0,  # both one and two deviations away
    ]
    np.testing.assert_allclose(losses.gaussian_log_prob(x, mean, log_std), expected, rtol=1e-6)


def test_gaussian_log_prob__density_integrates_to_1():
    x = jnp.linspace(-30, 30, 20_001)[:, None]
    mean, log_std = jnp.full_like(x, 1.5), jnp.full_like(x, math.log(2.0))
    density = jnp.exp(losses.gaussian_log_prob(x, mean, log_std))
    assert density.sum() * (60 / 20_000) == pytest.approx(1, abs=1e-4)


# Numbers apart enough that no difference of the expectile loss is at its kink, 0.
rng = np.random.default_rng(0)
GRADIENTS = {
    'expectile_loss': (losses.expectile_loss, ([2.0, -1.0, 0.5, -3.0], 0.7)),
    'twin_td_loss': (losses.twin_td_loss, (rng.normal(size=(2, 4)), rng.normal(size=4))),
    'gaussian_log_prob': (
        # Not the plain sum, which a permutation of the batch would leave as it is.
        lambda *arrays: (losses.gaussian_log_prob(*arrays) * np.array([1.0, -2.0, 0.5])).sum(),
        rng.normal(size=(3, 3, 2)),  # x, mean and log_std
    ),
}


@pytest.mark.parametrize('name', GRADIENTS)
def test_losses__gradients_are_those_of_finite_differences_in_float64(name):
    """For every argument, also those that no agent differentiates by."""
    function, arguments = GRADIENTS[name]
    assert_gradients(function, *arguments)
