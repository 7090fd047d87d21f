"""Networks of state-action values `Q(s, a)` and state values `V(s)`."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from dtql_jax.nn.layers import LAYER_NORM_EPSILON, MLP, Linear
from dtql_jax.types import Params

# The choices of settings such as `q_aggregate`: one value `[B]` of those of K critics `[K, B]`.
AGGREGATES: dict[str, Callable[[jax.Array], jax.Array]] = {
    'min': lambda q: q.min(0),
    'mean': lambda q: q.mean(0),
}


class TwinQ(nn.Module):
    """Critics `Q_k(s, a)` with separate parameters, two by default: `[B, O], [B, A] -> [K, B]`."""

    hidden: Sequence[int]
    activation: Callable[[jax.Array], jax.Array]
    layer_norm: bool = False
    layer: Callable[..., nn.Module] = Linear
    norm_after: bool = False  # see `MLP`
    count: int = 2

    @nn.compact
    def __call__(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        x = jnp.concatenate([obs, action], axis=-1)
        layers = self.hidden, 1, self.activation, self.layer_norm, self.layer, self.norm_after
        names = [f'q{k}' for k in range(1, self.count + 1)]
        if self.is_initializing():
            return jnp.stack([MLP(*layers, name=name)(x)[..., 0] for name in names])
        mlp = MLP(*layers, parent=None)

        def q(params: Params, x: jax.Array) -> jax.Array:
            return mlp.apply({'params': params}, x)[..., 0]

        def apart(params: list[Params], x: jax.Array) -> jax.Array:
            return jnp.stack([q(each, x) for each in params])

        def together(params: list[Params], x: jax.Array) -> jax.Array:
            return jax.vmap(q, (0, None))(jax.tree.map(lambda *each: jnp.stack(each), *params), x)

        # A CPU is slow at batched products, an accelerator at many small kernels.
        params = [self.variables['params'][name] for name in names]
        return jax.lax.platform_dependent(params, x, cpu=apart, default=together)


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
