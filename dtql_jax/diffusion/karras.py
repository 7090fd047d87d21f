"""Denoisers as Karras et al. write them (EDM, arXiv 2206.00364): preconditioning, loss, samplers.

Symbols: D the denoiser, F the raw network, `u` a quantile in [0, 1), `sigma` the deviation of the
noise on an unscaled action. The loss has the weight `1 / c_out(sigma)^2`, as in the source of each
schedule: for VP and VE it is `1 / sigma^2`. Every function receives its noise as an argument.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np

# A network at given states: (input [B, A], noise level [B]) -> [B, A].
Network = Callable[[jax.Array, jax.Array], jax.Array]


class Preconditioning:
    """`D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)`: a denoiser, its loss and its samplers.

    A subclass defines the bounds of the noise levels in training, `sigma_min` and `sigma_max`, and
    five functions of arrays of any shape: `sigma`, `c_skip`, `c_out`, `c_in` and `c_noise`.
    """

    # Whether the source's loss clips the denoised action to the box.
    clip_in_loss: ClassVar[bool] = False

    @property
    def sigma_min(self) -> float:
        """The smallest noise level in training."""
        raise NotImplementedError

    @property
    def sigma_max(self) -> float:
        """The largest noise level in training."""
        raise NotImplementedError

    def sigma(self, u: jax.Array) -> jax.Array:
        """The quantile `u` in [0, 1) of the distribution of noise levels in training."""
        raise NotImplementedError

    def c_skip(self, sigma: jax.Array) -> jax.Array:
        """The factor of the noisy input in D."""
        raise NotImplementedError

    def c_out(self, sigma: jax.Array) -> jax.Array:
        """The factor of the network's output in D."""
        raise NotImplementedError

    def c_in(self, sigma: jax.Array) -> jax.Array:
        """The factor of the noisy input in the network's input."""
        raise NotImplementedError

    def c_noise(self, sigma: jax.Array) -> jax.Array:
        """The network's second input: a function of the noise level."""
        raise NotImplementedError

    def denoise(
        self, network: Network, x: jax.Array, sigma: jax.Array, clip: jax.Array | float | None
    ) -> jax.Array:
        """`D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)` for `x` `[B, A]`, `sigma` `[B]`.

        With `clip` the denoised action is clipped to `[-clip, clip]`. DTQL's released code clips on
        the benchmark tasks, in the loss too; its toy script does not. In a loss only EDM may clip:
        where c_skip is 1, an untrained D lies outside the box and the clip removes its gradient.
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
        clip: jax.Array | float | None,
    ) -> jax.Array:
        """`mean ((D(x + sigma noise, sigma) - x) / c_out(sigma))^2` over batch and action dims.

        `x` and `noise` are `[B, A]`, `sigma` `[B]`. The paper sums over dims; this follows the
        released code, which averages. Gradients flow to the network, and to `x` through all three
        of its occurrences, so the loss can serve as a trust region for a policy's actions.
        """
        chex.assert_equal_shape([x, noise])
        denoised = self.denoise(network, x + sigma[:, None] * noise, sigma, clip)
        return jnp.mean(((denoised - x) / self.c_out(sigma)[:, None]) ** 2)

    def time_steps(self, steps: int, rho: float = 7.0) -> np.ndarray:
        """EDM's eq. 5: noise levels from sigma_max to sigma_min, then 0: `[steps + 1]`.

        `sigma^(1/rho)` is evenly spaced.
        """
        ends = self.sigma_max ** (1 / rho), self.sigma_min ** (1 / rho)
        return np.append(np.linspace(*ends, steps) ** rho, 0.0)

    def sample_heun(
        self, network: Network, noise: jax.Array, steps: int, clip: float | None
    ) -> jax.Array:
        """EDM's algorithm 1 (`sigma(t) = t`) from standard normal `noise` `[B, A]`: `[B, A]`.

        Heun's method on `dx/dt = (x - D(x, t)) / t` from `x = t_0 noise`. It is of second order and
        calls the network `2 steps - 1` times. `clip` is as in `denoise`.
        """
        t = jnp.asarray(self.time_steps(steps), noise.dtype)

        def step(x: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
            return self._heun(network, x, t[i], t[i + 1], clip), None

        x, _ = jax.lax.scan(step, t[0] * noise, jnp.arange(steps - 1))
        return self._last(network, x, t[steps - 1], clip)

    def sample_stochastic(
        self,
        network: Network,
        noise: jax.Array,
        churn_noise: jax.Array,
        s_churn: jax.Array | float,
        s_min: jax.Array | float,
        s_max: jax.Array | float,
        s_noise: jax.Array | float,
        clip: float | None,
    ) -> jax.Array:
        """EDM's algorithm 2 from normal `noise` `[B, A]` and `churn_noise` `[N, B, A]`: `[B, A]`.

        Each of the N steps first adds noise, which corrects the errors of earlier steps, then
        removes more noise by Heun's method:
            gamma = min(S_churn / N, sqrt(2) - 1) where S_min <= t <= S_max, else 0,
            t' = (1 + gamma) t,  x' = x + sqrt(t'^2 - t^2) S_noise churn_noise.
        `S_churn = 0` gives algorithm 1. `clip` is as in `denoise`.
        """
        steps = len(churn_noise)
        t = jnp.asarray(self.time_steps(steps), noise.dtype)

        def churn(x: jax.Array, i: jax.Array | int) -> tuple[jax.Array, jax.Array]:
            gamma = jnp.minimum(s_churn / steps, math.sqrt(2) - 1)
            gamma = jnp.where((s_min <= t[i]) & (t[i] <= s_max), gamma, 0.0)
            added = t[i] * jnp.sqrt(gamma * (2 + gamma))  # t'^2 - t^2 would cancel
            return x + added * s_noise * churn_noise[i], (1 + gamma) * t[i]

        def step(x: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
            x, now = churn(x, i)
            return self._heun(network, x, now, t[i + 1], clip), None

        x, _ = jax.lax.scan(step, t[0] * noise, jnp.arange(steps - 1))
        x, now = churn(x, steps - 1)
        return self._last(network, x, now, clip)

    def _heun(
        self, network: Network, x: jax.Array, now: jax.Array, then: jax.Array, clip: float | None
    ) -> jax.Array:
        """Heun's step from noise level `now` to `then > 0`: the mean of the slopes at both."""

        def slope(x: jax.Array, t: jax.Array) -> jax.Array:
            return (x - self.denoise(network, x, jnp.full(len(x), t), clip)) / t

        first = slope(x, now)
        second = slope(x + (then - now) * first, then)
        return x + (then - now) * (first + second) / 2

    def _last(
        self, network: Network, x: jax.Array, now: jax.Array, clip: float | None
    ) -> jax.Array:
        """Euler's step from noise level `now` to 0: `x - t (x - D) / t = D`."""
        return self.denoise(network, x, jnp.full(len(x), now), clip)


@dataclasses.dataclass(frozen=True)
class EDM(Preconditioning):
    """EDM preconditioning (arXiv 2206.00364, Table 1) with log-logistic noise levels.

    `sigma` has a log-logistic distribution with median `sigma_data` and scale `scale`, truncated to
    `[sigma_min, sigma_max]`, as in DTQL's released code. EDM itself draws from a log-normal one.
    """

    clip_in_loss: ClassVar[bool] = True  # as in DTQL's released code

    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    scale: float = 0.5

    def sigma(self, u: jax.Array) -> jax.Array:
        """The quantile `u` in [0, 1) of the truncated distribution, for any shape of `u`.

        It inverts `F(sigma) = sigmoid((ln sigma - ln sigma_data) / scale)` between `F(sigma_min)`
        and `F(sigma_max)`. F and 1 - F are computed separately from `u` and `1 - u`, which keeps
        float32 accurate where F is close to 1.
        """
        low, high = (self._cdf(s) for s in (self.sigma_min, self.sigma_max))
        p = low + (high - low) * u
        one_minus_p = (1.0 - high) + (high - low) * (1.0 - u)
        return self.sigma_data * (p / one_minus_p) ** self.scale

    def _cdf(self, sigma: float) -> float:
        """`F(sigma)` before the truncation."""
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
