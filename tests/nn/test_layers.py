"""Activations, layers and the MLP: initial laws as torch has them, and outputs by hand."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.nn.kernels import few_kernels
from dtql_jax.nn.layers import MLP, LayerNorm, Linear, SmallDense, XavierDense, mish, orthogonal
from tests.helpers.networks import apply, params_of

pytestmark = pytest.mark.usefixtures('quick_compile')


def test_mish__and_its_gradient_by_definition():
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
def test_Linear__draws_weights_and_biases_uniformly_as_torch_does(fan_in):
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


def test_Linear__is_affine():
    params = {'kernel': jnp.array([[1.0, 2.0], [3.0, 4.0]]), 'bias': jnp.array([0.5, -0.5])}
    out = apply(Linear(2), params, jnp.array([[1.0, 10.0]]))
    np.testing.assert_allclose(out, [[31.5, 41.5]])


@pytest.mark.parametrize('shape', [(5, 5), (3, 8), (8, 3), (17, 256), (256, 12), (1, 4)])
def test_orthogonal__has_orthonormal_rows_or_columns(shape):
    matrix = np.asarray(orthogonal(jax.random.key(0), shape), np.float64)
    assert matrix.shape == shape
    small = matrix @ matrix.T if shape[0] <= shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(small, np.eye(min(shape)), atol=2e-6)


def test_orthogonal__is_drawn_uniformly():
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


def test_MLP__puts_layer_norm_before_the_activation_and_neither_after_the_output():
    module = MLP((3,), 2, jax.nn.relu, layer_norm=True)
    x = jnp.array([[1.0, 2.0]])
    params = params_of(module, x)
    first, second = params['Linear_0'], params['Linear_1']
    h = np.asarray(x @ first['kernel'] + first['bias'], np.float64)
    h = (h - h.mean()) / np.sqrt(h.var() + 1e-5)
    expected = np.maximum(h, 0) @ second['kernel'] + second['bias']
    np.testing.assert_allclose(apply(module, params, x), expected, rtol=1e-5, atol=1e-6)


def test_MLP__layer_norm_has_the_epsilon_of_torch():
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


def test_MLP__norm_after_puts_layer_norm_after_the_activation_with_the_epsilon_of_flax():
    """In float64 by NumPy; small outputs show the epsilon, and the variance of E[x^2] - E[x]^2."""
    mlp = MLP((8,), 2, nn.gelu, layer_norm=True, layer=XavierDense, norm_after=True)
    x = jax.random.normal(jax.random.key(1), (5, 4))
    params = params_of(mlp, x)
    params['XavierDense_0'] = {
        'kernel': 1e-3 * params['XavierDense_0']['kernel'],
        'bias': jnp.zeros(8),
    }
    params['LayerNorm_0'] = {'scale': jnp.linspace(0.5, 2, 8), 'bias': jnp.linspace(-1, 1, 8)}
    p = jax.tree.map(np.float64, params)
    h = np.float64(x) @ p['XavierDense_0']['kernel']
    h = h / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
    variance = (h**2).mean(-1, keepdims=True) - h.mean(-1, keepdims=True) ** 2
    h = (h - h.mean(-1, keepdims=True)) / np.sqrt(variance + 1e-6)
    h = h * p['LayerNorm_0']['scale'] + p['LayerNorm_0']['bias']
    expected = h @ p['XavierDense_1']['kernel'] + p['XavierDense_1']['bias']
    np.testing.assert_allclose(apply(mlp, params, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('shape', [(8,), (5, 8), (2, 5, 8)])
def test_LayerNorm__of_few_kernels_has_the_same_values_and_gradients(shape):
    norm = LayerNorm(epsilon=1e-5)
    x = 2 * jax.random.normal(jax.random.key(3), shape) + 0.5
    params = {'scale': jnp.linspace(0.5, 2, 8), 'bias': jnp.linspace(-1, 1, 8)}

    def outcome():  # traced anew at each call: jax keeps the trace of a function
        def loss(params, x):
            y = norm.apply({'params': params}, x)
            return (y**3).mean(), y

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, x)

    expected = outcome()
    with few_kernels(True):
        found = outcome()
        assert jax.tree.structure(norm.init(jax.random.key(0), x)) == jax.tree.structure(
            {'params': params}
        )
    for ours, theirs in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_MLP__last_is_another_kind_of_output_layer():
    """A tenth of the bound of `XavierDense`."""
    mlp = MLP((300,), 200, nn.gelu, layer=XavierDense, last=SmallDense)
    params = params_of(mlp, jnp.zeros((1, 100)))
    assert set(params) == {'XavierDense_0', 'SmallDense_0'}
    for name, bound in (
        ('XavierDense_0', (6 / 400) ** 0.5),
        ('SmallDense_0', 0.1 * (6 / 500) ** 0.5),
    ):
        kernel = np.asarray(params[name]['kernel'])
        assert 0.99 * bound < np.abs(kernel).max() <= bound
        assert kernel.var() == pytest.approx(bound**2 / 3, rel=0.03)
        assert not np.any(params[name]['bias'])


def test_MLP__initial_weights_depend_on_the_key():
    module, x = MLP((4,), 1, nn.relu), jnp.ones((1, 2))
    a, b, c = (params_of(module, x, seed=seed)['Linear_0']['kernel'] for seed in (0, 0, 1))
    assert (a == b).all()
    assert not (a == c).any()
