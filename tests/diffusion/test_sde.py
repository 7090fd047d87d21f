"""VP, VE and SRPO's process by hand, and the properties that all schedules share, EDM's too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.diffusion import SCHEDULES, VE, VP, VPSDE
from tests.helpers.finite_differences import assert_gradients

pytestmark = pytest.mark.usefixtures('quick_compile')

vp, ve, sde = VP(), VE(), VPSDE()
all_schedules = pytest.mark.parametrize('name', SCHEDULES)


def level(t):
    """VP's sigma(t), in float64."""
    return np.sqrt(np.expm1(19.9 * t**2 / 2 + 0.1 * t))


# Scalings and noise levels.


def test_VP__scalings_by_hand():
    """At sigma = 1: L = ln 2, t = (sqrt(0.01 + 39.8 ln 2) - 0.1) / 19.9 = 0.258960."""
    sigma = jnp.float32(1.0)
    assert vp.c_skip(sigma) == 1
    assert vp.c_out(sigma) == -1
    assert vp.c_in(sigma) == pytest.approx(np.sqrt(0.5))
    assert vp.c_noise(sigma) == pytest.approx(999 * 0.258960, rel=1e-5)


def test_VE__scalings_by_hand():
    sigma = jnp.float32(3.0)
    assert ve.c_skip(sigma) == 1
    assert ve.c_out(sigma) == 3
    assert ve.c_in(sigma) == 1
    assert ve.c_noise(sigma) == pytest.approx(np.log(1.5))


def test_VP__noise_levels():
    u = np.linspace(0, 1, 1001)[:-1]
    expected = level(1e-3 + 0.999 * u)
    np.testing.assert_allclose(vp.sigma(jnp.float32(u)), expected, rtol=1e-5)
    assert vp.sigma_min == pytest.approx(0.010486, rel=1e-4)
    assert vp.sigma_max == pytest.approx(152.167, rel=1e-5)


def test_VP__time_inverts_the_noise_level_in_float32():
    t = np.linspace(1e-3, 1, 1000)
    np.testing.assert_allclose(vp.time(jnp.float32(level(t))), t, rtol=2e-6)


def test_VE__noise_levels_are_uniform_in_their_logarithm():
    sigma = ve.sigma(jnp.array([0.0, 0.25, 0.5, 1.0]))
    np.testing.assert_allclose(sigma, [0.02, 0.02 * 500**0.25, 0.02 * 500**0.5, 10.0], rtol=1e-5)


@all_schedules
def test_sigma__quantiles_of_drawn_noise_levels(name):
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
def test_denoise__without_noise_the_input_is_the_answer(name):
    """D(x, sigma) -> x as sigma -> 0, whatever the network says."""
    schedule, x = SCHEDULES[name](), jnp.array([[0.3, -0.7]])
    for sigma in (1e-3, 1e-5):
        denoised = schedule.denoise(lambda y, c: jnp.ones_like(y), x, jnp.array([sigma]), None)
        np.testing.assert_allclose(denoised, x, atol=1.01 * sigma)
    assert jnp.isfinite(schedule.c_noise(jnp.float32(1e-5)))


@all_schedules
def test_c_in__gives_inputs_unit_variance_except_for_ve(name):
    sigma = jnp.geomspace(0.02, 10, 7)
    data = {'edm': 0.5, 'vp': 1.0, 've': np.nan}[name]
    variance = SCHEDULES[name]().c_in(sigma) ** 2 * (sigma**2 + data**2)
    np.testing.assert_allclose(variance, 1 if name != 've' else np.nan, rtol=1e-5)


# The loss.


@pytest.mark.parametrize(('name', 'sign'), [('vp', -1), ('ve', 1)])
def test_loss__of_vp_and_ve_is_the_error_of_a_noise_prediction(name, sign):
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
def test_loss__of_vp_and_ve_by_hand(name, clip, expected):
    """At sigma = 0.75 with F the network's input, x = (1, -2): x1 = x + sigma noise = (4, -2).

    VP: F = 0.8 x1, D = x1 - 0.75 F = (1.6, -0.8), clipped (1, -0.8).
    VE: F = x1, D = x1 + 0.75 F = (7, -3.5), clipped (1, -1).
    """
    x, noise = jnp.array([[1.0, -2.0]]), jnp.array([[4.0, 0.0]])
    loss = SCHEDULES[name]().loss(lambda y, c: y, x, jnp.array([0.75]), noise, clip)
    assert loss == pytest.approx(expected, rel=1e-6)


@all_schedules
@pytest.mark.parametrize('clip', [None, 1.0])
def test_loss__gradients_are_those_of_finite_differences_in_float64(name, clip):
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
def test_clip_in_loss__still_teaches_an_untrained_network(name):
    """Why only EDM's may: at high noise the others' D starts outside the box, the gradient is 0."""
    schedule = SCHEDULES[name]()
    x, noise = jnp.zeros((4, 2)), jnp.array([[1.0, -1.0], [2.0, 1.0], [-1.0, 0.5], [-0.5, -2.0]])

    def gradient(clip):
        return jax.grad(
            lambda f: schedule.loss(lambda y, c: f * y, x, jnp.full(4, 8.0), noise, clip)
        )(0.01)

    assert gradient(None) != 0
    assert (gradient(1.0) != 0) == schedule.clip_in_loss


