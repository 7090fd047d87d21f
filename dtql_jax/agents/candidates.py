"""The choice among sampled actions by their Q values."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from dtql_jax.nn.layers import apply
from dtql_jax.types import Params


def min_q(q: nn.Module, params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
    """`min_k Q_k(s, a)` at one observation `[O]` for many actions `[N, A]`: `[N]`."""
    obs = jnp.broadcast_to(obs, (action.shape[0], *obs.shape))
    return apply(q, params, obs, action).min(0)


def draw_by_q(
    key: jax.Array,
    q_fn: Callable[[jax.Array], jax.Array],
    candidates: jax.Array,
    inverse_temperature: jax.Array,
) -> jax.Array:
    """Draws one of `candidates` `[N, A]` with the probabilities `softmax(inverse_temperature * Q)`.

    `q_fn` is `[N, A] -> [N]`. The logits are the Q values. With `softmax(Q)` as logits, a common
    mistake, the draw would be almost uniform.
    """
    return candidates[jax.random.categorical(key, inverse_temperature * q_fn(candidates))]


def best_by_q(q_fn: Callable[[jax.Array], jax.Array], candidates: jax.Array) -> jax.Array:
    """The one of `candidates` `[N, A]` with the largest Q. `q_fn` is `[N, A] -> [N]`."""
    return candidates[jnp.argmax(q_fn(candidates))]
