"""Networks of state-action values `Q(s, a)` and state values `V(s)`."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from dtql_jax.nn.layers import LAYER_NORM_EPSILON, MLP, Linear


class TwinQ(nn.Module):
    """Two critics `Q_k(s, a)` with separate parameters: `[B, O], [B, A] -> [2, B]`."""

    hidden: Sequence[int]
    activation: Callable[[jax.Array], jax.Array]
    layer_norm: bool = False
    layer: Callable[..., nn.Module] = Linear
    norm_after: bool = False  # see `MLP`

    @nn.compact
    def __call__(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        x = jnp.concatenate([obs, action], axis=-1)

        def q(name: str) -> jax.Array:
            layers = (
                self.hidden, 1, self.activation, self.layer_norm, self.layer, self.norm_after
            )  # fmt: skip
            return MLP(*layers, name=name)(x)[..., 0]

        # A vmap over the two would be slower on a CPU, where batched products are slow.
        return jnp.stack([q('q1'), q('q2')])


class Value(nn.Module):
    """A state value `V(s)`: `[B, O] -> [B]`. With `input_norm` a LayerNorm is applied to s."""

    hidden: Sequence[int]
    activation: Callable[[jax.Array], jax.Array]
    layer: Callable[..., nn.Module] = Linear
    layer_norm: bool = False
    input_norm: bool = False
    input_norm_epsilon: float = LAYER_NORM_EPSILON
    norm_after: bool = False  # see `MLP`

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        x = obs
        if self.input_norm:
            x = nn.LayerNorm(epsilon=self.input_norm_epsilon, name='norm')(x)
        layers = self.hidden, 1, self.activation, self.layer_norm, self.layer, self.norm_after
        return MLP(*layers, name='v')(x)[..., 0]


class Critic(nn.Module):
    """`TwinQ` and `Value` as one network, for methods that train both by one loss."""

    q: TwinQ
    v: Value

    def __call__(self, obs: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.q(obs, action), self.v(obs)