# The process of SRPO.


def test_VPSDE__starts_clean_and_ends_as_noise():
    """By hand: ln alpha_1 = -(19.9 / 4 + 0.1 / 2) = -5.025, ln alpha_{1/2} = -1.26875."""
    t = jnp.array([0.0, 0.5, 1.0])
    np.testing.assert_allclose(sde.log_alpha(t), [0, -1.26875, -5.025], rtol=1e-6)
    np.testing.assert_allclose(sde.alpha(t), np.exp([0, -1.26875, -5.025]), rtol=1e-6)
    np.testing.assert_allclose(sde.sigma(t), [0, 0.959654, 0.99997837], rtol=1e-6)


def test_VPSDE__preserves_variance():
    t = jnp.linspace(0.0, 1.0, 101)
    np.testing.assert_allclose(sde.alpha(t) ** 2 + sde.sigma(t) ** 2, 1, rtol=1e-6)


def test_VPSDE__deviation_is_accurate_in_float32_near_its_start():
    """1 - alpha^2 in float32 is wrong by 0.01 % at t = 0.001, where training starts."""
    t = np.array([1e-7, 1e-5, 1e-3, 0.02, 0.3])
    exact = np.sqrt(-np.expm1(2 * (-19.9 / 4 * t**2 - 0.1 / 2 * t)))
    assert exact[2] == pytest.approx(0.0104854, rel=1e-5)
    np.testing.assert_allclose(sde.sigma(jnp.float32(t)), exact, rtol=5e-7)


def test_VPSDE__adds_noise_and_sums_its_loss_over_dimensions():
    """Where alpha_t = 0.6, sigma_t = 0.8: 9.95 t^2 / 2 + t / 20 = ln(1 / 0.6)."""
    root = (-0.05 + np.sqrt(0.05**2 + 4 * 4.975 * np.log(1 / 0.6))) / (2 * 4.975)
    x, noise = jnp.array([[1.0, -2.0], [0.0, 0.5]]), jnp.array([[0.5, 1.0], [-1.0, 2.0]])
    t = jnp.array([root, 0.0])
    noisy = sde.add_noise(x, t, noise)
    np.testing.assert_allclose(noisy, [[1.0, -0.4], [0.0, 0.5]], atol=1e-6)
    seen = {}

    def network(x, t):
        seen.update(x=x, t=t)
        return jnp.zeros_like(x)

    # The squares of the noise: (0.25 + 1) and (1 + 4), in the mean of the batch.
    assert sde.loss(network, x, t, noise) == pytest.approx(3.125)
    np.testing.assert_array_equal(seen['x'], noisy)
    np.testing.assert_array_equal(seen['t'], t)
    # A network that returns its input errs by (0.5, -1.4) and (1, -1.5).
    loss = sde.loss(lambda x, t: x, x, t, noise)
    assert loss == pytest.approx((0.25 + 1.96 + 1 + 2.25) / 2, rel=1e-6)


def test_VPSDE__gradients_of_the_loss_are_those_of_finite_differences():
    """For the network's weights, for x, and for t, on which both shares and the network depend."""
    rng = np.random.default_rng(0)
    x, noise, weight = rng.uniform(-1, 1, (5, 2)), rng.normal(size=(5, 2)), rng.normal(size=(2, 2))

    def loss(weight, x, t):
        return sde.loss(lambda x, t: jnp.tanh(x @ weight + t[:, None]), x, t, noise)

    assert_gradients(loss, weight, x, [0.02, 0.1, 0.3, 0.6, 0.98])


def test_VPSDE__refuses_shapes_that_would_broadcast():
    with pytest.raises(AssertionError):
        sde.add_noise(jnp.ones((4, 2)), jnp.ones((4, 1)), jnp.ones((4, 2)))
    with pytest.raises(AssertionError):
        sde.add_noise(jnp.ones((4, 2)), jnp.ones(4), jnp.ones((4, 1)))


def test_VPSDE__noise_of_a_perfect_denoiser_is_the_noise():
    x, noise = jnp.array([[1.0, -2.0], [0.5, 8.0]]), jnp.array([[0.3, 1.0], [-2.0, 0.1]])
    t = jnp.array([0.1, 0.9])
    levels = []

    def denoise(noisy, sigma):
        levels.append(sigma)
        return noisy - sigma[:, None] * noise

    found = sde.noise_of(denoise, sde.add_noise(x, t, noise), t)
    np.testing.assert_allclose(found, noise, atol=1e-5)
    np.testing.assert_allclose(levels[0], sde.sigma(t) / sde.alpha(t), rtol=1e-6)
