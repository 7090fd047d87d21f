"""Flax linen networks. Initialisations are torch's where the released code of a method is torch."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

LAYER_NORM_EPSILON = 1e-5  # torch's; Flax's default is 1e-6.


def _torch_uniform(fan_in: int) -> nn.initializers.Initializer:
    bound = 1.0 / math.sqrt(fan_in)
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -bound, bound
    )


def orthogonal(key: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
    """A uniformly drawn matrix with orthonormal rows or columns, whichever are fewer.

    Gram-Schmidt, each vector projected twice, on a Gaussian matrix; the law is that of torch's
    and Flax's orthogonal initialisation (gain 1). Those call LAPACK's QR, and several such calls in
    one compiled CPU program can lock up XLA's thread pool for ever (seen with jaxlib 0.10).
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
    """`x W + b` with torch's default initialisation: both uniform in `+-1/sqrt(fan_in)`."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = _torch_uniform(x.shape[-1])
        kernel = self.param('kernel', init, (x.shape[-1], self.features))
        bias = self.param('bias', init, (self.features,))
        return x @ kernel + bias


class MLP(nn.Module):
    """Hidden layers of `Linear`, optionally LayerNorm, then `activation`; a linear output layer."""

    hidden: Sequence[int]
    out: int
    activation: Callable[[jax.Array], jax.Array]
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.hidden:
            x = Linear(width)(x)
            if self.layer_norm:
                x = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON)(x)
            x = self.activation(x)
        return Linear(self.out)(x)


class TwinQ(nn.Module):
    """Two critics `Q_k(s, a)` with parameters of their own, stacked: `[B, O], [B, A] -> [2, B]`."""

    hidden: Sequence[int]
    activation: Callable[[jax.Array], jax.Array]
    layer_norm: bool = False

    @nn.compact
    def __call__(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        ensemble = nn.vmap(
            MLP,
            variable_axes={'params': 0},
            split_rngs={'params': True},
            in_axes=None,
            out_axes=0,
            axis_size=2,
        )
        q = ensemble(self.hidden, 1, self.activation, self.layer_norm, name='q')
        return q(jnp.concatenate([obs, action], axis=-1))[..., 0]


class Value(nn.Module):
    """A state value `V(s)`: `[B, O] -> [B]`."""

    hidden: Sequence[int]
    activation: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        return MLP(self.hidden, 1, self.activation, name='v')(obs)[..., 0]


class Critic(nn.Module):
    """`TwinQ` and `Value` as one network, for methods that train them by one loss."""

    q: TwinQ
    v: Value

    def __call__(self, obs: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.q(obs, action), self.v(obs)


class TimeEmbedding(nn.Module):
    """Sinusoidal features of a scalar `[B]`, then Linear 2d, Mish, Linear d: `[B, dim]`.

    Frequencies are `exp(-k ln(10000) / (dim/2 - 1))`, sines before cosines.
    """

    dim: int

    @nn.compact
    def __call__(self, c: jax.Array) -> jax.Array:
        half = self.dim // 2
        frequency = jnp.exp(-jnp.arange(half) * (math.log(10000.0) / (half - 1)))
        angle = c[..., None] * frequency
        embedding = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
        return MLP((2 * self.dim,), self.dim, jax.nn.mish, name='mlp')(embedding)


class Denoiser(nn.Module):
    """DTQL's raw diffusion network `F(x, c | s)`: `[B, A], [B], [B, O] -> [B, A]`.

    The input is `[x, s, embedding(c)]`. As in the released code, the first linear layer has no
    activation, so that the first two compose: five linear layers, three Mish.
    """

    action_dim: int
    hidden: int = 256
    time_dim: int = 16

    @nn.compact
    def __call__(self, x: jax.Array, c: jax.Array, obs: jax.Array) -> jax.Array:
        embedding = TimeEmbedding(self.time_dim, name='time')(c)
        h = Linear(self.hidden, name='first')(jnp.concatenate([x, obs, embedding], axis=-1))
        return MLP((self.hidden,) * 3, self.action_dim, jax.nn.mish, name='trunk')(h)


class GaussianPolicy(nn.Module):
    """Mean and log deviation of a Gaussian before tanh: `[B, O] -> ([B, A], [B, A])`.

    Three ReLU layers; every layer orthogonal (gain 1) with zero bias, the output included. The log
    deviation is clamped to [-5, 2], with no gradient outside.
    """

    action_dim: int
    hidden: int = 256

    @nn.compact
    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = obs
        for _ in range(3):
            x = nn.relu(nn.Dense(self.hidden, kernel_init=orthogonal)(x))
        x = nn.Dense(2 * self.action_dim, kernel_init=orthogonal)(x)
        mean, log_std = jnp.split(x, 2, axis=-1)
        return mean, jnp.clip(log_std, -5.0, 2.0)
