"""Losses and targets that agents share: pure functions of arrays, without parameters or noise."""

import chex
import jax
import jax.numpy as jnp


def expectile_loss(diff: jax.Array, expectile: jax.Array) -> jax.Array:
    """Mean of `|expectile - 1[diff <= 0]| * diff^2` for `diff` `[B]` (IQL, arXiv 2110.06169).

    With `diff = target - prediction`, an expectile above 1/2 pulls the prediction towards the
    larger targets.
    """
    weight = jnp.where(diff > 0, expectile, 1.0 - expectile)
    return jnp.mean(weight * diff**2)


def td_target(
    reward: jax.Array, mask: jax.Array, next_value: jax.Array, discount: jax.Array
) -> jax.Array:
    """`reward + discount * mask * next_value` without gradient, all `[B]`."""
    chex.assert_equal_shape([reward, mask, next_value])
    return jax.lax.stop_gradient(reward + discount * mask * next_value)


def twin_td_loss(q: jax.Array, target: jax.Array) -> jax.Array:
    """`sum_k mean_b (q[k, b] - target[b])^2` of an ensemble `q` `[K, B]` and `target` `[B]`."""
    chex.assert_rank([q, target], [2, 1])
    return jnp.sum(jnp.mean((q - target) ** 2, axis=-1))


def gaussian_log_prob(x: jax.Array, mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """`log N(x; mean, exp(log_std)^2)` summed over the last axis: `[..., A] -> [...]`."""
    chex.assert_equal_shape([x, mean, log_std])
    z = (x - mean) * jnp.exp(-log_std)
    return jnp.sum(-0.5 * z**2 - log_std - 0.5 * jnp.log(2 * jnp.pi), axis=-1)
