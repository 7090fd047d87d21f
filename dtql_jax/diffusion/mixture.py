"""Gaussian mixtures: data whose density and ideal denoiser are known, to measure others against."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class GaussianMixture:
    """`p(a) = sum_k weight_k N(a; mean_k, std_k^2 I)`, and the same under noise.

    A noisy copy is `x = alpha a + sigma noise` with standard normal noise. `alpha` and `sigma` are
    numbers or arrays with the leading axes of `x`.

    Attributes:
        mean: the centres, `[K, A]`.
        std: the deviation of each component, `[K]`.
        weight: the weight of each component, `[K]`; they sum to 1.
    """

    mean: np.ndarray
    std: np.ndarray
    weight: np.ndarray

    def sample(self, u: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Actions `[N, A]` from `u` `[N]` in [0, 1) and standard normal `noise` `[N, A]`."""
        edges = np.cumsum(self.weight)[:-1]
        k = np.searchsorted(edges, u, side='right')
        return self.mean[k] + self.std[k, None] * noise

    def log_density(
        self, x: jax.Array, alpha: jax.Array | float = 1.0, sigma: jax.Array | float = 0.0
    ) -> jax.Array:
        """The log density of the noisy copies at `x` `[..., A]`: `[...]`."""
        return jax.nn.logsumexp(self._log_parts(x, alpha, sigma), axis=-1)

    def denoise(
        self, x: jax.Array, alpha: jax.Array | float, sigma: jax.Array | float
    ) -> jax.Array:
        """The ideal denoiser `E[a | alpha a + sigma noise = x]` at `x` `[..., A]`: `[..., A]`.

        It is the mean, weighted by how likely component k has made `x`, of
        `mean_k + alpha std_k^2 / (alpha^2 std_k^2 + sigma^2) (x - alpha mean_k)`.
        """
        alpha, sigma = (jnp.asarray(v)[..., None] for v in (alpha, sigma))
        share = jax.nn.softmax(self._log_parts(x, alpha[..., 0], sigma[..., 0]), axis=-1)
        gain = alpha * self.std**2 / (alpha**2 * self.std**2 + sigma**2)  # [..., K]
        kept = share * (1 - gain * alpha)
        return kept @ self.mean + (share * gain).sum(-1, keepdims=True) * x

    def _log_parts(
        self, x: jax.Array, alpha: jax.Array | float, sigma: jax.Array | float
    ) -> jax.Array:
        """The log of each component's part in the density at `x`, `[..., K]`."""
        alpha, sigma = (jnp.asarray(v)[..., None] for v in (alpha, sigma))
        variance = alpha**2 * self.std**2 + sigma**2
        distance = ((x[..., None, :] - alpha[..., None] * self.mean) ** 2).sum(-1)
        dims = x.shape[-1]
        scale = jnp.log(2 * jnp.pi * variance) * dims / 2
        return jnp.log(self.weight) - distance / (2 * variance) - scale
