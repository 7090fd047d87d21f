"""EDM's two samplers with exact denoisers, for all schedules.

The data of an exact denoiser is one Gaussian N(m, s^2) per dimension: D(x, sigma) is
`(s^2 x + sigma^2 m) / (s^2 + sigma^2)`, and the flow from x at sigma_max ends, where sigma is 0, at
`m + (x - m) s / sqrt(s^2 + sigma_max^2)`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.diffusion import EDM, SCHEDULES, VE, VP

pytestmark = pytest.mark.usefixtures('quick_compile')

all_schedules = pytest.mark.parametrize('name', SCHEDULES)
M, S = 0.3, 0.2


def exact(schedule):
    """The raw network whose denoiser is exact for N(M, S^2), from its own inputs alone."""
    to_sigma = {
        EDM: lambda c: jnp.exp(4 * c),
        VP: lambda c: jnp.sqrt(jnp.expm1(19.9 * (c / 999) ** 2 / 2 + 0.1 * c / 999)),
        VE: lambda c: 2 * jnp.exp(c),
    }[type(schedule)]

    def network(y, c):
        sigma = to_sigma(c)[:, None]
        x = y / schedule.c_in(sigma)
        denoised = (S**2 * x + sigma**2 * M) / (S**2 + sigma**2)
        return (denoised - schedule.c_skip(sigma) * x) / schedule.c_out(sigma)

    return network


def test_time_steps__are_those_of_the_paper():
    """By hand for three: the middle is ((80^(1/7) + 0.002^(1/7)) / 2)^7 = 2.5152."""
    np.testing.assert_allclose(EDM().time_steps(3), [80, 2.5152, 0.002, 0], rtol=1e-4)
    np.testing.assert_allclose(EDM().time_steps(3, rho=1.0), [80, 40.001, 0.002, 0], rtol=1e-6)
    np.testing.assert_allclose(EDM().time_steps(1), [80, 0])


@all_schedules
def test_samplers__reproduce_mean_and_deviation_of_a_gaussian(name):
    schedule, n, steps = SCHEDULES[name](), 20_000, 64
    rng = np.random.default_rng(0)
    noise = jnp.float32(rng.normal(size=(n, 1)))
    churn_noise = jnp.float32(rng.normal(size=(steps, n, 1)))
    network = exact(schedule)
    heun = jax.jit(lambda x: schedule.sample_heun(network, x, steps, None))(noise)
    stochastic = jax.jit(
        lambda x, e: schedule.sample_stochastic(network, x, e, 10.0, 0.05, 50.0, 1.0, None)
    )(noise, churn_noise)
    # VE and VP stop at 0.02 and 0.01, VE starts at 10: part of the law is cut off.
    for sample in (heun, stochastic):
        assert sample.shape == (n, 1)
        assert sample.mean() == pytest.approx(M, abs=0.01)
        assert sample.std() == pytest.approx(S, rel=0.03)
    assert np.corrcoef(heun[:, 0], noise[:, 0])[0, 1] > 0.999
    assert np.corrcoef(stochastic[:, 0], noise[:, 0])[0, 1] < 0.9


@functools.cache
def errors(steps):
    """Of Heun's sampler, against the exact end of the flow, in float64."""
    edm = EDM(sigma_min=1e-4)  # so that the last step, which is Euler's, does not show
    with jax.enable_x64(True):
        noise = jnp.linspace(-2, 2, 9)[:, None]
        x = jax.jit(lambda noise: edm.sample_heun(exact(edm), noise, steps, None))(noise)
        end = M + (edm.sigma_max * noise - M) * S / np.sqrt(S**2 + edm.sigma_max**2)
        return np.abs(np.asarray(x - end)).max()


def test_sample_heun__is_of_second_order():
    """Twice the steps, a quarter of the error; Euler's method would halve it."""
    ratios = [errors(n) / errors(2 * n) for n in (32, 64, 128)]
    assert ratios == pytest.approx([4.4, 4.2, 4.1], abs=0.2)


def test_samplers__by_hand_in_two_steps():
    """The paper's algorithms written out for N = 2 in numpy, with an arbitrary network."""
    edm = EDM(sigma_min=0.5, sigma_max=2.0)
    noise, churn = jnp.array([[0.4, -1.2]]), jnp.array([[[0.3, 0.1]], [[-0.5, 0.7]]])

    def network(y, c):
        return jnp.tanh(y + c[:, None])

    def denoiser(x, t):
        raw = np.tanh(x / np.sqrt(t**2 + 0.25) + np.log(t) / 4)
        return (0.25 * x + 0.5 * t * np.sqrt(t**2 + 0.25) * raw) / (t**2 + 0.25)

    def by_hand(gamma, s_noise):
        x = 2.0 * np.asarray(noise, np.float64)
        for now, then, g, e in zip((2.0, 0.5), (0.5, 0.0), gamma, np.asarray(churn), strict=True):
            t = (1 + g) * now
            x = x + np.sqrt(t**2 - now**2) * s_noise * e
            d = (x - denoiser(x, t)) / t
            euler = x + (then - t) * d
            if then == 0:
                return euler
            x = x + (then - t) * (d + (euler - denoiser(euler, then)) / then) / 2

    heun = edm.sample_heun(network, noise, 2, None)
    np.testing.assert_allclose(heun, by_hand((0, 0), 1.0), rtol=1e-5)

    def stochastic(s_churn, s_min, s_max):
        return edm.sample_stochastic(network, noise, churn, s_churn, s_min, s_max, 1.1, None)

    largest = np.sqrt(2) - 1
    for arguments, gamma in {
        (0.0, 0.0, 9.0): (0, 0),
        (0.4, 0.0, 9.0): (0.2, 0.2),
        (9.0, 0.0, 9.0): (largest, largest),  # never more than twice the variance
        (0.4, 1.0, 9.0): (0.2, 0),
        (0.4, 0.0, 1.0): (0, 0.2),
    }.items():
        np.testing.assert_allclose(stochastic(*arguments), by_hand(gamma, 1.1), rtol=1e-5)


def test_sample_heun__of_one_step_is_the_denoiser_at_the_highest_noise():
    noise = jnp.array([[0.4, -1.2]])
    edm = EDM()
    network = exact(edm)
    expected = edm.denoise(network, 80 * noise, jnp.array([80.0]), None)
    np.testing.assert_allclose(edm.sample_heun(network, noise, 1, None), expected, rtol=1e-6)


@all_schedules
def test_samplers__stay_in_the_clip_and_have_finite_gradients(name):
    schedule = SCHEDULES[name]()
    noise = jax.random.normal(jax.random.key(0), (64, 2))
    churn_noise = jax.random.normal(jax.random.key(1), (4, 64, 2))

    def both(weight):
        network = lambda y, c: jnp.tanh(weight * y)  # noqa: E731
        heun = schedule.sample_heun(network, noise, 4, 0.5)
        churned = schedule.sample_stochastic(network, noise, churn_noise, 1.0, 0.0, 1.0, 1.0, 0.5)
        return jnp.stack([heun, churned])

    def total(weight):
        samples = both(weight)
        return samples.sum(), jnp.abs(samples).max()

    gradient, largest = jax.jit(jax.grad(total, has_aux=True))(1.0)
    assert largest <= 0.5
    assert jnp.isfinite(gradient)
