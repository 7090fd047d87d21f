"""The toy sets' statistics, and the rewards of their simulator."""

import contextlib

import numpy as np
import pytest

from dtql_jax.tasks import toys
from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.registry import TASKS
from dtql_jax.types import UserError

each_set = pytest.mark.parametrize('name', toys.SETS)


@each_set
def test_actions__are_always_the_same_and_fill_their_modes_evenly(name):
    action, toy = toys.actions(name), toys.SETS[name]()
    assert action.shape == (10_000, 2)
    assert action.dtype == np.float32
    assert not action.flags.writeable
    again = toy.draw(np.random.default_rng(toys.SEED)).astype(np.float32)
    np.testing.assert_array_equal(action, again)
    mode, within = toy.nearest(action[::10])
    assert within.mean() > 0.95
    share = np.bincount(mode) / len(mode)
    np.testing.assert_allclose(share, 1 / len(share), rtol=0.25)


@pytest.mark.parametrize(('name', 'modes'), [('25gaussians', 25), ('8gaussians', 8)])
def test_actions__of_gaussians_have_their_means_and_deviation(name, modes):
    places = toys.SETS[name]().places
    blocks = toys.actions(name).reshape(modes, -1, 2)  # equally many of each, in order
    np.testing.assert_allclose(blocks.mean(1), places, atol=0.06)
    np.testing.assert_allclose(blocks.std(1), 0.3, rtol=0.15)
    assert len(np.unique(places, axis=0)) == modes


def test_actions__of_the_swiss_roll_are_near_its_curve():
    """`make_swiss_roll`: t (cos t, sin t), t from 1.5 pi to 4.5 pi, with noise 0.1."""
    norm = np.linalg.norm(toys.actions('swissroll'), axis=-1)
    assert norm.min() == pytest.approx(1.5 * np.pi, abs=0.4)
    assert norm.max() == pytest.approx(4.5 * np.pi, abs=0.4)


def test_nearest__by_hand():
    mode, within = toys.SETS['25gaussians']().nearest(np.array([[10, 10], [-9.5, -10], [0, 0.95]]))
    assert mode.tolist() == [24, 0, 12]
    assert within.tolist() == [True, True, False]  # 0, 0.5 and 0.95 away, 3 deviations are 0.9
    mode, within = toys.SETS['checkerboard']().nearest(np.array([[-9.9, 9.9], [-9.9, -9.9]]))
    assert within.tolist() == [True, False]


def test_rewards__by_hand():
    action = np.array([[3, 4], [-9, 12], [-9, -12], [9, 12]])
    most = np.linalg.norm(toys.actions('25gaussians'), axis=-1).max()
    assert toys.rewards('25gaussians', 'far', action).tolist() == [5, 15, 15, 15]
    np.testing.assert_allclose(
        toys.rewards('25gaussians', 'near', action), most - [5, 15, 15, 15], rtol=1e-6
    )
    assert toys.rewards('25gaussians', 'hard', action).tolist() == [5, 30, 15, 15]
    assert toys.rewards('25gaussians', 'same', action).tolist() == [0, 0, 0, 0]


@each_set
def test_BEST__is_the_mean_reward_of_the_best_mode(name):
    for reward, best in toys.BEST[name].items():
        assert toys.best_reward(name, reward) == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize('name', ['toy-25gaussians-hard', 'toy-twomoons-near'])
def test_Toy__is_played_for_one_step(name):
    task = TASKS[name]
    _, kind, reward = name.split('-')
    with contextlib.closing(make_env(task)) as env:
        obs, _ = env.reset(seed=0)
        assert obs.tolist() == [0.0]
        assert env.action_space.high.tolist() == [np.abs(toys.actions(kind)).max()] * 2
        action = np.array([-8.0, 8.0], np.float32)
        obs, received, terminated, _, _ = env.step(action)
        assert obs.tolist() == [0.0]
        assert received == toys.rewards(kind, reward, action[None])[0]
        assert terminated


def test_Toy__an_unknown_reward_is_one_line():
    with pytest.raises(UserError, match="there is no 'up', but far, near, hard, same"):
        toys.Toy('25gaussians', 'up')


def test_toys__are_twenty_registered_tasks():
    names = [task.name for task in toys.toys()]
    assert len(names) == 20
    assert set(names) <= set(TASKS)
    assert TASKS['toy-8gaussians-same'].score_range is None
    assert TASKS['toy-8gaussians-far'].score(12.013) == pytest.approx(100)
