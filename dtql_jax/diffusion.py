"""Noise schedules: frozen dataclasses of pure functions, in the vocabulary of Karras et al. (2022).

A schedule says how noise levels are drawn, how a raw network becomes a denoiser, and what the
denoising loss is. Each function receives the noise that it needs; none draws any.
"""

import dataclasses
import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

# A network with the state already bound: (c_in * x [B, A], c_noise [B]) -> [B, A].
Network = Callable[[jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class EDM:
    """EDM preconditioning (arXiv 2206.00364, Table 1) with log-logistic noise levels.

    `sigma` follows a log-logistic law with median `sigma_data` and scale 1/2, truncated to
    `[sigma_min, sigma_max]`. This is the density of DTQL's released code; EDM itself uses a
    log-normal one.
    """

    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    scale: float = 0.5

    def sigma(self, u: jax.Array) -> jax.Array:
        """The noise level at the quantile `u` in [0, 1) of the truncated law, any shape.

        The inverse of `F(sigma) = sigmoid((ln sigma - ln sigma_data) / scale)` between
        `F(sigma_min)` and `F(sigma_max)`. Odds are formed from `u` and `1 - u` apart, which keeps
        float32 exact where `F` is close to 1.
        """
        low, high = (self._cdf(s) for s in (self.sigma_min, self.sigma_max))
        p = low + (high - low) * u
        one_minus_p = (1.0 - high) + (high - low) * (1.0 - u)
        return self.sigma_data * (p / one_minus_p) ** self.scale

    def _cdf(self, sigma: float) -> float:
        return 1.0 / (1.0 + math.exp(-math.log(sigma / self.sigma_data) / self.scale))

    def c_skip(self, sigma: jax.Array) -> jax.Array:
        """`sigma_data^2 / (sigma^2 + sigma_data^2)`."""
        return self.sigma_data**2 / (sigma**2 + self.sigma_data**2)

    def c_out(self, sigma: jax.Array) -> jax.Array:
        """`sigma sigma_data / sqrt(sigma^2 + sigma_data^2)`."""
        return sigma * self.sigma_data * jax.lax.rsqrt(sigma**2 + self.sigma_data**2)

    def c_in(self, sigma: jax.Array) -> jax.Array:
        """`1 / sqrt(sigma^2 + sigma_data^2)`."""
        return jax.lax.rsqrt(sigma**2 + self.sigma_data**2)

    def c_noise(self, sigma: jax.Array) -> jax.Array:
        """`ln(sigma) / 4`."""
        return jnp.log(sigma) / 4.0

    def denoise(
        self, network: Network, x: jax.Array, sigma: jax.Array, clip: float | None
    ) -> jax.Array:
        """`D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)` for `x` `[B, A]`, `sigma` `[B]`.

        With `clip` the denoised action is clipped to `[-clip, clip]`, as DTQL's released code does
        on the benchmark tasks (its toy script does not).
        """
        chex.assert_rank([x, sigma], [2, 1])
        s = sigma[:, None]
        raw = network(self.c_in(s) * x, self.c_noise(sigma))
        denoised = self.c_skip(s) * x + self.c_out(s) * raw
        return denoised if clip is None else jnp.clip(denoised, -clip, clip)

    def loss(
        self,
        network: Network,
        x: jax.Array,
        sigma: jax.Array,
        noise: jax.Array,
        clip: float | None,
    ) -> jax.Array:
        """`mean ((D(x + sigma noise, sigma) - x) / c_out(sigma))^2` over batch and action dims.

        `x` and `noise` are `[B, A]`, `sigma` `[B]`. The paper sums over dims; the released code
        averages, and so do we. Gradients flow to the network and, through all three places where
        it enters, to `x`: that is what makes this loss a trust region for a policy's actions.
        """
        chex.assert_equal_shape([x, noise])
        denoised = self.denoise(network, x + sigma[:, None] * noise, sigma, clip)
        return jnp.mean(((denoised - x) / self.c_out(sigma)[:, None]) ** 2)
