"""Flax linen networks. Initialisations are torch's where the released code of a method is torch."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

LAYER_NORM_EPSILON = 1e-5  # torch's; Flax's default is 1e-6.


@jax.custom_jvp
def mish(x: jax.Array) -> jax.Array:
    """`x tanh(softplus(x))` by one exponential: `x n / (n + 2)` with `n = e^x (e^x + 2)`.

    Four times as fast on a CPU as its definition, which takes exp, log1p and tanh. Beyond 20 the
    factor is 1 in float32, and `e^x` is cut there before it overflows.
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
    # The exponential alone is shared with the value: a compiler that finds more in common keeps
    # it in memory instead of computing it again, which takes longer. n + 2 = (e + 1)^2 + 1.
    p = e + 1.0
    inverse = 1.0 / (p * p + 1.0)
    # Divided twice, since the square of n overflows.
    slope = inverse * (e * p + e + jnp.minimum(x, 20.0) * (4.0 * e * p * inverse))
    return x * (n / (n + 2.0)), slope * dx


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


class XavierDense(nn.Dense):
    """`x W + b` with `W` uniform in `+-sqrt(6 / (fan_in + fan_out))` and zero bias: jaxrl5's."""

    kernel_init: nn.initializers.Initializer = nn.initializers.xavier_uniform()


class OrthogonalDense(nn.Dense):
    """`x W + b` with `W` orthogonal, gain sqrt(2), and zero bias: jaxrl's."""

    kernel_init: nn.initializers.Initializer = lambda *args: math.sqrt(2) * orthogonal(*args)


class MLP(nn.Module):
    """Hidden layers of `layer`, optionally LayerNorm, then `activation`; a linear output layer."""

    hidden: Sequence[int]
    out: int
    activation: Callable[[jax.Array], jax.Array]
    layer_norm: bool = False
    layer: Callable[[int], nn.Module] = Linear

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.hidden:
            x = self.layer(width)(x)
            if self.layer_norm:
                x = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON)(x)
            x = self.activation(x)
        return self.layer(self.out)(x)


class TwinQ(nn.Module):
    """Two critics `Q_k(s, a)` with parameters of their own: `[B, O], [B, A] -> [2, B]`."""

    hidden: Sequence[int]
    activation: Callable[[jax.Array], jax.Array]
    layer_norm: bool = False
    layer: Callable[[int], nn.Module] = Linear

    @nn.compact
    def __call__(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        x = jnp.concatenate([obs, action], axis=-1)

        def q(name: str) -> jax.Array:
            layers = self.hidden, 1, self.activation, self.layer_norm, self.layer
            return MLP(*layers, name=name)(x)[..., 0]

        # Not by a vmap over the members: batched products are slower on a CPU.
        return jnp.stack([q('q1'), q('q2')])


class Value(nn.Module):
    """A state value `V(s)`: `[B, O] -> [B]`; `input_norm` is the epsilon of a LayerNorm on s."""

    hidden: Sequence[int]
    activation: Callable[[jax.Array], jax.Array]
    layer: Callable[[int], nn.Module] = Linear
    input_norm: float | None = None

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        x = obs
        if self.input_norm is not None:
            x = nn.LayerNorm(epsilon=self.input_norm, name='norm')(x)
        return MLP(self.hidden, 1, self.activation, layer=self.layer, name='v')(x)[..., 0]


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
        return MLP((2 * self.dim,), self.dim, mish, name='mlp')(embedding)


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
        return MLP((self.hidden,) * 3, self.action_dim, mish, name='trunk')(h)


class NoisePredictor(nn.Module):
    """Diffusion-QL's noise network `eps(x, t | s)`: `[B, A], [B], [B, O] -> [B, A]`.

    The input is `[x, embedding(t), s]`, in another order than that of `Denoiser`; three Mish layers
    and a linear one.
    """

    action_dim: int
    hidden: int = 256
    time_dim: int = 16

    @nn.compact
    def __call__(self, x: jax.Array, t: jax.Array, obs: jax.Array) -> jax.Array:
        embedding = TimeEmbedding(self.time_dim, name='time')(t)
        h = jnp.concatenate([x, embedding, obs], axis=-1)
        return MLP((self.hidden,) * 3, self.action_dim, mish, name='trunk')(h)


class FourierFeatures(nn.Module):
    """`[cos 2 pi t w, sin 2 pi t w]` of a scalar `t` `[B]`: `[B, dim]`, `w ~ N(0, deviation^2)`."""

    dim: int
    deviation: float

    @nn.compact
    def __call__(self, t: jax.Array) -> jax.Array:
        init = nn.initializers.normal(self.deviation)
        angle = 2 * jnp.pi * t[..., None] * self.param('frequency', init, (self.dim // 2,))
        return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


class FixedFourierFeatures(nn.Module):
    """`[sin 2 pi t w, cos 2 pi t w]` of a scalar `t` `[B]`: `[B, dim]`, `w ~ N(0, deviation^2)`.

    The frequencies are parameters, since they differ between seeds, but have no gradient. Adam
    leaves them as they are; a weight decay must leave them out.
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

    The input is `[x, s, e]`, where e is an MLP of `features(t)` with a linear end. Each block adds
    `W2 act(W1 LayerNorm(dropout(h)))`, W1 four times as wide as h. `dropout` `[blocks, B, hidden]`
    are the factors of `dropout_factors`; without them nothing is dropped.
    """

    action_dim: int
    features: nn.Module  # `[B] -> [B, F]`
    activation: Callable[[jax.Array], jax.Array]
    hidden: int = 256
    blocks: int = 3
    layer: Callable[[int], nn.Module] = Linear  # outside the blocks
    block_layer: Callable[[int], nn.Module] = Linear
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
            y = nn.LayerNorm(epsilon=self.epsilon)(y)
            y = self.activation(self.block_layer(4 * self.hidden, name=f'wide_{i}')(y))
            h += self.block_layer(self.hidden, name=f'narrow_{i}')(y)
        return self.layer(self.action_dim, name='last')(self.activation(h))


def dropout_factors(u: jax.Array, rate: jax.Array) -> jax.Array:
    """0 where `u < rate`, else `1 / (1 - rate)`: what dropout multiplies by, `u` standard."""
    return jnp.where(u < rate, 0.0, 1.0 / (1.0 - rate))


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


class TanhMeanPolicy(nn.Module):
    """IQL's Gaussian in the unit box, no tanh after the noise: `[B, O] -> ([B, A], [A])`.

    The mean is `tanh(MLP(s))`, two ReLU layers. The log deviation is one parameter for all states,
    0 at first and clamped to [-5, 2].
    """

    action_dim: int
    hidden: int = 256

    @nn.compact
    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = (self.hidden,) * 2
        mean = MLP(hidden, self.action_dim, nn.relu, layer=OrthogonalDense, name='mean')(obs)
        log_std = self.param('log_std', nn.initializers.zeros, (self.action_dim,))
        return jnp.tanh(mean), jnp.clip(log_std, -5.0, 2.0)
