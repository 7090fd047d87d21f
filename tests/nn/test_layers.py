"""Networks: initial laws as torch has them, and outputs by hand."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.nn.critics import Critic, TwinQ, Value
from dtql_jax.nn.denoisers import Denoiser, TimeEmbedding
from dtql_jax.nn.layers import MLP, Linear, mish, orthogonal
from dtql_jax.nn.policies import GaussianPolicy

pytestmark = pytest.mark.usefixtures('quick_compile')


def apply(module, params, *inputs):
    """One program instead of one for each operation."""
    return jax.jit(module.apply)({'params': params}, *inputs)


def params_of(module, *inputs, seed=0):
    return jax.jit(module.init)(jax.random.key(seed), *inputs)['params']


def test_mish_and_its_gradient_by_its_definition():
    """In float64 by NumPy; far out too, where an exponential or its square would overflow."""
    x = np.concatenate([np.linspace(-120, 120, 10_001), [0.0, 20.0, 1e30, -1e30]])
    softplus = np.logaddexp(0, x)
    sigmoid = np.exp(np.minimum(x, 0) - np.logaddexp(0, -np.abs(x)))
    slope = np.tanh(softplus) + x * sigmoid / np.cosh(np.minimum(softplus, 300)) ** 2
    value, gradient = jax.vmap(jax.value_and_grad(mish))(jnp.float32(x))
    np.testing.assert_allclose(value, x * np.tanh(softplus), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(gradient[:-2], slope[:-2], rtol=1e-6, atol=3e-7)
    assert gradient[-2:].tolist() == [1.0, 0.0]


@pytest.mark.parametrize('fan_in', [1, 4, 300])
def test_linear_draws_weights_and_biases_uniformly_as_torch_does(fan_in):
    """Both in +-1/sqrt(fan_in); flat: its variance is bound^2 / 3."""
    bound = 1 / math.sqrt(fan_in)
    params = params_of(Linear(20_000), jnp.zeros((1, fan_in)))
    for name, shape in (('kernel', (fan_in, 20_000)), ('bias', (20_000,))):
        values = np.asarray(params[name])
        assert values.shape == shape
        assert np.abs(values).max() <= bound
        assert np.abs(values).max() > 0.999 * bound
        assert values.mean() == pytest.approx(0, abs=0.02 * bound)
        assert values.var() == pytest.approx(bound**2 / 3, rel=0.03)


def test_linear_is_affine():
    params = {'kernel': jnp.array([[1.0, 2.0], [3.0, 4.0]]), 'bias': jnp.array([0.5, -0.5])}
    out = apply(Linear(2), params, jnp.array([[1.0, 10.0]]))
    np.testing.assert_allclose(out, [[31.5, 41.5]])


@pytest.mark.parametrize('shape', [(5, 5), (3, 8), (8, 3), (17, 256), (256, 12), (1, 4)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape):
    matrix = np.asarray(orthogonal(jax.random.key(0), shape), np.float64)
    assert matrix.shape == shape
    small = matrix @ matrix.T if shape[0] <= shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(small, np.eye(min(shape)), atol=2e-6)


def test_orthogonal_matrices_are_drawn_uniformly():
    """Moments of the Haar law on O(3): no preferred sign, entry or column."""
    n = 20_000
    draw = jax.jit(jax.vmap(lambda key: orthogonal(key, (3, 3))))
    many = np.asarray(draw(jax.random.split(jax.random.key(0), n)), np.float64)
    np.testing.assert_allclose(many.mean(0), 0, atol=5 / math.sqrt(3 * n))
    np.testing.assert_allclose((many**2).mean(0), 1 / 3, atol=0.02)
    np.testing.assert_allclose((many**4).mean(0), 3 / 15, atol=0.02)
    # Entries of one row: E q11^2 q12^2 = 1 / 15.
    assert (many[:, 0, 0] ** 2 * many[:, 0, 1] ** 2).mean() == pytest.approx(1 / 15, abs=0.005)
    determinant = np.linalg.det(many)
    np.testing.assert_allclose(np.abs(determinant), 1, atol=1e-5)
    assert determinant.mean() == pytest.approx(0, abs=5 / math.sqrt(n))
    # The same law after a turn: here the second moment along another direction.
    direction = np.array([1.0, 2.0, -2.0]) / 3
    along = many @ direction
    np.testing.assert_allclose((along**2).mean(0), 1 / 3, atol=0.02)


def test_mlp_puts_layer_norm_before_the_activation_and_neither_after_the_output():
    module = MLP((3,), 2, jax.nn.relu, layer_norm=True)
    x = jnp.array([[1.0, 2.0]])
    params = params_of(module, x)
    first, second = params['Linear_0'], params['Linear_1']
    h = np.asarray(x @ first['kernel'] + first['bias'], np.float64)
    h = (h - h.mean()) / np.sqrt(h.var() + 1e-5)
    expected = np.maximum(h, 0) @ second['kernel'] + second['bias']
    np.testing.assert_allclose(apply(module, params, x), expected, rtol=1e-5, atol=1e-6)


def test_layer_norm_has_the_epsilon_of_torch():
    """Features of variance 1e-5: divided by sqrt(2e-5); with Flax's 1e-6 by sqrt(1.1e-5)."""
    module = MLP((2,), 1, lambda x: x, layer_norm=True)
    d = math.sqrt(1e-5)
    params = {
        'Linear_0': {'kernel': jnp.array([[d, -d]]), 'bias': jnp.zeros(2)},
        'LayerNorm_0': {'scale': jnp.ones(2), 'bias': jnp.zeros(2)},
        'Linear_1': {'kernel': jnp.array([[1.0], [0.0]]), 'bias': jnp.zeros(1)},
    }
    out = apply(module, params, jnp.ones((1, 1)))
    np.testing.assert_allclose(out, [[math.sqrt(0.5)]], rtol=1e-4)


