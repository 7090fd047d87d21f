"""The discrete variance-preserving chain of Diffusion-QL and IDQL."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.diffusion.karras import Network


@dataclasses.dataclass(frozen=True)
class DDPM:
    """The discrete variance-preserving schedule of Diffusion-QL (arXiv 2208.06193) and IDQL.

    At step t = 0 .. T-1 of a chain `x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise`. A
    network `(x_t, t)` predicts the noise. The constants `[T]` are computed in float64 and used in
    float32. They follow a continuous schedule whose beta rises from `beta_min` to `beta_max`, so
    the last step is equally noisy for every number of `steps` T.
    """

    steps: int = 5
    beta_min: float = 0.1
    beta_max: float = 10.0

    @property
    def alpha(self) -> np.ndarray:
        """`exp(-beta_min / T - (beta_max - beta_min) (2t + 1) / (2 T^2))`."""
        odd = 2 * np.arange(self.steps) + 1
        slope = (self.beta_max - self.beta_min) / (2 * self.steps**2)
        return np.exp(-self.beta_min / self.steps - slope * odd)

    @property
    def alpha_bar(self) -> np.ndarray:
        """`prod_{i <= t} alpha_i`."""
        return np.cumprod(self.alpha)

    @property
    def alpha_bar_before(self) -> np.ndarray:
        """`alpha_bar_{t-1}`, and 1 for the first step."""
        return np.append(1.0, self.alpha_bar[:-1])

    @property
    def posterior_variance(self) -> np.ndarray:
        """`(1 - alpha_t) (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t)`, 0 for the first step."""
        return (1 - self.alpha) * (1 - self.alpha_bar_before) / (1 - self.alpha_bar)

    @property
    def posterior_mean(self) -> tuple[np.ndarray, np.ndarray]:
        """The weights of `x_0` and of `x_t` in the mean of `x_{t-1}`.

        They are `(1 - alpha_t) sqrt(alpha_bar_{t-1}) / (1 - alpha_bar_t)` and
        `(1 - alpha_bar_{t-1}) sqrt(alpha_t) / (1 - alpha_bar_t)`: 1 and 0 at the first step.
        """
        before, rest = self.alpha_bar_before, 1 - self.alpha_bar
        return (
            (1 - self.alpha) * np.sqrt(before) / rest,
            (1 - before) * np.sqrt(self.alpha) / rest,
        )

    def add_noise(self, x: jax.Array, t: jax.Array, noise: jax.Array) -> jax.Array:
        """`sqrt(alpha_bar_t) x + sqrt(1 - alpha_bar_t) noise` for `x` `[B, A]`, `t` `[B]`."""
        chex.assert_equal_shape([x, noise])
        return _at(np.sqrt(self.alpha_bar), t) * x + _at(np.sqrt(1 - self.alpha_bar), t) * noise

    def predict_x0(self, x: jax.Array, t: jax.Array | int, noise: jax.Array) -> jax.Array:
        """`x / sqrt(alpha_bar_t) - sqrt(1 / alpha_bar_t - 1) noise`: inverts `add_noise`."""
        chex.assert_equal_shape([x, noise])
        return _at(self.alpha_bar**-0.5, t) * x - _at(np.sqrt(1 / self.alpha_bar - 1), t) * noise

    def loss(self, network: Network, x: jax.Array, t: jax.Array, noise: jax.Array) -> jax.Array:
        """`mean (noise - network(add_noise(x, t, noise), t))^2` over batch and action dims."""
        chex.assert_rank([x, t], [2, 1])
        return jnp.mean((noise - network(self.add_noise(x, t, noise), t)) ** 2)

    def sample(self, network: Network, x: jax.Array, noise: jax.Array, clip: float) -> jax.Array:
        """Samples Diffusion-QL's chain from standard normal `x` to actions: `[B, A] -> [B, A]`.

        Each step draws `x_{t-1}` from its posterior given `x_t` and the predicted `x_0`, which is
        clipped to `[-clip, clip]`. Gradients flow through the whole chain.

        Args:
            network: predicts the noise of `(x_t, t)`.
            x: the start of the chain.
            noise: `[T, B, A]`, one row per step in the order of use. The last row has no effect,
                because the posterior at the first step is `x_0` itself.
            clip: the bound of the actions.
        """
        chex.assert_shape(noise, (self.steps, *x.shape))
        x0_weight, x_weight = self.posterior_mean
        std = np.sqrt(self.posterior_variance)
        # Unrolled, because T is small and the compiler then sees every constant.
        for i, t in enumerate(reversed(range(self.steps))):
            x0 = self.predict_x0(x, t, network(x, jnp.full(x.shape[:1], t)))
            mean = _at(x0_weight, t) * jnp.clip(x0, -clip, clip) + _at(x_weight, t) * x
            x = mean + _at(std, t) * noise[i]
        return x

    def sample_ddpm(
        self, network: Network, x: jax.Array, noise: jax.Array, clip: float
    ) -> jax.Array:
        """Samples IDQL's chain from standard normal `x` to actions: `[B, A] -> [B, A]`.

        `x <- (x - (1 - alpha_t) / sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_t) + z`, where z has the
        variance `1 - alpha_t` and is 0 in the last step. Every x is clipped to `[-clip, clip]`;
        the predicted `x_0` is not. The arguments are those of `sample`.
        """
        chex.assert_shape(noise, (self.steps, *x.shape))
        share = (1 - self.alpha) / np.sqrt(1 - self.alpha_bar)
        std = np.sqrt(1 - self.alpha) * (np.arange(self.steps) > 0)
        for i, t in enumerate(reversed(range(self.steps))):
            eps = network(x, jnp.full(x.shape[:1], t))
            mean = (x - _at(share, t) * eps) * _at(self.alpha**-0.5, t)
            x = jnp.clip(mean + _at(std, t) * noise[i], -clip, clip)
        return x


def _at(constants: np.ndarray, t: jax.Array | int) -> jax.Array:
    """The constants `[T]` at step `t`, with an added axis for the action dims."""
    return jnp.asarray(constants, jnp.float32)[t][..., None]
