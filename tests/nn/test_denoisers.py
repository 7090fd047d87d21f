"""Networks of diffusion policies, by hand."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.nn.denoisers import Denoiser, TimeEmbedding
from tests.helpers.networks import apply, params_of

pytestmark = pytest.mark.usefixtures('quick_compile')


def test_TimeEmbedding__is_sines_then_cosines_of_falling_frequencies():
    """With dim 4 the frequencies are 1 and 1/10000; the network behind is made the identity."""
    module = TimeEmbedding(4)
    c = jnp.array([0.7, -2.0])
    shapes = params_of(module, c)['mlp']
    assert shapes['Linear_0']['kernel'].shape == (4, 8)
    assert shapes['Linear_1']['kernel'].shape == (8, 4)
    wide = jnp.concatenate([jnp.eye(4), jnp.zeros((4, 4))], axis=1)
    params = {
        'mlp': {
            'Linear_0': {'kernel': wide, 'bias': jnp.full(8, 30.0)},  # where Mish is the identity
            'Linear_1': {'kernel': wide.T, 'bias': jnp.full(4, -30.0)},
        }
    }
    expected = [
        [math.sin(x), math.sin(1e-4 * x), math.cos(x), math.cos(1e-4 * x)] for x in (0.7, -2.0)
    ]
    np.testing.assert_allclose(apply(module, params, c), expected, atol=1e-5)


def test_TimeEmbedding__frequencies_of_the_released_width():
    """exp(-k ln(10000) / 7) for k = 0..7, read off the sines of a small angle."""
    module = TimeEmbedding(16)
    c = jnp.array([1e-2])
    params = params_of(module, c)['mlp']
    wide = jnp.concatenate([jnp.eye(16), jnp.zeros((16, 16))], axis=1)
    params = {
        'Linear_0': {'kernel': 1e3 * wide, 'bias': jnp.full(32, 30.0)},
        'Linear_1': {'kernel': wide.T, 'bias': jnp.full(16, -30.0)},
    }
    out = apply(module, {'mlp': params}, c)[0, :8] / 1e3
    expected = np.sin(1e-2 * np.exp(-np.arange(8) * math.log(1e4) / 7))
    np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-8)


def test_Denoiser__reads_action_then_state_then_time_and_starts_without_activation():
    module = Denoiser(2, hidden=8)
    x, c, obs = jnp.array([[0.3, -0.2]]), jnp.array([0.1]), jnp.array([[1.0, 2.0, 3.0]])
    params = params_of(module, x, c, obs)
    assert params['first']['kernel'].shape == (2 + 3 + 16, 8)
    assert sorted(params['trunk']) == [f'Linear_{i}' for i in range(4)]
    time = apply(TimeEmbedding(16), params['time'], c)
    h = jnp.concatenate([x, obs, time], axis=-1) @ params['first']['kernel']
    h += params['first']['bias']
    for i in range(4):
        layer = params['trunk'][f'Linear_{i}']
        h = h @ layer['kernel'] + layer['bias']
        h = h * jnp.tanh(jnp.log1p(jnp.exp(h))) if i < 3 else h
    np.testing.assert_allclose(apply(module, params, x, c, obs), h, rtol=1e-4, atol=1e-6)
