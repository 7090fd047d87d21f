"""Gaussian policies: initial weights and the clamp of the log deviation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.nn.policies import GaussianPolicy
from tests.helpers.networks import apply, params_of

pytestmark = pytest.mark.usefixtures('quick_compile')


def test_GaussianPolicy__is_orthogonal_throughout_with_zero_biases():
    module = GaussianPolicy(3, hidden=16)
    params = params_of(module, jnp.ones((1, 5)))
    shapes = [params[f'Dense_{i}']['kernel'].shape for i in range(4)]
    assert shapes == [(5, 16), (16, 16), (16, 16), (16, 6)]
    for layer in params.values():
        kernel = np.asarray(layer['kernel'], np.float64)
        small = min(kernel.shape)
        gram = kernel @ kernel.T if kernel.shape[0] == small else kernel.T @ kernel
        np.testing.assert_allclose(gram, np.eye(small), atol=2e-6)
        np.testing.assert_array_equal(layer['bias'], 0)


def test_GaussianPolicy__log_deviation_is_clamped_without_gradient_outside():
    module = GaussianPolicy(1, hidden=4)
    obs = jnp.zeros((1, 2))
    params = params_of(module, obs)

    def log_std(bias):
        last = {**params['Dense_3'], 'bias': jnp.array([0.25, bias])}
        mean, log_std = apply(module, {**params, 'Dense_3': last}, obs)
        assert mean.shape == log_std.shape == (1, 1)
        return log_std[0, 0]

    for bias, expected, slope in [(-9, -5, 0), (-4.5, -4.5, 1), (1.5, 1.5, 1), (3, 2, 0)]:
        value, gradient = jax.value_and_grad(log_std)(float(bias))
        assert (value, gradient) == (expected, slope)
