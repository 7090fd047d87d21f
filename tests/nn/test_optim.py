"""Adam, clipping and the decay of learning rates, by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.nn.optim import clip_by_norm, cosine_decay, scale_by_adam

pytestmark = pytest.mark.usefixtures('quick_compile')

GRADIENTS = np.array([[0.5, -2.0, 1e-3], [-0.1, -1.0, 2e-3], [3.0, 0.0, -1e-3]])


def test_scale_by_adam__three_steps_by_the_paper():
    """Against the paper's recursion in float64."""
    adam = scale_by_adam()
    state = adam.init({'w': jnp.zeros(3)})
    m, v = np.zeros(3), np.zeros(3)
    for t, g in enumerate(GRADIENTS, start=1):
        direction, state = jax.jit(adam.update)({'w': jnp.float32(g)}, state)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        expected = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(direction['w'], expected, rtol=1e-6)
        assert state.count == t


def test_scale_by_adam__first_step_is_the_sign():
    """Up to eps and rounding; with `1 - b^t` in float32 it would be 6e-6 too short."""
    adam = scale_by_adam()
    gradient = jnp.array([0.5, -2.0, 1e3, -7.0])
    direction, _ = jax.jit(adam.update)(gradient, adam.init(gradient))
    np.testing.assert_allclose(direction, np.sign(gradient), rtol=3e-7)


def test_scale_by_adam__other_constants():
    adam = scale_by_adam(b1=0.5, b2=0.5, eps=1.0)
    state = adam.init(jnp.zeros(1))
    first, state = adam.update(jnp.array([2.0]), state)
    second, _ = adam.update(jnp.array([4.0]), state)
    np.testing.assert_allclose(first, 2 / (2 + 1), rtol=1e-6)
    # m = 0.5 (0.5 * 2) + 0.5 * 4 = 2.5, v = 0.5 (0.5 * 4) + 0.5 * 16 = 9, both through 0.75.
    np.testing.assert_allclose(second, (10 / 3) / (np.sqrt(12) + 1), rtol=1e-6)


def test_clip_by_norm__clips_by_the_norm_of_all_tensors():
    """The norm of (3, 4) and 12 is 13."""
    gradient = {'a': jnp.array([3.0, 4.0]), 'b': {'c': jnp.array([[12.0]])}}
    clipped = clip_by_norm(gradient, 6.5)
    np.testing.assert_allclose(clipped['a'], [1.5, 2.0], rtol=1e-6)
    np.testing.assert_allclose(clipped['b']['c'], [[6.0]], rtol=1e-6)


@pytest.mark.parametrize('max_norm', [13.1, 100.0])
def test_clip_by_norm__leaves_small_gradients_as_they_are(max_norm):
    gradient = [jnp.array([3.0, 4.0]), jnp.array([12.0])]
    for before, after in zip(gradient, clip_by_norm(gradient, max_norm), strict=True):
        np.testing.assert_array_equal(before, after)


def test_clip_by_norm__has_the_millionth_of_torch():
    """factor = c / (norm + 1e-6): for norm and c of 1e-4 it is 1 / 1.01. And 0 stays 0."""
    np.testing.assert_allclose(clip_by_norm(jnp.array([1e-4]), 1e-4), [1e-4 / 1.01], rtol=1e-5)
    assert clip_by_norm(jnp.zeros(2), 1.0).tolist() == [0, 0]


@pytest.mark.parametrize(
    ('step', 'factor'),
    # From the end on, where a run goes on in the environment, the rate is as set.
    [(0, 1.0), (25, 0.5 + 0.25 * math.sqrt(2)), (50, 0.5), (-7, 1.0), (100, 1.0), (101, 1.0)],
)
def test_cosine_decay__by_hand(step, factor):
    assert cosine_decay(jnp.int32(step), 100) == pytest.approx(factor, abs=1e-7)


def test_cosine_decay__never_rises_and_stays_precise_late_in_a_long_run():
    steps = np.arange(0, 1_000_000, 1000)
    factor = np.asarray(cosine_decay(jnp.asarray(steps, jnp.int32), 1_000_000))
    assert (np.diff(factor) <= 0).all()
    np.testing.assert_allclose(factor, (1 + np.cos(np.pi * steps / 1e6)) / 2, atol=2e-7)
