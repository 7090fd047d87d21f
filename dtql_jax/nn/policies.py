"""Networks of Gaussian policies."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from dtql_jax.nn.layers import LAYER_NORM_EPSILON, MLP, LayerNorm, OrthogonalDense, orthogonal

LOG_STD_RANGE = (-5.0, 2.0)  # the log deviation is clamped to it and has no gradient outside


class GaussianPolicy(nn.Module):
    """Mean and log deviation of a Gaussian before tanh: `[B, O] -> ([B, A], [B, A])`.

    Every layer, the output layer too, starts orthogonal (gain 1) with zero bias.
    """

    action_dim: int
    hidden: int = 256
    layers: int = 3
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    layer_norm: bool = False

    @nn.compact
    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = obs
        for _ in range(self.layers):
            x = nn.Dense(self.hidden, kernel_init=orthogonal)(x)
            if self.layer_norm:
                x = LayerNorm(epsilon=LAYER_NORM_EPSILON)(x)
            x = self.activation(x)
        x = nn.Dense(2 * self.action_dim, kernel_init=orthogonal)(x)
        mean, log_std = jnp.split(x, 2, axis=-1)
        return mean, jnp.clip(log_std, *LOG_STD_RANGE)


class TanhMeanPolicy(nn.Module):
    """IQL's Gaussian `N(tanh(MLP(s)), exp(log_std)^2)`: `[B, O] -> ([B, A], [A])`.

    Its noise is not squashed. The log deviation is one parameter per dimension for all states; it
    starts at 0.
    """

    action_dim: int
    hidden: int = 256
    layers: int = 2
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    layer_norm: bool = False

    @nn.compact
    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden, orthogonal = (self.hidden,) * self.layers, OrthogonalDense
        mean = MLP(
            hidden, self.action_dim, self.activation, self.layer_norm, orthogonal, name='mean'
        )(obs)
        log_std = self.param('log_std', nn.initializers.zeros, (self.action_dim,))
        return jnp.tanh(mean), jnp.clip(log_std, *LOG_STD_RANGE)
