"""The discrete chain of Diffusion-QL and IDQL: by hand, and recomputed in NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.diffusion import DDPM
from tests.helpers.finite_differences import assert_gradients

pytestmark = pytest.mark.usefixtures('quick_compile')


def test_DDPM__schedule_of_five_steps_is_the_released_one():
    ddpm = DDPM()
    beta = [0.195875, 0.458818, 0.635781, 0.754878, 0.835031]
    np.testing.assert_allclose(1 - ddpm.alpha, beta, atol=6e-7)
    alpha_bar = [0.804125, 0.435178, 0.158500, 0.038852, 0.006409]
    np.testing.assert_allclose(ddpm.alpha_bar, alpha_bar, atol=6e-7)
    variance = [0.0, 0.159114, 0.426742, 0.660907, 0.807766]
    np.testing.assert_allclose(ddpm.posterior_variance, variance, atol=6e-7)
    x0_weight, x_weight = ddpm.posterior_mean
    np.testing.assert_allclose(x0_weight, [1, 0.728435, 0.498410, 0.312681, 0.165654], atol=6e-7)
    np.testing.assert_allclose(x_weight, [0, 0.255116, 0.405078, 0.433466, 0.392901], atol=6e-7)


@pytest.mark.parametrize('steps', [1, 2, 5, 50])
def test_sample__of_a_perfect_predictor_leads_back_to_its_point(steps):
    """Where all data is one point m, the noise is (x - sqrt(alpha_bar) m) / sqrt(1 - alpha_bar)."""
    ddpm, point = DDPM(steps), 0.3
    assert ddpm.alpha_bar[-1] == pytest.approx(math.exp(-5.05))  # the same for every T

    def network(x, t):
        a = jnp.float32(ddpm.alpha_bar)[t][:, None]
        return (x - jnp.sqrt(a) * point) / jnp.sqrt(1 - a)

    noise = jax.random.normal(jax.random.key(0), (steps + 1, 4, 2))
    x = jax.jit(lambda noise: ddpm.sample(network, noise[0], noise[1:], 1.0))(noise)
    np.testing.assert_allclose(x, point, atol=1e-5)
    t = jnp.arange(4) % steps
    x = jnp.full((4, 2), point)
    assert ddpm.loss(network, x, t, noise[0]) == pytest.approx(0, abs=1e-9)
    noisy = ddpm.add_noise(x, t, noise[0])
    np.testing.assert_allclose(ddpm.predict_x0(noisy, t, noise[0]), x, atol=1e-5)


def test_sample__stays_in_the_box_and_ignores_its_last_noise():
    ddpm, noise = DDPM(3), 10 * jax.random.normal(jax.random.key(0), (4, 5, 2))
    x = ddpm.sample(lambda x, t: jnp.sin(x), noise[0], noise[1:], 0.5)
    assert jnp.abs(x).max() <= 0.5
    other = ddpm.sample(lambda x, t: jnp.sin(x), noise[0], noise[1:].at[-1].set(7.0), 0.5)
    np.testing.assert_array_equal(x, other)


def recomputed(steps):
    """alpha, alpha_bar, alpha_bar_{t-1}, as the released code writes them for t = 1 .. T."""
    t = np.arange(1, steps + 1)
    alpha = np.exp(-0.1 / steps - 0.5 * (10 - 0.1) * (2 * t - 1) / steps**2)
    bar, before = (np.array([np.prod(alpha[:k]) for k in ks]) for ks in (t, t - 1))
    return alpha, bar, before


def posterior(steps):
    """Weights of x_0 and x_t in the mean of x_{t-1}, and its variance."""
    alpha, bar, before = recomputed(steps)
    x0_weight = (1 - alpha) * np.sqrt(before) / (1 - bar)
    x_weight = (1 - before) * np.sqrt(alpha) / (1 - bar)
    return x0_weight, x_weight, (1 - alpha) * (1 - before) / (1 - bar)


def sample(network, x, noise, clip):
    """Diffusion-QL's chain in NumPy, and the x_0 of each step before its clip."""
    _, bar, _ = recomputed(len(noise))
    x0_weight, x_weight, variance = posterior(len(noise))
    free = []
    for used, t in enumerate(range(len(noise))[::-1]):
        eps = network(x, np.full(len(x), float(t)))
        free.append((x - np.sqrt(1 - bar[t]) * eps) / np.sqrt(bar[t]))
        x = x0_weight[t] * np.minimum(np.maximum(free[-1], -clip), clip) + x_weight[t] * x
        if t > 0:
            x = x + np.sqrt(variance[t]) * noise[used]
    return x, np.stack(free)


def sample_ddpm(network, x, noise, clip):
    """IDQL's chain in NumPy, and the x of each step before its clip."""
    alpha, bar, _ = recomputed(len(noise))
    free = []
    for used, t in enumerate(range(len(noise))[::-1]):
        eps = network(x, np.full(len(x), float(t)))
        x = (x - (1 - alpha[t]) / np.sqrt(1 - bar[t]) * eps) / np.sqrt(alpha[t])
        if t > 0:
            x = x + np.sqrt(1 - alpha[t]) * noise[used]
        free.append(x)
        x = np.minimum(np.maximum(x, -clip), clip)
    return x, np.stack(free)


def chain_noise(steps):
    """The start `[6, 2]` and the noise `[T, 6, 2]` of a chain."""
    noise = np.random.default_rng(steps).normal(size=(steps + 1, 6, 2))
    return noise[0], noise[1:]


