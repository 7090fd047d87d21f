"""The variance-preserving and variance-exploding processes of Song et al. (arXiv 2011.13456)."""

import dataclasses
import math

import chex
import jax
import jax.numpy as jnp

from dtql_jax.diffusion.karras import Network, Preconditioning


@dataclasses.dataclass(frozen=True)
class VP(Preconditioning):
    """The continuous variance-preserving process (Song et al., arXiv 2011.13456), as a denoiser.

    It is the column 'VP' of EDM's table 1: t is uniform in [epsilon_t, 1] and
    `sigma(t)^2 = exp(beta_d t^2 / 2 + beta_min t) - 1`. F predicts the noise. The source chose the
    betas for images; they fit actions too, because c_in scales every noisy action to a variance
    near 1. `epsilon_t` is that of SRPO (arXiv 2310.07297), which uses this process for actions; EDM
    trains from 1e-5 and samples from 1e-3.
    """

    beta_d: float = 19.9
    beta_min: float = 0.1
    epsilon_t: float = 1e-3
    discrete_steps: int = 1000  # EDM's M: the network receives t as a step of a chain of M steps

    @property
    def sigma_min(self) -> float:
        """`sigma(epsilon_t)`, 0.0105."""
        return self._level(self.epsilon_t)

    @property
    def sigma_max(self) -> float:
        """`sigma(1)`, 152."""
        return self._level(1.0)

    def _level(self, t: float) -> float:
        """`sigma(t)` in float64."""
        return math.sqrt(math.expm1(self.beta_d * t**2 / 2 + self.beta_min * t))

    def sigma(self, u: jax.Array) -> jax.Array:
        """`sigma(t)` at `t = epsilon_t + (1 - epsilon_t) u`."""
        t = self.epsilon_t + (1 - self.epsilon_t) * u
        return jnp.sqrt(jnp.expm1(self.beta_d * t**2 / 2 + self.beta_min * t))

    def time(self, sigma: jax.Array) -> jax.Array:
        """The inverse of `sigma(t)`: `(sqrt(beta_min^2 + 2 beta_d L) - beta_min) / beta_d`.

        `L = ln(1 + sigma^2)`. The code avoids the difference, which cancels at small sigma.
        """
        level = jnp.log1p(sigma**2)
        root = jnp.sqrt(self.beta_min**2 + 2 * self.beta_d * level)
        return 2 * level / (root + self.beta_min)

    def c_skip(self, sigma: jax.Array) -> jax.Array:
        """1."""
        return jnp.ones_like(sigma)

    def c_out(self, sigma: jax.Array) -> jax.Array:
        """`-sigma`."""
        return -sigma

    def c_in(self, sigma: jax.Array) -> jax.Array:
        """`1 / sqrt(sigma^2 + 1)`."""
        return jax.lax.rsqrt(sigma**2 + 1.0)

    def c_noise(self, sigma: jax.Array) -> jax.Array:
        """`(M - 1) t(sigma)`."""
        return (self.discrete_steps - 1) * self.time(sigma)


@dataclasses.dataclass(frozen=True)
class VE(Preconditioning):
    """The variance-exploding process (Song et al., arXiv 2011.13456), as a denoiser.

    It is the column 'VE' of EDM's table 1: `ln sigma` is uniform between the bounds. F predicts the
    negative noise. The network receives the noisy action unscaled, so sigma_max matters.
    """

    sigma_min: float = 0.02
    # The rule of arXiv 2006.09011: the largest distance between two data. It is about 100 for the
    # source's images. Actions in [-1, 1]^A are at most 2 sqrt(A) apart: 9.8 for 24 dimensions.
    sigma_max: float = 10.0

    def sigma(self, u: jax.Array) -> jax.Array:
        """`sigma_min (sigma_max / sigma_min)^u`."""
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** u

    def c_skip(self, sigma: jax.Array) -> jax.Array:
        """1."""
        return jnp.ones_like(sigma)

    def c_out(self, sigma: jax.Array) -> jax.Array:
        """`sigma`."""
        return sigma

    def c_in(self, sigma: jax.Array) -> jax.Array:
        """1."""
        return jnp.ones_like(sigma)

    def c_noise(self, sigma: jax.Array) -> jax.Array:
        """`ln(sigma / 2)`."""
        return jnp.log(sigma / 2.0)


@dataclasses.dataclass(frozen=True)
class VPSDE:
    """The continuous variance-preserving process of SRPO (arXiv 2310.07297), with noise networks.

    `x_t = alpha_t x_0 + sigma_t noise` for t in [0, 1], and a network `(x_t, t)` predicts the
    noise. `VP` is the same process, but its network is part of a denoiser.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def log_alpha(self, t: jax.Array) -> jax.Array:
        """`-(beta_max - beta_min) t^2 / 4 - beta_min t / 2`."""
        return -(self.beta_max - self.beta_min) / 4 * t**2 - self.beta_min / 2 * t

    def alpha(self, t: jax.Array) -> jax.Array:
        """`exp(log_alpha(t))`, the factor of the clean action."""
        return jnp.exp(self.log_alpha(t))

    def sigma(self, t: jax.Array) -> jax.Array:
        """`sqrt(1 - alpha_t^2)`, the deviation of the noise.

        `1 - alpha_t^2` is computed as `-expm1(2 log alpha_t)`, which does not cancel near t = 0.
        """
        return jnp.sqrt(-jnp.expm1(2 * self.log_alpha(t)))

    def add_noise(self, x: jax.Array, t: jax.Array, noise: jax.Array) -> jax.Array:
        """`alpha_t x + sigma_t noise` for `x` `[B, A]`, `t` `[B]`."""
        chex.assert_equal_shape([x, noise])
        chex.assert_rank([x, t], [2, 1])
        return self.alpha(t)[:, None] * x + self.sigma(t)[:, None] * noise

    def noise_of(self, denoise: Network, x: jax.Array, t: jax.Array) -> jax.Array:
        """`(x - alpha_t D) / sigma_t`: the noise that a denoiser finds in `x` `[B, A]`, `t` `[B]`.

        `D = denoise(x / alpha_t, sigma_t / alpha_t)`: the denoiser knows actions that noise did not
        scale, as those of `Preconditioning` do.
        """
        alpha, sigma = self.alpha(t), self.sigma(t)
        denoised = denoise(x / alpha[:, None], sigma / alpha)
        return (x - alpha[:, None] * denoised) / sigma[:, None]

    def loss(self, network: Network, x: jax.Array, t: jax.Array, noise: jax.Array) -> jax.Array:
        """`mean_b sum_dims (network(add_noise(x, t, noise), t) - noise)^2`."""
        return ((network(self.add_noise(x, t, noise), t) - noise) ** 2).sum(-1).mean()
