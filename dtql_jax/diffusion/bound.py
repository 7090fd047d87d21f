"""Denoising losses as bounds on -log p: the weight of each noise level, beside that of the ELBO.

Symbols: `e(sigma) = E |D(a + sigma noise) - a|^2` the squared error of an action summed over its A
dimensions, `p(ln sigma)` the density of noise levels in training, `tau` a noise level from which on
levels count. With the ideal denoiser, and p_tau the density of noisy copies of the data,

    integral_tau e(sigma) / sigma^2 d ln sigma = E -ln p_tau(a + tau noise) - A/2 ln(2 pi e tau^2)

up to the KL divergence of the copies of `a` from those of the data at the largest level, which is
small. So the loss is a bound where the weight of `e / sigma^2` never falls in sigma (Kingma and
Gao, arXiv 2303.00848): a weight that rises by `mass(tau)` at tau is a mean over such integrals.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.diffusion.karras import Preconditioning


def level_density(schedule: Preconditioning, sigma: np.ndarray) -> np.ndarray:
    """The density of `ln sigma` in training: 1 over the slope of `ln sigma(u)`, in float64."""
    with jax.enable_x64(True):
        low, high = jnp.zeros(len(sigma)), jnp.ones(len(sigma))
        for _ in range(60):  # halves the interval around u
            middle = (low + high) / 2
            below = schedule.sigma(middle) < sigma
            low, high = jnp.where(below, middle, low), jnp.where(below, high, middle)
        slope = jax.vmap(jax.grad(lambda u: jnp.log(schedule.sigma(u))))(low)
        return np.asarray(1 / slope)


class Levels:
    """The noise levels of a schedule as J cells of even width in `ln sigma`.

    Attributes:
        dims: the dimensions of actions, A.
        edge: the ends of the cells, `[J + 1]`.
        sigma: the levels, `[J]`.
        weights: the weight of `e / sigma^2` at each level `[J]`, 'released' and 'elbo'; at most 1.
        unit: one unit of the released loss in nats.
    """

    def __init__(self, schedule: Preconditioning, count: int, dims: int):
        self.dims = dims
        self.edge = np.geomspace(schedule.sigma_min, schedule.sigma_max, count + 1)
        self.sigma = np.sqrt(self.edge[1:] * self.edge[:-1])
        with jax.enable_x64(True):
            c_out = np.asarray(schedule.c_out(jnp.asarray(self.sigma)))
        # The released loss is the mean over dims of the error, times p(ln sigma) / c_out^2.
        released = level_density(schedule, self.sigma) * (self.sigma / c_out) ** 2
        self.weights = {'released': released / released.max(), 'elbo': np.ones(count)}
        self.unit = dims / released.max()

    def mass(self, weight: str) -> np.ndarray:
        """How much the weight rises at each edge but the last, `[J]`."""
        return np.diff(self.weights[weight], prepend=0.0)

    def falls_by(self, weight: str) -> float:
        """How much the weight falls in all; 0 where it gives a bound."""
        return float(-np.minimum(self.mass(weight), 0).sum())

    def loss(self, errors: np.ndarray, weight: str) -> np.ndarray:
        """The loss in nats `[N]` of the errors e `[N, J]`."""
        width = np.log(self.edge[1] / self.edge[0])
        return errors @ (self.weights[weight] * width / self.sigma**2)

    def constant(self, weight: str, prior: float) -> float:
        """What makes the loss a bound: `sum mass A/2 ln(2 pi e tau^2)`, and the largest level's KL.

        Args:
            weight: 'released' or 'elbo'.
            prior: that KL divergence, or its largest value over actions.
        """
        entropy = self.dims / 2 * np.log(2 * np.pi * np.e * self.edge[:-1] ** 2)
        return float(self.mass(weight) @ entropy + self.weights[weight][-1] * prior)