def test_twin_critics_have_weights_of_their_own_and_read_state_before_action():
    module = TwinQ((8, 8), jax.nn.mish, layer_norm=True)
    obs, action = jnp.ones((5, 3)), jnp.ones((5, 2))
    params = params_of(module, obs, action)
    first, second = (params[name]['Linear_0']['kernel'] for name in ('q1', 'q2'))
    assert first.shape == (5, 8)
    assert (first != second).all()
    q = apply(module, params, obs, action)
    assert q.shape == (2, 5)
    for k, name in enumerate(('q1', 'q2')):
        single = MLP((8, 8), 1, jax.nn.mish, layer_norm=True)
        alone = apply(single, params[name], jnp.concatenate([obs, action], axis=-1))
        np.testing.assert_allclose(alone[:, 0], q[k], rtol=1e-5)


def test_critic_holds_the_very_networks_that_are_applied_alone():
    q, v = TwinQ((4,), jax.nn.mish), Value((4,), jax.nn.mish)
    obs, action = jnp.ones((5, 3)), jnp.ones((5, 2))
    params = params_of(Critic(q, v), obs, action)
    both = apply(Critic(q, v), params, obs, action)
    np.testing.assert_array_equal(both[0], apply(q, params['q'], obs, action))
    np.testing.assert_array_equal(both[1], apply(v, params['v'], obs))
    assert both[1].shape == (5,)


def test_time_embedding_is_sines_then_cosines_of_falling_frequencies():
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


def test_time_frequencies_of_the_released_width():
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


def test_denoiser_reads_action_then_state_then_time_and_starts_without_activation():
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


def test_gaussian_policy_is_orthogonal_throughout_with_zero_biases():
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


def test_log_deviation_is_clamped_without_gradient_outside():
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


def test_initial_weights_hang_on_the_key():
    module, x = MLP((4,), 1, nn.relu), jnp.ones((1, 2))
    a, b, c = (params_of(module, x, seed=seed)['Linear_0']['kernel'] for seed in (0, 0, 1))
    assert (a == b).all()
    assert not (a == c).any()
