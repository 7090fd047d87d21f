"""Noise schedules: frozen dataclasses of pure functions, in the vocabulary of Karras et al. (2022).

A schedule says how noise levels are drawn, how a raw network becomes a denoiser, and what the
denoising loss is. Each function receives the noise that it needs; none draws any.

Symbols: D the denoiser, F the raw network, `u` a quantile in [0, 1), `sigma` the deviation of the
noise on an unscaled action. A loss weighs by `1 / c_out(sigma)^2`, which is what the source of
each schedule does: for VP and VE it is `1 / sigma^2`.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np

# A network with the state already bound: (input [B, A], noise level [B]) -> [B, A].
Network = Callable[[jax.Array, jax.Array], jax.Array]


class Preconditioning:
    """`D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)`: a denoiser, its loss and its samplers.

    A subclass has `sigma_min` and `sigma_max`, between which the noise levels of training lie, and
    defines the five functions of sigma. Those take arrays of any shape.
    """

    # Whether the loss of the source clips the denoised action to the box.
    clip_in_loss: ClassVar[bool] = False

    def sigma(self, u: jax.Array) -> jax.Array:
        """The noise level at the quantile `u` in [0, 1) of the law that training draws from."""
        raise NotImplementedError

    def c_skip(self, sigma: jax.Array) -> jax.Array:
        """The share of the noisy input in D."""
        raise NotImplementedError

    def c_out(self, sigma: jax.Array) -> jax.Array:
        """The factor on the network's output."""
        raise NotImplementedError

    def c_in(self, sigma: jax.Array) -> jax.Array:
        """The factor on the network's input."""
        raise NotImplementedError

    def c_noise(self, sigma: jax.Array) -> jax.Array:
        """The noise level as the network sees it."""
        raise NotImplementedError

    def denoise(
        self, network: Network, x: jax.Array, sigma: jax.Array, clip: float | None
    ) -> jax.Array:
        """`D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)` for `x` `[B, A]`, `sigma` `[B]`.

        With `clip` the denoised action is clipped to `[-clip, clip]`. DTQL's released code does so
        on the benchmark tasks, also in the loss (its toy script does not). Only EDM may: where
        c_skip is 1, an untrained D lies outside the box and the clip cuts its gradient.
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

    def time_steps(self, steps: int, rho: float = 7.0) -> np.ndarray:
        """EDM's eq. 5: `steps` noise levels from sigma_max to sigma_min, evenly spaced as
        `sigma^(1/rho)`, and 0 after them: `[steps + 1]`.
        """
        ends = self.sigma_max ** (1 / rho), self.sigma_min ** (1 / rho)
        return np.append(np.linspace(*ends, steps) ** rho, 0.0)

    def sample_heun(
        self, network: Network, noise: jax.Array, steps: int, clip: float | None
    ) -> jax.Array:
        """EDM's algorithm 1 (`sigma(t) = t`) from standard normal `noise` `[B, A]`: `[B, A]`.

        Heun's method on `dx/dt = (x - D(x, t)) / t` from `x = t_0 noise`: second order with
        `2 steps - 1` calls of the network. `clip` as in `denoise`.
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

        Each of the N steps first adds noise, then removes more than that by Heun's method:
            gamma = min(S_churn / N, sqrt(2) - 1) where S_min <= t <= S_max, else 0,
            t' = (1 + gamma) t,  x' = x + sqrt(t'^2 - t^2) S_noise churn_noise.
        Fresh noise corrects the errors of earlier steps. `S_churn = 0` gives algorithm 1.
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
        """From the noise level `now` to `then > 0`: Euler, then the mean of the slopes at both."""

        def slope(x: jax.Array, t: jax.Array) -> jax.Array:
            return (x - self.denoise(network, x, jnp.full(len(x), t), clip)) / t

        first = slope(x, now)
        second = slope(x + (then - now) * first, then)
        return x + (then - now) * (first + second) / 2

    def _last(
        self, network: Network, x: jax.Array, now: jax.Array, clip: float | None
    ) -> jax.Array:
        """Euler's step to noise level 0, where there is no slope: `x - t (x - D) / t = D`."""
        return self.denoise(network, x, jnp.full(len(x), now), clip)


@dataclasses.dataclass(frozen=True)
class EDM(Preconditioning):
    """EDM preconditioning (arXiv 2206.00364, Table 1) with log-logistic noise levels.

    `sigma` follows a log-logistic law with median `sigma_data` and scale 1/2, truncated to
    `[sigma_min, sigma_max]`. This is the density of DTQL's released code; EDM itself uses a
    log-normal one.
    """

    clip_in_loss: ClassVar[bool] = True  # as DTQL's released code does

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


@dataclasses.dataclass(frozen=True)
class VPPreconditioning(Preconditioning):
    """The continuous variance-preserving process (Song et al., arXiv 2011.13456), as a denoiser.

    The column 'VP' of EDM's table 1: t is uniform in [epsilon_t, 1] and
    `sigma(t)^2 = exp(beta_d t^2 / 2 + beta_min t) - 1`. F predicts the noise. The betas are the
    source's, for images, and kept since c_in scales every noisy action to a variance near 1.
    `epsilon_t` is that of SRPO (arXiv 2310.07297), which uses the same process for actions; EDM
    trains from 1e-5 and samples from 1e-3.
    """

    beta_d: float = 19.9
    beta_min: float = 0.1
    epsilon_t: float = 1e-3
    discrete_steps: int = 1000  # EDM's M: the network sees t as a step of a chain of so many

    @property
    def sigma_min(self) -> float:
        """sigma(epsilon_t), 0.0105."""
        return self._level(self.epsilon_t)

    @property
    def sigma_max(self) -> float:
        """sigma(1), 152."""
        return self._level(1.0)

    def _level(self, t: float) -> float:
        return math.sqrt(math.expm1(self.beta_d * t**2 / 2 + self.beta_min * t))

    def sigma(self, u: jax.Array) -> jax.Array:
        """`sigma(t)` at `t = epsilon_t + (1 - epsilon_t) u`."""
        t = self.epsilon_t + (1 - self.epsilon_t) * u
        return jnp.sqrt(jnp.expm1(self.beta_d * t**2 / 2 + self.beta_min * t))

    def time(self, sigma: jax.Array) -> jax.Array:
        """The inverse of `sigma(t)`: `(sqrt(beta_min^2 + 2 beta_d L) - beta_min) / beta_d`.

        `L = ln(1 + sigma^2)`. Written without that difference, which cancels at small sigma.
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
class VEPreconditioning(Preconditioning):
    """The variance-exploding process (Song et al., arXiv 2011.13456), as a denoiser.

    The column 'VE' of EDM's table 1: `ln sigma` is uniform between the ends. F predicts the noise,
    but for its sign. The network sees the noisy action unscaled, so that sigma_max matters.
    """

    sigma_min: float = 0.02
    # Not the source's 100, which is about the largest distance between two images (the rule of
    # arXiv 2006.09011). Actions in [-1, 1]^A are at most 2 sqrt(A) apart: 9.8 for 24 dimensions.
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


SCHEDULES: dict[str, type[Preconditioning]] = {
    'edm': EDM,
    'vp': VPPreconditioning,
    've': VEPreconditioning,
}


@dataclasses.dataclass(frozen=True)
class VP:
    """The discrete variance-preserving schedule of Diffusion-QL (arXiv 2208.06193) and IDQL.

    Step t = 0 .. T-1 of a chain has `x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise`,
    and a network `(x_t, t)` predicts the noise. The constants are `[T]`, computed in float64 and
    used in float32. They follow a continuous schedule whose beta rises from `beta_min` to
    `beta_max`, so that the last step is equally noisy whatever the number of `steps` T.
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
        """`alpha_bar` of the step before, 1 for the first."""
        return np.append(1.0, self.alpha_bar[:-1])

    @property
    def posterior_variance(self) -> np.ndarray:
        """`(1 - alpha_t) (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t)`, 0 for the first step."""
        return (1 - self.alpha) * (1 - self.alpha_bar_before) / (1 - self.alpha_bar)

    @property
    def posterior_mean(self) -> tuple[np.ndarray, np.ndarray]:
        """The weights of `x_0` and of `x_t` in the mean of `x_{t-1}`; 1 and 0 at the first step.

        `(1 - alpha_t) sqrt(alpha_bar_{t-1}) / (1 - alpha_bar_t)` and
        `(1 - alpha_bar_{t-1}) sqrt(alpha_t) / (1 - alpha_bar_t)`.
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
        """`x / sqrt(alpha_bar_t) - sqrt(1 / alpha_bar_t - 1) noise`: `add_noise` undone."""
        chex.assert_equal_shape([x, noise])
        return _at(self.alpha_bar**-0.5, t) * x - _at(np.sqrt(1 / self.alpha_bar - 1), t) * noise

    def loss(self, network: Network, x: jax.Array, t: jax.Array, noise: jax.Array) -> jax.Array:
        """`mean (noise - network(add_noise(x, t, noise), t))^2` over batch and action dims."""
        chex.assert_rank([x, t], [2, 1])
        return jnp.mean((noise - network(self.add_noise(x, t, noise), t)) ** 2)

    def sample(self, network: Network, x: jax.Array, noise: jax.Array, clip: float) -> jax.Array:
        """The chain from `x` `[B, A]`, standard normal, to actions in `[-clip, clip]`: `[B, A]`.

        Each step draws from the posterior of `x_{t-1}` given `x_t` and the predicted `x_0`, which
        is clipped. `noise` `[T, B, A]` is in the order of use; the last has no effect, since the
        first step's posterior is `x_0` itself. Gradients flow through the whole chain.
        """
        chex.assert_shape(noise, (self.steps, *x.shape))
        x0_weight, x_weight = self.posterior_mean
        std = np.sqrt(self.posterior_variance)
        # Unrolled: T is small, and the compiler sees every constant.
        for i, t in enumerate(reversed(range(self.steps))):
            x0 = self.predict_x0(x, t, network(x, jnp.full(x.shape[:1], t)))
            mean = _at(x0_weight, t) * jnp.clip(x0, -clip, clip) + _at(x_weight, t) * x
            x = mean + _at(std, t) * noise[i]
        return x

    def sample_ddpm(
        self, network: Network, x: jax.Array, noise: jax.Array, clip: float
    ) -> jax.Array:
        """The chain of IDQL from `x` `[B, A]` to actions in `[-clip, clip]`: `[B, A]`.

        `x <- (x - (1 - alpha_t) / sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_t)`, then noise of the
        variance `1 - alpha_t`, none in the last step; x itself is clipped at every step, not the
        predicted `x_0`. `noise` is as in `sample`.
        """
        chex.assert_shape(noise, (self.steps, *x.shape))
        share = (1 - self.alpha) / np.sqrt(1 - self.alpha_bar)
        std = np.sqrt(1 - self.alpha) * (np.arange(self.steps) > 0)
        for i, t in enumerate(reversed(range(self.steps))):
            eps = network(x, jnp.full(x.shape[:1], t))
            mean = (x - _at(share, t) * eps) * _at(self.alpha**-0.5, t)
            x = jnp.clip(mean + _at(std, t) * noise[i], -clip, clip)
        return x


@dataclasses.dataclass(frozen=True)
class VPSDE:
    """The continuous variance-preserving process of SRPO (arXiv 2310.07297), with noise networks.

    `x_t = alpha_t x_0 + sigma_t noise` for t in [0, 1], and a network `(x_t, t)` predicts the
    noise. `VPPreconditioning` is the same process, in which a denoiser is learned instead.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def log_alpha(self, t: jax.Array) -> jax.Array:
        """`-(beta_max - beta_min) t^2 / 4 - beta_min t / 2`."""
        return -(self.beta_max - self.beta_min) / 4 * t**2 - self.beta_min / 2 * t

    def alpha(self, t: jax.Array) -> jax.Array:
        """The share of the clean action: `exp(log alpha_t)`."""
        return jnp.exp(self.log_alpha(t))

    def sigma(self, t: jax.Array) -> jax.Array:
        """The deviation of the noise: `sqrt(1 - alpha_t^2)`.

        As `-expm1(2 log alpha_t)`: near t = 0 the difference from 1 would cancel in float32.
        """
        return jnp.sqrt(-jnp.expm1(2 * self.log_alpha(t)))

    def add_noise(self, x: jax.Array, t: jax.Array, noise: jax.Array) -> jax.Array:
        """`alpha_t x + sigma_t noise` for `x` `[B, A]`, `t` `[B]`."""
        chex.assert_equal_shape([x, noise])
        chex.assert_rank([x, t], [2, 1])
        return self.alpha(t)[:, None] * x + self.sigma(t)[:, None] * noise

    def loss(self, network: Network, x: jax.Array, t: jax.Array, noise: jax.Array) -> jax.Array:
        """`mean_b sum_dims (network(add_noise(x, t, noise), t) - noise)^2`."""
        return ((network(self.add_noise(x, t, noise), t) - noise) ** 2).sum(-1).mean()


def _at(constants: np.ndarray, t: jax.Array | int) -> jax.Array:
    """The constants `[T]` at step `t`, an axis added for the action dims."""
    return jnp.asarray(constants, jnp.float32)[t][..., None]
