"""EDM's preconditioning, noise levels and loss, by hand.

`test_sde` has the other schedules, with the gradients of all losses; `test_karras_samplers` has the
samplers.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.diffusion.karras import EDM

pytestmark = pytest.mark.usefixtures('quick_compile')

edm = EDM()
F_MIN, F_MAX = 1.59997e-5, 0.99996094  # as the specification of the released code prints them


def cdf(sigma):
    """The log-logistic law before truncation, in float64."""
    sigma = np.asarray(sigma, np.float64)
    return sigma**2 / (sigma**2 + 0.25)


def test_EDM__scalings_at_sigma_data():
    sigma = jnp.float32(0.5)
    assert edm.c_skip(sigma) == pytest.approx(0.5)
    assert edm.c_out(sigma) == pytest.approx(0.25 / np.sqrt(0.5))
    assert edm.c_in(sigma) == pytest.approx(np.sqrt(2))
    assert edm.c_noise(sigma) == pytest.approx(np.log(0.5) / 4)


def test_EDM__scalings_at_the_limits():
    small, large = jnp.float32(1e-6), jnp.float32(1e6)
    # Without noise the input is the answer; with nothing else the network gives all of it.
    assert edm.c_skip(small) == pytest.approx(1)
    assert edm.c_out(small) == pytest.approx(1e-6)
    assert edm.c_in(small) == pytest.approx(2)
    assert edm.c_skip(large) == pytest.approx(0, abs=1e-12)
    assert edm.c_out(large) == pytest.approx(0.5)
    assert edm.c_in(large) == pytest.approx(1e-6)


def test_EDM__scaled_inputs_and_targets_have_unit_variance():
    """What the preconditioning is for, at any sigma, where the data's deviation is sigma_data."""
    sigma = jnp.array([0.002, 0.1, 0.5, 3.0, 80.0])
    np.testing.assert_allclose(edm.c_in(sigma) ** 2 * (sigma**2 + 0.25), 1, rtol=1e-5)
    target = 0.25 * (1 - edm.c_skip(sigma)) ** 2 + (edm.c_skip(sigma) * sigma) ** 2
    np.testing.assert_allclose(target / edm.c_out(sigma) ** 2, 1, rtol=1e-4)


def test_sigma__runs_from_end_to_end_with_the_median_at_sigma_data():
    u = jnp.array([0.0, 0.5, 1.0])
    np.testing.assert_allclose(edm.sigma(u), [0.002, 0.5, 80.0], rtol=3e-5)


def test_sigma__is_the_closed_form_between_the_quantiles_of_its_ends():
    u = np.linspace(0, 1, 1001)[:-1]
    p = F_MIN + (F_MAX - F_MIN) * u
    expected = 0.5 * np.sqrt(p / (1 - p))
    np.testing.assert_allclose(edm.sigma(jnp.float32(u)), expected, rtol=2e-5)


def test_sigma__is_accurate_in_float32_up_to_the_top():
    """The quantile itself would round: near 1 a float32 step of it changes sigma by 0.1 %."""
    top = np.float32(1) - np.arange(1, 200, dtype=np.float32) * np.float32(2**-24)
    low, high = cdf(0.002), cdf(80.0)
    p = low + (high - low) * top.astype(np.float64)
    expected = 0.5 * np.sqrt(p / (1 - p))
    assert expected.max() > 79
    np.testing.assert_allclose(edm.sigma(jnp.asarray(top)), expected, rtol=2e-6)


def test_sigma__follows_the_truncated_law():
    """Kolmogorov-Smirnov on ln sigma, or sigma, which is the same; and nothing outside."""
    n = 100_000
    sigma = np.sort(np.asarray(edm.sigma(jax.random.uniform(jax.random.key(0), (n,)))))
    assert sigma[0] >= 0.002 * (1 - 1e-4)
    assert sigma[-1] <= 80 * (1 + 1e-4)
    law = (cdf(sigma) - cdf(0.002)) / (cdf(80.0) - cdf(0.002))
    distance = np.abs(law - (np.arange(n) + 0.5) / n).max()
    assert distance < 1.95 / np.sqrt(n)  # exceeded by chance once in a thousand


def test_EDM__other_constants():
    other = EDM(sigma_data=1.0, sigma_min=0.1, sigma_max=10.0, scale=1.0)
    np.testing.assert_allclose(other.sigma(jnp.array([0.0, 0.5, 1.0])), [0.1, 1.0, 10.0], rtol=1e-5)
    assert other.c_skip(jnp.float32(2.0)) == pytest.approx(0.2)