@pytest.mark.parametrize('steps', [1, 2, 5, 8])
def test_DDPM__schedule_of_any_number_of_steps(steps):
    ddpm = DDPM(steps)
    alpha, bar, before = recomputed(steps)
    np.testing.assert_allclose(ddpm.alpha, alpha, rtol=1e-12)
    np.testing.assert_allclose(ddpm.alpha_bar, bar, rtol=1e-12)
    np.testing.assert_allclose(ddpm.alpha_bar_before, before, rtol=1e-12)
    x0_weight, x_weight, variance = posterior(steps)
    np.testing.assert_allclose(ddpm.posterior_mean, [x0_weight, x_weight], rtol=1e-12)
    np.testing.assert_allclose(ddpm.posterior_variance, variance, rtol=1e-12)


@pytest.mark.parametrize('steps', [1, 2, 5, 8])
@pytest.mark.parametrize('reference', [sample, sample_ddpm], ids=lambda f: f.__name__)
def test_sample__and_sample_ddpm_reproduce_numpy_with_an_imperfect_predictor(reference, steps):
    """Where the clip is at work and where it is not, so that every weight and deviation counts."""
    x, noise = chain_noise(steps)
    ours = jax.jit(
        lambda x, noise, clip: getattr(DDPM(steps), reference.__name__)(
            lambda x, t: jnp.sin(x + 0.7 * t[:, None]), x, noise, clip
        )
    )
    for clip in (0.7, 100.0):
        end, free = reference(lambda x, t: np.sin(x + 0.7 * t[:, None]), x, noise, clip)
        clipped = (np.abs(free) > clip).mean((1, 2))
        assert (clipped > 0).any() == (clip < 1)
        assert (clipped < 1).any()
        np.testing.assert_allclose(ours(x, noise, clip), end, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ('name', 'expected'),
    [('sample', [-0.904362, 0.144266]), ('sample_ddpm', [0.607775, 0.281940])],
)
def test_sample__and_sample_ddpm_of_two_steps_by_hand(name, expected):
    """alpha = exp(-1.2875), exp(-3.7625), thus alpha_bar = exp(-1.2875), exp(-5.05).

    Diffusion-QL: x_0 = 12.490895 x - 12.450802 * 0.05 is 11.868, clipped to 1, and 0.626549;
    x = 0.516428 x_0 + 0.111055 x + 0.843674 noise is 0.205646 and 0.756510;
    then 1.903606 x - 1.619789 * 0.8.
    IDQL: x = 6.561702 (x - 0.979920 * 0.05) + 0.988319 noise is 5.746, clipped to 1, and 0.828832;
    then 1.903606 (x - 0.850906 * 0.8).
    """

    def network(x, t):
        return jnp.broadcast_to(jnp.where(t == 1, 0.05, 0.8)[:, None], x.shape)

    x, noise = jnp.array([[1.0, 0.1]]), jnp.array([[[-0.5, 0.5]], [[7.0, 7.0]]])
    end = getattr(DDPM(2), name)(network, x, noise, 1.0)
    np.testing.assert_allclose(end, [expected], atol=3e-6)


def test_loss__by_hand():
    """A network that returns its input, at the released sqrt(alpha_bar) and sqrt(1 - alpha_bar)."""
    x, noise = jnp.array([[1.0, 0.0], [-1.0, 0.0]]), jnp.array([[2.0, 1.0], [2.0, 1.0]])
    first = (2 - (0.896730 + 2 * 0.442577)) ** 2 + (1 - 0.442577) ** 2
    second = (2 - (-0.659680 + 2 * 0.751546)) ** 2 + (1 - 0.751546) ** 2
    loss = DDPM().loss(lambda x, t: x, x, jnp.array([0, 1]), noise)
    assert loss == pytest.approx((first + second) / 4, rel=1e-5)
    # And the step as the network sees it: both errors grow by t / 2 in the second row.
    loss = DDPM().loss(lambda x, t: x - t[:, None] / 2, x, jnp.array([0, 1]), noise)
    second = (2.5 - (-0.659680 + 2 * 0.751546)) ** 2 + (1.5 - 0.751546) ** 2
    assert loss == pytest.approx((first + second) / 4, rel=1e-5)


def test_loss__gradients_are_those_of_finite_differences():
    rng = np.random.default_rng(0)
    x, noise, weight = rng.uniform(-1, 1, (5, 2)), rng.normal(size=(5, 2)), rng.normal(size=(2, 2))

    def loss(weight, x):
        network = lambda x, t: jnp.tanh(x @ weight + 0.3 * t[:, None])  # noqa: E731
        return DDPM().loss(network, x, np.arange(5), noise)

    assert_gradients(loss, weight, x)


@pytest.mark.parametrize('clip', [0.7, 100.0])
def test_sample__gradients_flow_through_the_whole_chain(clip):
    """For the weights of the network, which every step calls, and for the noise of every step."""
    x, noise = chain_noise(5)
    noise = noise[:-1]  # the last has no effect
    weight, share = np.random.default_rng(0).normal(size=(2, 6, 2))
    weight = weight[:2]

    def network(x, t, weight, numpy):
        return numpy.sin(x @ weight + 0.7 * t[:, None])

    def total(weight, x, noise):
        end = DDPM().sample(
            lambda x, t: network(x, t, weight, jnp),
            x,
            jnp.concatenate([noise, jnp.zeros((1, 6, 2))]),
            clip,
        )
        return (share * end).sum()

    # The clip has no slope at its kinks: stay away from them, on both sides.
    _, free = sample(lambda x, t: network(x, t, weight, np), x, [*noise, noise[0]], clip)
    assert (np.abs(free) < clip).any()
    assert (np.abs(free) > clip).any() == (clip < 1)
    assert np.abs(np.abs(free) - clip).min() > 1e-3
    assert_gradients(total, weight, x, noise)
