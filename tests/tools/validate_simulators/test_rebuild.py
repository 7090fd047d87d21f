"""A state that is set shows the observation of its row."""

import gymnasium as gym
import numpy as np
import pytest

from tools.validate_simulators.rebuild import FAMILIES, flat, set_all, set_planar, start_anew


@pytest.fixture
def hopper():
    env = gym.make('Hopper-v5')
    env.reset(seed=0)
    yield env
    env.close()


def test_set_planar__shows_the_row(hopper):
    row = np.random.default_rng(0).uniform(-0.1, 0.1, 11)
    set_planar(hopper, row)
    np.testing.assert_array_equal(hopper.unwrapped._get_obs(), row)


def test_set_all__sets_positions_and_velocities(hopper):
    state = np.random.default_rng(0).uniform(-0.1, 0.1, 12)
    set_all(hopper, state)
    data = hopper.unwrapped.data
    np.testing.assert_array_equal(np.concatenate([data.qpos, data.qvel]), state)


def test_start_anew__forgets_controls_and_time(hopper):
    hopper.step(np.ones(3))
    assert hopper.unwrapped.data.time > 0
    start_anew(hopper)
    assert hopper.unwrapped.data.time == 0
    assert not hopper.unwrapped.data.ctrl.any()


def test_flat__joins_the_ants_position_and_leaves_the_points():
    ant = {'achieved_goal': np.zeros(2), 'observation': np.ones(27), 'desired_goal': np.ones(2)}
    assert flat(ant).shape == (29,)
    point = {'achieved_goal': np.zeros(2), 'observation': np.ones(4), 'desired_goal': np.ones(2)}
    assert flat(point).tolist() == [1, 1, 1, 1]
    assert flat(np.ones(3)).tolist() == [1, 1, 1]


def test_FAMILIES__say_where_a_state_can_be_set():
    assert {where for _, where in FAMILIES.values()} == {'row', 'start'}
