"""Activations, linear layers and the MLP, initialised as in the released codes."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dtql_jax.nn.kernels import few_wanted
from dtql_jax.types import Params

LAYER_NORM_EPSILON = 1e-5  # torch's
FLAX_EPSILON = 1e-6  # the default of Flax's LayerNorm


@jax.custom_jvp
def mish(x: jax.Array) -> jax.Array:
    """`x tanh(softplus(x))`, computed as `x n / (n + 2)` with `n = e^x (e^x + 2)`.

    This form needs one exponential and is four times as fast on a CPU as exp, log1p and tanh. From
    x = 20 on the factor is 1 in float32, so `e^x` is capped there before it overflows.
    """
    e = jnp.exp(jnp.minimum(x, 20.0))
    n = e * (e + 2.0)
    return x * (n / (n + 2.0))


@mish.defjvp
def _mish_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """`d mish = n / (n + 2) + 4 x e^x (e^x + 1) / (n + 2)^2`, from the same exponential."""
    (x,), (dx,) = primals, tangents
    e = jnp.exp(jnp.minimum(x, 20.0))
    n = e * (e + 2.0)
    # Value and slope share the exponential only. If they shared more, the compiler would store the
    # shared part, which is slower than computing it again. n + 2 = (e + 1)^2 + 1.
    p = e + 1.0
    inverse = 1.0 / (p * p + 1.0)
    # Two factors of 1 / (n + 2), because the square of n overflows.
    slope = inverse * (e * p + e + jnp.minimum(x, 20.0) * (4.0 * e * p * inverse))
    return x * (n / (n + 2.0)), slope * dx


# The choices of settings such as `critic_activation`.
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    'relu': nn.relu,
    'mish': mish,
    'gelu': nn.gelu,
    'silu': nn.silu,
    'elu': nn.elu,
    'tanh': nn.tanh,
}


def _torch_uniform(fan_in: int) -> nn.initializers.Initializer:
    """Uniform in `+-1/sqrt(fan_in)`."""
    bound = 1.0 / math.sqrt(fan_in)
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -bound, bound
    )


def orthogonal(key: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
    """Draws a uniform random matrix with orthonormal rows or columns, whichever are fewer.

    The distribution is that of torch's and Flax's orthogonal initialisation (gain 1). It is
    computed by Gram-Schmidt on a Gaussian matrix, with two projections per vector. Torch and Flax
    call LAPACK's QR instead: several such calls in one compiled CPU program can deadlock XLA's
    thread pool (seen with jaxlib 0.10).
    """
    rows, columns = shape
    gaussian = jax.random.normal(key, (max(shape), min(shape)), dtype)

    def add(i: jax.Array, q: jax.Array) -> jax.Array:
        v = gaussian[:, i]
        for _ in range(2):
            v -= q @ (q.T @ v)
        return q.at[:, i].set(v / jnp.linalg.norm(v))

    q = jax.lax.fori_loop(0, min(shape), add, jnp.zeros_like(gaussian))
    return q if rows >= columns else q.T


class Linear(nn.Module):
    """`x W + b`, `W` and `b` uniform in `+-1/sqrt(fan_in)`: torch's default initialisation."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = _torch_uniform(x.shape[-1])
        kernel = self.param('kernel', init, (x.shape[-1], self.features))
        bias = self.param('bias', init, (self.features,))
        return x @ kernel + bias


class XavierDense(nn.Dense):
    """`x W + b`, `W` uniform in `+-sqrt(6 / (fan_in + fan_out))` and `b` 0: jaxrl5's layer."""

    kernel_init: nn.initializers.Initializer = nn.initializers.xavier_uniform()


class SmallDense(nn.Dense):
    """`x W + b`, `W` uniform in `+-sqrt(0.06 / (fan_in + fan_out))` and `b` 0.

    A tenth of `XavierDense`: the last layer of policies that start near the middle of the box.
    """

    kernel_init: nn.initializers.Initializer = nn.initializers.variance_scaling(
        0.01, 'fan_avg', 'uniform'
    )


class OrthogonalDense(nn.Dense):
    """`x W + b`, `W` orthogonal with gain sqrt(2) and `b` 0: jaxrl's layer."""

    kernel_init: nn.initializers.Initializer = lambda *args: math.sqrt(2) * orthogonal(*args)


class LayerNorm(nn.LayerNorm):
    """`(x - mean) / sqrt(var + epsilon) * scale + bias`, over the last axis.

    Where few kernels are wanted, its gradient is written by hand. A CPU is slower with that one.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if self.is_initializing() or not few_wanted():
            return super().__call__(x)
        params = self.variables['params']
        return _normalised(x, params['scale'], params['bias'], self.epsilon)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalised(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    """LayerNorm of `x` `[..., C]`."""
    return _normalised_forward(x, scale, bias, epsilon)[0]


def _normalised_forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    """LayerNorm, and what its gradient needs. The variance is that of Flax's LayerNorm."""
    mean = x.mean(-1, keepdims=True)
    variance = jnp.maximum((x * x).mean(-1, keepdims=True) - mean * mean, 0.0)
    inverse = jax.lax.rsqrt(variance + epsilon)
    unit = (x - mean) * inverse
    return unit * scale + bias, (unit, inverse, scale)


def _normalised_backward(
    epsilon: float, kept: tuple[jax.Array, jax.Array, jax.Array], slope: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`dx = (g - mean(g) - unit mean(g unit)) / sqrt(var + epsilon)` with `g = slope scale`."""
    del epsilon
    unit, inverse, scale = kept
    g = slope * scale
    along = (g * unit).mean(-1, keepdims=True)
    dx = inverse * (g - g.mean(-1, keepdims=True) - unit * along)
    batch = tuple(range(slope.ndim - 1))
    return dx, (slope * unit).sum(batch), slope.sum(batch)


_normalised.defvjp(_normalised_forward, _normalised_backward)


class MLP(nn.Module):
    """Hidden layers and a linear output layer.

    A hidden layer is `layer`, then LayerNorm if `layer_norm`, then `activation`. With `norm_after`,
    LayerNorm follows the activation and has Flax's epsilon, as in OGBench's codes.
    """

    hidden: Sequence[int]
    out: int
    activation: Callable[[jax.Array], jax.Array]
    layer_norm: bool = False
    layer: Callable[..., nn.Module] = Linear
    norm_after: bool = False
    last: Callable[..., nn.Module] | None = None  # the output layer, where it is another `layer`

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.hidden:
            x = self.layer(width)(x)
            if self.norm_after:
                x = self.activation(x)
            if self.layer_norm:
                epsilon = FLAX_EPSILON if self.norm_after else LAYER_NORM_EPSILON
                x = LayerNorm(epsilon=epsilon)(x)
            if not self.norm_after:
                x = self.activation(x)
        return (self.last or self.layer)(self.out)(x)


def apply(module: nn.Module, params: Params, *inputs: Any) -> Any:
    """The output of `module` with the parameters `params`."""
    return module.apply({'params': params}, *inputs)
