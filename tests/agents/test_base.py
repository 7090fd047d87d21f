"""The parts that agents share, by hand: Adam, clipping, ranking by Q, the check of a choice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents import base
from dtql_jax.agents.candidates import best_by_q, min_q
from dtql_jax.nn.critics import TwinQ
from dtql_jax.nn.optim import clip_by_norm, scale_by_adam
from dtql_jax.types import UserError

pytestmark = pytest.mark.usefixtures('quick_compile')

GRADIENTS = np.array([[0.5, -2.0, 1e-3], [-0.1, -1.0, 2e-3], [3.0, 0.0, -1e-3]])


def test_three_steps_of_adam():
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


def test_the_first_step_of_adam_is_the_sign():
    """Up to eps and rounding; with `1 - b^t` in float32 it would be 6e-6 too short."""
    adam = scale_by_adam()
    gradient = jnp.array([0.5, -2.0, 1e3, -7.0])
    direction, _ = jax.jit(adam.update)(gradient, adam.init(gradient))
    np.testing.assert_allclose(direction, np.sign(gradient), rtol=3e-7)


def test_other_constants_of_adam():
    adam = scale_by_adam(b1=0.5, b2=0.5, eps=1.0)
    state = adam.init(jnp.zeros(1))
    first, state = adam.update(jnp.array([2.0]), state)
    second, _ = adam.update(jnp.array([4.0]), state)
    np.testing.assert_allclose(first, 2 / (2 + 1), rtol=1e-6)
    # m = 0.5 (0.5 * 2) + 0.5 * 4 = 2.5, v = 0.5 (0.5 * 4) + 0.5 * 16 = 9, both through 0.75.
    np.testing.assert_allclose(second, (10 / 3) / (np.sqrt(12) + 1), rtol=1e-6)


def test_gradients_are_clipped_by_the_norm_of_all():
    """The norm of (3, 4) and 12 is 13."""
    gradient = {'a': jnp.array([3.0, 4.0]), 'b': {'c': jnp.array([[12.0]])}}
    clipped = clip_by_norm(gradient, 6.5)
    np.testing.assert_allclose(clipped['a'], [1.5, 2.0], rtol=1e-6)
    np.testing.assert_allclose(clipped['b']['c'], [[6.0]], rtol=1e-6)


@pytest.mark.parametrize('max_norm', [13.1, 100.0])
def test_gradients_within_the_norm_are_left_as_they_are(max_norm):
    gradient = [jnp.array([3.0, 4.0]), jnp.array([12.0])]
    for before, after in zip(gradient, clip_by_norm(gradient, max_norm), strict=True):
        np.testing.assert_array_equal(before, after)


def test_torch_s_millionth_shortens_a_gradient_of_just_the_norm():
    """factor = c / (norm + 1e-6): for norm and c of 1e-4 it is 1 / 1.01. And 0 stays 0."""
    np.testing.assert_allclose(clip_by_norm(jnp.array([1e-4]), 1e-4), [1e-4 / 1.01], rtol=1e-5)
    assert clip_by_norm(jnp.zeros(2), 1.0).tolist() == [0, 0]


def q_of(action):
    """Largest at (0.2, -0.4)."""
    return -((action[:, 0] - 0.2) ** 2) - (action[:, 1] + 0.4) ** 2


def test_the_best_candidate():
    candidates = jnp.array([[1, 1], [0, 0], [0.5, 0], [0.1, -0.5], [-1, 0], [0.2, 0.4]])
    np.testing.assert_array_equal(best_by_q(q_of, candidates), candidates[3])


def test_the_first_of_equally_good_candidates():
    candidates = jnp.array([[0.3, -0.4], [0.1, -0.4], [0.2, 0.6]])
    best = best_by_q(lambda a: jnp.array([1.0, 1.0, 0.5]), candidates)
    np.testing.assert_array_equal(best, candidates[0])


def test_min_q_is_the_smaller_of_the_two_critics_for_each_action():
    q = TwinQ((4,), jax.nn.relu)
    obs, action = jnp.array([0.5, -1.0, 2.0]), jnp.array([[0.1, 0.2], [-0.9, 0.9], [0, 0], [1, -1]])
    params = q.init(jax.random.key(0), obs[None], action[:1])['params']
    smallest = min_q(q, params, obs, action)
    assert smallest.shape == (4,)
    members = jax.tree.map(np.asarray, [params['q1'], params['q2']])
    for i, a in enumerate(np.asarray(action)):
        x, values = np.concatenate([obs, a]), []
        for member in members:
            first, second = member['Linear_0'], member['Linear_1']
            h = np.maximum(x @ first['kernel'] + first['bias'], 0)
            values.append((h @ second['kernel'] + second['bias'])[0])
        assert smallest[i] == pytest.approx(min(values), rel=1e-5, abs=1e-6)


def test_a_choice_is_checked_by_one_line_that_names_all():
    base.check_choice('sampler', 'heun', ['heun', 'stochastic'])
    with pytest.raises(UserError) as error:
        base.check_choice('sampler', 'euler', ('heun', 'stochastic'))
    assert str(error.value) == 'sampler=euler: must be one of heun, stochastic'
