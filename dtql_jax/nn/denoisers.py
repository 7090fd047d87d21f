"""Networks of diffusion policies, and the features of the noise level that they receive."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from dtql_jax.nn.layers import LAYER_NORM_EPSILON, MLP, LayerNorm, Linear, mish


class TimeEmbedding(nn.Module):
    """Sinusoidal features of a scalar `[B]`, then Linear(2 dim), Mish, Linear(dim): `[B, dim]`.

    The features are the sines, then the cosines, of `c exp(-k ln(10000) / (dim/2 - 1))`.
    """

    dim: int

    @nn.compact
    def __call__(self, c: jax.Array) -> jax.Array:
        half = self.dim // 2
        frequency = jnp.exp(-jnp.arange(half) * (math.log(10000.0) / (half - 1)))
        angle = c[..., None] * frequency
        embedding = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
        return MLP((2 * self.dim,), self.dim, mish, name='mlp')(embedding)


class Denoiser(nn.Module):
    """DTQL's raw diffusion network `F(x, c | s)`: `[B, A], [B], [B, O] -> [B, A]`.

    The input is `[x, s, embedding(c)]`. As in the released code, the first linear layer has no
    activation. The default is five linear layers with Mish after the second, third and fourth.
    """

    action_dim: int
    hidden: int = 256
    time_dim: int = 16
    layers: int = 3  # hidden layers with an activation
    activation: Callable[[jax.Array], jax.Array] = mish
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, c: jax.Array, obs: jax.Array) -> jax.Array:
        embedding = TimeEmbedding(self.time_dim, name='time')(c)
        h = Linear(self.hidden, name='first')(jnp.concatenate([x, obs, embedding], axis=-1))
        hidden = (self.hidden,) * self.layers
        return MLP(hidden, self.action_dim, self.activation, self.layer_norm, name='trunk')(h)


class NoisePredictor(nn.Module):
    """Diffusion-QL's noise network `eps(x, t | s)`: `[B, A], [B], [B, O] -> [B, A]`.

    The input is `[x, embedding(t), s]`, another order than in `Denoiser`. The default is three
    layers with Mish and a linear output layer.
    """

    action_dim: int
    hidden: int = 256
    time_dim: int = 16
    layers: int = 3  # hidden layers with an activation
    activation: Callable[[jax.Array], jax.Array] = mish
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, t: jax.Array, obs: jax.Array) -> jax.Array:
        embedding = TimeEmbedding(self.time_dim, name='time')(t)
        h = jnp.concatenate([x, embedding, obs], axis=-1)
        hidden = (self.hidden,) * self.layers
        return MLP(hidden, self.action_dim, self.activation, self.layer_norm, name='trunk')(h)


class FourierFeatures(nn.Module):
    """`[cos 2 pi t w, sin 2 pi t w]` of a scalar `t` `[B]`: `[B, dim]`.

    The frequencies w are trained. They start from `N(0, deviation^2)`.
    """

    dim: int
    deviation: float

    @nn.compact
    def __call__(self, t: jax.Array) -> jax.Array:
        init = nn.initializers.normal(self.deviation)
        angle = 2 * jnp.pi * t[..., None] * self.param('frequency', init, (self.dim // 2,))
        return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


class FixedFourierFeatures(nn.Module):
    """`[sin 2 pi t w, cos 2 pi t w]` of a scalar `t` `[B]`: `[B, dim]`, `w ~ N(0, deviation^2)`.

    The frequencies w are parameters, because they differ between seeds, but have no gradient. Adam
    does not change them; an optimiser with weight decay must exclude them.
    """

    dim: int
    deviation: float

    @nn.compact
    def __call__(self, t: jax.Array) -> jax.Array:
        init = nn.initializers.normal(self.deviation)
        frequency = jax.lax.stop_gradient(self.param('frequency', init, (self.dim // 2,)))
        angle = t[..., None] * frequency * 2 * jnp.pi
        return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class ResidualDenoiser(nn.Module):
    """The noise network of IDQL and SRPO, `eps(x, t | s)`: `[B, A], [B], [B, O] -> [B, A]`.

    The input is `[x, s, e]`, where e is an MLP of `features(t)` with a linear output layer. Each
    block adds `W2 act(W1 LayerNorm(dropout(h)))` to h; W1 has four times the width of h. `dropout`
    `[blocks, B, hidden]` holds the factors of `dropout_factors`; None drops nothing.
    """

    action_dim: int
    features: nn.Module  # `[B] -> [B, F]`
    activation: Callable[[jax.Array], jax.Array]
    hidden: int = 256
    blocks: int = 3
    layer: Callable[..., nn.Module] = Linear  # outside the blocks
    block_layer: Callable[..., nn.Module] = Linear
    epsilon: float = LAYER_NORM_EPSILON

    @nn.compact
    def __call__(
        self, x: jax.Array, t: jax.Array, obs: jax.Array, dropout: jax.Array | None = None
    ) -> jax.Array:
        features = self.features(t)
        width = 2 * features.shape[-1]
        e = MLP((width,), width, self.activation, layer=self.layer, name='time')(features)
        h = self.layer(self.hidden, name='first')(jnp.concatenate([x, obs, e], axis=-1))
        for i in range(self.blocks):
            y = h if dropout is None else h * dropout[i]
            y = LayerNorm(epsilon=self.epsilon)(y)
            y = self.activation(self.block_layer(4 * self.hidden, name=f'wide_{i}')(y))
            h += self.block_layer(self.hidden, name=f'narrow_{i}')(y)
        return self.layer(self.action_dim, name='last')(self.activation(h))


def dropout_factors(u: jax.Array, rate: jax.Array) -> jax.Array:
    """The factors of dropout: 0 where `u < rate`, else `1 / (1 - rate)`, for u in [0, 1)."""
    return jnp.where(u < rate, 0.0, 1.0 / (1.0 - rate))
