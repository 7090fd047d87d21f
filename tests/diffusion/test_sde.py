"""The schedules besides EDM's by hand, and EDM's two samplers with exact denoisers.

The data of an exact denoiser is one Gaussian N(m, s^2) per dimension: D(x, sigma) is
`(s^2 x + sigma^2 m) / (s^2 + sigma^2)`, and the flow from x at sigma_max ends, where sigma is 0, at
`m + (x - m) s / sqrt(s^2 + sigma_max^2)`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.diffusion import SCHEDULES
from dtql_jax.diffusion import VE, VP
from dtql_jax.diffusion.karras import EDM
from tests.helpers.finite_differences import assert_gradients

pytestmark = pytest.mark.usefixtures('quick_compile')

vp, ve = VP(), VE()
all_schedules = pytest.mark.parametrize('name', SCHEDULES)


def level(t):
    """VP's sigma(t), in float64."""
    return np.sqrt(np.expm1(19.9 * t**2 / 2 + 0.1 * t))


# Scalings and noise levels.


def test_scalings_of_vp_by_hand():
    """At sigma = 1: L = ln 2, t = (sqrt(0.01 + 39.8 ln 2) - 0.1) / 19.9 = 0.258960."""
    sigma = jnp.float32(1.0)
    assert vp.c_skip(sigma) == 1
    assert vp.c_out(sigma) == -1
    assert vp.c_in(sigma) == pytest.approx(np.sqrt(0.5))
    assert vp.c_noise(sigma) == pytest.approx(999 * 0.258960, rel=1e-5)


def test_scalings_of_ve_by_hand():
    sigma = jnp.float32(3.0)
    assert ve.c_skip(sigma) == 1
    assert ve.c_out(sigma) == 3
    assert ve.c_in(sigma) == 1
    assert ve.c_noise(sigma) == pytest.approx(np.log(1.5))


def test_noise_levels_of_vp():
    u = np.linspace(0, 1, 1001)[:-1]
    expected = level(1e-3 + 0.999 * u)
    np.testing.assert_allclose(vp.sigma(jnp.float32(u)), expected, rtol=1e-5)
    assert vp.sigma_min == pytest.approx(0.010486, rel=1e-4)
    assert vp.sigma_max == pytest.approx(152.167, rel=1e-5)


def test_the_time_of_vp_inverts_its_noise_level_in_float32():
    t = np.linspace(1e-3, 1, 1000)
    np.testing.assert_allclose(vp.time(jnp.float32(level(t))), t, rtol=2e-6)


def test_noise_levels_of_ve_are_uniform_in_their_logarithm():
    sigma = ve.sigma(jnp.array([0.0, 0.25, 0.5, 1.0]))
    np.testing.assert_allclose(sigma, [0.02, 0.02 * 500**0.25, 0.02 * 500**0.5, 10.0], rtol=1e-5)


@all_schedules
def test_quantiles_of_drawn_noise_levels(name):
    """Of ln sigma, from the law as the source states it; four deviations of the share below."""
    schedule, n = SCHEDULES[name](), 100_000
    sigma = np.asarray(schedule.sigma(jax.random.uniform(jax.random.key(0), (n,))))
    assert sigma.min() >= schedule.sigma_min * (1 - 1e-4)
    assert sigma.max() <= schedule.sigma_max * (1 + 1e-4)
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        quantile = {
            'edm': 0.5 * np.sqrt(share / (1 - share)),
            'vp': level(1e-3 + 0.999 * share),
            've': np.exp(np.log(0.02) + share * np.log(500)),
        }[name]
        below = (np.log(sigma) < np.log(quantile)).mean()
        assert below == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / n) + 3e-5)


@all_schedules
def test_without_noise_the_input_is_the_answer(name):
    """D(x, sigma) -> x as sigma -> 0, whatever the network says."""
    schedule, x = SCHEDULES[name](), jnp.array([[0.3, -0.7]])
    for sigma in (1e-3, 1e-5):
        denoised = schedule.denoise(lambda y, c: jnp.ones_like(y), x, jnp.array([sigma]), None)
        np.testing.assert_allclose(denoised, x, atol=1.01 * sigma)
    assert jnp.isfinite(schedule.c_noise(jnp.float32(1e-5)))


@all_schedules
def test_inputs_have_unit_variance_but_for_ve(name):
    sigma = jnp.geomspace(0.02, 10, 7)
    data = {'edm': 0.5, 'vp': 1.0, 've': np.nan}[name]
    variance = SCHEDULES[name]().c_in(sigma) ** 2 * (sigma**2 + data**2)
    np.testing.assert_allclose(variance, 1 if name != 've' else np.nan, rtol=1e-5)


# The loss.