def constant(value):
    return lambda x, c: jnp.full_like(x, value)


def test_denoise__by_hand():
    """At sigma 1/2: D = x / 2 + F / sqrt(8)."""
    x, sigma = jnp.array([[1.0, -4.0]]), jnp.array([0.5])
    free = edm.denoise(constant(np.sqrt(8.0)), x, sigma, clip=None)
    np.testing.assert_allclose(free, [[1.5, -1.0]], rtol=1e-6)
    clipped = edm.denoise(constant(np.sqrt(8.0)), x, sigma, clip=1.2)
    np.testing.assert_allclose(clipped, [[1.2, -1.0]], rtol=1e-6)


def test_denoise__gives_the_network_scaled_input_and_log_noise():
    seen = {}

    def network(x, c):
        seen.update(x=x, c=c)
        return x

    edm.denoise(network, jnp.array([[3.0], [4.0]]), jnp.array([0.5, 2.0]), clip=None)
    np.testing.assert_allclose(seen['x'][:, 0], [3 * np.sqrt(2), 4 / np.sqrt(4.25)], rtol=1e-6)
    np.testing.assert_allclose(seen['c'], [np.log(0.5) / 4, np.log(2.0) / 4], rtol=1e-6)


@pytest.mark.parametrize(('clip', 'expected'), [(None, 5.0625), (1.0, 1.0)])
def test_loss__by_hand(clip, expected):
    """At sigma 1/2 with F = 0: D = (x + n / 2) / 2 and 1 / c_out^2 = 8."""
    x, noise = jnp.array([[1.0, 0.5]]), jnp.array([[2.0, 5.5]])
    # D is 1 and 1.625; D - x is 0 and 1.125, or 0.5 after the clip: 8 / 2 times the squares' sum.
    loss = edm.loss(constant(0.0), x, jnp.array([0.5]), noise, clip)
    assert loss == pytest.approx(expected, rel=1e-6)


def test_loss__without_clip_is_the_error_of_the_raw_network():
    """mean (F - (x - c_skip x1) / c_out)^2, the form of the released toy script."""
    rng = np.random.default_rng(1)
    x, noise = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    s = np.exp(rng.normal(size=(6, 1)))
    x1, root = x + s * noise, np.sqrt(s**2 + 0.25)
    raw = np.tanh(x1 / root + np.log(s) / 4)
    expected = np.mean((raw - (x - 0.25 / root**2 * x1) / (0.5 * s / root)) ** 2)

    @jax.jit
    def loss_of(x, sigma, noise):
        return edm.loss(lambda x, c: jnp.tanh(x + c[:, None]), x, sigma, noise, clip=None)

    loss = loss_of(x, s[:, 0], noise)
    assert loss == pytest.approx(float(expected), rel=1e-4)


def test_loss__of_a_perfect_denoiser_is_0():
    """Where the data is one point m, F = (m - c_skip x1) / c_out."""
    point, sigma = 0.3, jnp.array([0.01, 0.5, 70.0])

    def network(x, c):
        s = jnp.exp(4 * c)[:, None]
        return (point - edm.c_skip(s) * x / edm.c_in(s)) / edm.c_out(s)

    x, noise = np.full((3, 2), point), np.random.default_rng(0).normal(size=(3, 2))
    loss = jax.jit(lambda *arrays: edm.loss(network, *arrays, clip=1.0))(x, sigma, noise)
    assert loss == pytest.approx(0, abs=1e-5)


def test_loss__of_a_clipped_denoiser_still_pulls_x_towards_the_box():
    """The path through D is cut, the path through -x is not: dL/dx = -2 (clip - x) / c_out^2."""
    x, noise, sigma = jnp.array([[0.5]]), jnp.zeros((1, 1)), jnp.array([0.5])
    gradient = jax.grad(lambda x: edm.loss(constant(100.0), x, sigma, noise, 1.0))(x)
    np.testing.assert_allclose(gradient, [[-2 * 0.5 * 8]], rtol=1e-6)


def test_loss__and_denoise_refuse_shapes_that_would_broadcast():
    x = jnp.ones((4, 2))
    with pytest.raises(AssertionError):
        edm.denoise(constant(0.0), x, jnp.ones((4, 1)), None)
    with pytest.raises(AssertionError):
        edm.loss(constant(0.0), x, jnp.ones(4), jnp.ones((4, 1)), None)
