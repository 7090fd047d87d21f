"""Mazes: where goals lie, and shortest ways."""

import numpy as np
import pytest

from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.mazes import MAPS, REACHED, goal_xy, way_to
from dtql_jax.tasks.registry import TASKS


def test_goal_xy__is_the_cells_centre_in_each_frame():
    np.testing.assert_array_equal(goal_xy(MAPS['umaze'], 'pointmaze'), [-1.0, -1.0])
    np.testing.assert_array_equal(goal_xy(MAPS['umaze'], 'antmaze'), [-4.0, -4.0])
    # The cell two rows below the start, and the mean of D4RL's noise.
    np.testing.assert_array_equal(goal_xy(MAPS['umaze'], 'd4rl-antmaze'), [0.75, 8.75])


def test_way_to__leads_round_the_wall():
    maze = MAPS['umaze']
    free = [(i, j) for i, row in enumerate(maze) for j, cell in enumerate(row) if cell != 1]
    ahead = way_to((3, 1), free)
    way = [(1, 1)]
    while way[-1] != (3, 1):
        way.append(ahead[way[-1]])
    assert way == [(1, 1), (1, 2), (1, 3), (2, 3), (3, 3), (3, 2), (3, 1)]
    assert ahead[(3, 1)] == (3, 1)


def test_way_to__leaves_out_what_cannot_reach_the_target():
    assert way_to((0, 0), [(0, 0), (0, 1), (5, 5)]).keys() == {(0, 0), (0, 1)}


@pytest.mark.parametrize('side', [-1e-9, 1e-9])
def test_REACHED__is_the_simulators_radius(side):
    env, radius = make_env(TASKS['pointmaze-umaze']).unwrapped, REACHED['pointmaze']
    reached = env.compute_reward(np.array([radius + side, 0.0]), np.zeros(2), {})
    assert reached == (side < 0)