@pytest.mark.parametrize(('name', 'sign'), [('vp', -1), ('ve', 1)])
def test_the_loss_is_the_error_of_a_noise_prediction(name, sign):
    """With c_skip = 1 and no clip: ((x + sigma n + c_out F - x) / c_out)^2 = (F + n / sign)^2."""
    rng = np.random.default_rng(0)
    x, noise, raw = rng.normal(size=(3, 6, 2))
    sigma = jnp.float32(np.geomspace(0.05, 5, 6))
    loss = SCHEDULES[name]().loss(lambda y, c: jnp.float32(raw), x, sigma, noise, clip=None)
    assert loss == pytest.approx(np.mean((raw + sign * noise) ** 2), rel=1e-4)


@pytest.mark.parametrize(
    ('name', 'clip', 'expected'),
    [('vp', None, 1.6), ('vp', 1.0, 1.28), ('ve', None, 34.0), ('ve', 1.0, 8 / 9)],
)
def test_the_loss_by_hand(name, clip, expected):
    """At sigma = 0.75 with F the network's input, x = (1, -2): x1 = x + sigma noise = (4, -2).

    VP: F = 0.8 x1, D = x1 - 0.75 F = (1.6, -0.8), clipped (1, -0.8).
    VE: F = x1, D = x1 + 0.75 F = (7, -3.5), clipped (1, -1).
    """
    x, noise = jnp.array([[1.0, -2.0]]), jnp.array([[4.0, 0.0]])
    loss = SCHEDULES[name]().loss(lambda y, c: y, x, jnp.array([0.75]), noise, clip)
    assert loss == pytest.approx(expected, rel=1e-6)


@all_schedules
@pytest.mark.parametrize('clip', [None, 1.0])
def test_gradients_are_those_of_finite_differences_in_float64(name, clip):
    """For the network's weights, and for x through all three places where it enters."""
    schedule = SCHEDULES[name]()
    rng = np.random.default_rng(0)
    x, noise = rng.uniform(-1, 1, (5, 2)), rng.normal(size=(5, 2))
    sigma, weight = np.array([0.05, 0.3, 0.5, 1.0, 6.0]), rng.normal(size=(2, 2))
    largest = {'edm': 1, 'vp': 999, 've': 1}[name]  # so that the tanh is not flat

    def bound(weight):
        return lambda y, c: jnp.tanh(y @ weight + c[:, None] / largest)

    if clip:
        free = schedule.denoise(bound(weight), x + sigma[:, None] * noise, sigma, None)
        distance = np.abs(free) - clip
        assert (distance > 0).any()  # the clip is at work
        assert (distance < 0).any()
        assert np.abs(distance).min() > 1e-3  # and none of them is at its kink
    assert_gradients(lambda w, x: schedule.loss(bound(w), x, sigma, noise, clip), weight, x)


@all_schedules
def test_a_loss_that_clips_still_teaches_an_untrained_network(name):
    """Why only EDM's may: at high noise the others' D starts outside the box, the gradient is 0."""
    schedule = SCHEDULES[name]()
    x, noise = jnp.zeros((4, 2)), jnp.array([[1.0, -1.0], [2.0, 1.0], [-1.0, 0.5], [-0.5, -2.0]])

    def gradient(clip):
        return jax.grad(
            lambda f: schedule.loss(lambda y, c: f * y, x, jnp.full(4, 8.0), noise, clip)
        )(0.01)

    assert gradient(None) != 0
    assert (gradient(1.0) != 0) == schedule.clip_in_loss


# The samplers.

M, S = 0.3, 0.2


def exact(schedule):
    """The raw network whose denoiser is exact for N(M, S^2), from what it sees alone."""
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


def test_time_steps_are_those_of_the_paper():
    """By hand for three: the middle is ((80^(1/7) + 0.002^(1/7)) / 2)^7 = 2.5152."""
    np.testing.assert_allclose(EDM().time_steps(3), [80, 2.5152, 0.002, 0], rtol=1e-4)
    np.testing.assert_allclose(EDM().time_steps(3, rho=1.0), [80, 40.001, 0.002, 0], rtol=1e-6)
    np.testing.assert_allclose(EDM().time_steps(1), [80, 0])


@all_schedules
def test_both_samplers_reproduce_mean_and_deviation_of_a_gaussian(name):
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


def test_heun_is_of_second_order():
    """Twice the steps, a quarter of the error; Euler's method would halve it."""
    ratios = [errors(n) / errors(2 * n) for n in (32, 64, 128)]
    assert ratios == pytest.approx([4.4, 4.2, 4.1], abs=0.2)


def test_the_samplers_by_hand_in_two_steps():
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


def test_one_step_is_the_denoiser_at_the_highest_noise():
    noise = jnp.array([[0.4, -1.2]])
    edm = EDM()
    network = exact(edm)
    expected = edm.denoise(network, 80 * noise, jnp.array([80.0]), None)
    np.testing.assert_allclose(edm.sample_heun(network, noise, 1, None), expected, rtol=1e-6)


@all_schedules
def test_samples_lie_in_the_clip_and_have_finite_gradients(name):
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
