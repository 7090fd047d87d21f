"""Networks of state-action values `Q(s, a)` and state values `V(s)`."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from dtql_jax.nn.layers import LAYER_NORM_EPSILON, MLP, Linear

# The choices of FQL's `q_aggregate`: one value `[B]` of those of K critics `[K, B]`.
AGGREGATES: dict[str, Callable[[jax.Array], jax.Array]] = {
    'min': lambda q: q.min(0),
    'mean': lambda q: q.mean(0),
}


_BATCHED = contextvars.ContextVar('batched', default=False)


@contextlib.contextmanager
def batched_critics(batched: bool) -> Iterator[None]:
    """Inside, what is traced computes the critics of a `TwinQ` as one batched product, or apart.

    A CPU is slow at batched products, an accelerator at many small kernels. Parameters are the same
    both ways, and results up to rounding. jax keeps traces: trace a new function.
    """
    token = _BATCHED.set(batched)
    try:
        yield
    finally:
        _BATCHED.reset(token)


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
        layers = self.hidden, 1, self.activation, self.layer_norm, self.layer, self.norm_after
        names = ('q1', 'q2')
        if self.is_initializing() or not _BATCHED.get():
            return jnp.stack([MLP(*layers, name=name)(x)[..., 0] for name in names])
        mlp = MLP(*layers, parent=None)
        each = [self.variables['params'][name] for name in names]
        params = jax.tree.map(lambda *arrays: jnp.stack(arrays), *each)
        return jax.vmap(lambda params: mlp.apply({'params': params}, x)[..., 0])(params)


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
