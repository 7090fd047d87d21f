"""Flow matching on straight lines from noise to data (arXiv 2209.03003, 2210.02747).

`x_t = (1 - t) noise + t data` for t in [0, 1]. A network v predicts the velocity `data - noise`.
Following v from noise at t = 0 to t = 1 gives a sample.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Velocity = Callable[[jax.Array, jax.Array], jax.Array]  # x `[B, A]`, t `[B, 1]` -> `[B, A]`


def flow_loss(velocity: Velocity, data: jax.Array, noise: jax.Array, t: jax.Array) -> jax.Array:
    """`E (v(x_t, t) - (data - noise))^2`, the mean over batch and dims; `t` is `[B, 1]`."""
    x = (1 - t) * noise + t * data
    return jnp.mean((velocity(x, t) - (data - noise)) ** 2)


def follow(velocity: Velocity, noise: jax.Array, steps: int, clip: float) -> jax.Array:
    """Samples `[B, A]` by `steps` of Euler's method, clipped to `[-clip, clip]` at the end."""
    x = noise
    # Unrolled, because the steps are few and the compiler then sees every constant.
    for i in range(steps):
        x = x + velocity(x, jnp.full((*x.shape[:-1], 1), i / steps)) / steps
    return jnp.clip(x, -clip, clip)
