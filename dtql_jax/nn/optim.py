"""Adam, gradient clipping and learning-rate decay as in the released codes."""

import math

import jax
import jax.numpy as jnp
import optax

from dtql_jax.types import Params


def scale_by_adam(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Adam's direction `m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)` (arXiv 1412.6980).

    It differs from optax's Adam in rounding only: `1 - b^t` is computed as `-expm1(t ln b)`. In
    float32 the difference cancels, which makes optax's first step 6e-6 too short.
    """

    def correction(b: float, count: jax.Array) -> jax.Array:
        return -jnp.expm1(count * math.log(b))

    def update(
        gradient: Params, state: optax.ScaleByAdamState, params: Params | None = None
    ) -> tuple[Params, optax.ScaleByAdamState]:
        del params
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, gradient)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, state.nu, gradient)
        c1, c2 = correction(b1, count), correction(b2, count)
        direction = jax.tree.map(lambda m, v: m / c1 / (jnp.sqrt(v / c2) + eps), mu, nu)
        return direction, optax.ScaleByAdamState(count=count, mu=mu, nu=nu)

    return optax.GradientTransformation(optax.scale_by_adam(b1, b2, eps).init, update)


def clip_by_norm(gradient: Params, max_norm: jax.Array) -> Params:
    """`gradient * min(1, max_norm / (norm + 1e-6))` with the global L2 norm, as in torch."""
    factor = jnp.minimum(1.0, max_norm / (optax.global_norm(gradient) + 1e-6))
    return jax.tree.map(lambda g: g * factor, gradient)


def cosine_decay(step: jax.Array, total: int) -> jax.Array:
    """`(1 + cos(pi step / total)) / 2`: the factor on a learning rate after `step` updates.

    Up to `total` it is that of torch's `CosineAnnealingLR(T_max=total, eta_min=0)` after `step`
    calls of `scheduler.step()`, and 1 for a negative `step`. The update `total` is the first of
    those in the environment: from there on it is 1 again.
    """
    factor = 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(step / total, 0.0, 1.0)))
    return jnp.where(step < total, factor, 1.0)
