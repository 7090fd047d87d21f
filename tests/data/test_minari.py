"""Minari sets: what becomes of an episode, and how an absent set is fetched."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest

from dtql_jax.data.load import load
from dtql_jax.tasks.registry import TASKS, resolve
from dtql_jax.tasks.task import Task, adjust
from dtql_jax.types import Spec, UserError
from tests.helpers.minari_sets import MAZE, OWN, episode, walk, write

MAZE_TASK = dataclasses.replace(TASKS['pointmaze-umaze'], datasets=('me/maze-v0',), collect=None)


def test_read__last_observation_is_used_and_rows_never_cross_episodes(root):
    write('me/own-v0', [episode(0, 3), episode(100, 2), episode(200, 1)])
    data = load(OWN)
    obs, next_obs = data.transitions.obs[:, 0], data.transitions.next_obs[:, 0]
    assert obs.tolist() == [0, 1, 2, 100, 101, 200]
    assert next_obs.tolist() == [1, 2, 3, 101, 102, 201]
    assert data.spec == Spec(obs_dim=3, action_dim=2, max_action=1.0)
    assert all(array.dtype == np.float32 for array in data.transitions[:5])


def test_read__a_time_out_keeps_the_bootstrap_and_a_termination_cuts_it(root):
    write('me/own-v0', [episode(0, 2), episode(0, 3, end='terminated'), episode(0, 1, end=None)])
    assert load(OWN).transitions.mask.tolist() == [1, 1, 1, 1, 0, 1]


def test_read__a_termination_at_the_time_limit_still_cuts(root):
    both = np.array([False, True])
    write('me/own-v0', [episode(0, 2, terminations=both, truncations=both)])
    assert load(OWN).transitions.mask.tolist() == [1, 0]


def test_read__dict_observations_flatten_in_sorted_or_in_named_order(root):
    box = gym.spaces.Box(-9, 9, (1,), np.float64)
    space = gym.spaces.Dict({'b': box, 'a': gym.spaces.Dict({'z': box, 'y': box}), 'c': box})
    column = np.ones((3, 1))
    seen = {'b': 3 * column, 'a': {'z': 2 * column, 'y': column}, 'c': 4 * column}
    write('me/own-v0', [episode(0, 2, observations=seen)], space)
    assert load(OWN).transitions.obs[0].tolist() == [1, 2, 3, 4]
    named = dataclasses.replace(OWN, obs_keys=('c', 'a'))
    assert load(named).transitions.obs[0].tolist() == [4, 1, 2]
    with pytest.raises(UserError, match="lack the key 'd' \\(there are a, b, c\\): mend"):
        load(dataclasses.replace(OWN, obs_keys=('d',)))


@pytest.fixture
def maze(root):
    """One walk through (-1, -1), the evaluation's goal, and away; its own goal lay elsewhere."""
    positions = [(1, 1), (0, 0), (-0.7, -0.7), (-0.551, -1), (-0.549, -1)]
    write('me/maze-v0', [walk(positions, desired=(0, 0), rewards=[1, 0, 0, 0])], MAZE)


def test_read__relabel_rewards_the_evaluations_goal_and_hides_it(maze):
    data = load(MAZE_TASK).transitions
    assert data.reward.tolist() == [0, 1, 1, 0]
    assert data.mask.tolist() == [1, 0, 0, 1]
    assert data.obs[0].tolist() == [1, 1, 11, 11]


def test_read__observe_keeps_the_episodes_own_goal_and_appends_it(maze):
    data = load(adjust(MAZE_TASK, goal='observe')).transitions
    assert data.reward.tolist() == [1, 0, 0, 0]
    assert data.mask.tolist() == [0, 1, 1, 1]
    assert data.obs[0].tolist() == [1, 1, 11, 11, 0, 0]


@pytest.mark.parametrize('goal', ['relabel', 'observe'])
def test_read__without_success_ends_success_and_time_out_keep_the_bootstrap(maze, goal):
    task = adjust(MAZE_TASK, goal=goal, success_ends=False)
    assert load(task).transitions.mask.tolist() == [1, 1, 1, 1]


def test_read__a_termination_at_another_goal_does_not_cut_when_relabelled(root):
    seen = walk([(1, 1), (0, 0), (0.1, 0)], (0, 0))
    write('me/maze-v0', [dataclasses.replace(seen, terminations=np.array([False, True]))], MAZE)
    assert load(MAZE_TASK).transitions.mask.tolist() == [1, 1]


def test_read__antmaze_flattens_position_then_body(root):
    spaces = {
        key: gym.spaces.Box(-np.inf, np.inf, (size,))
        for key, size in (('achieved_goal', 2), ('desired_goal', 2), ('observation', 27))
    }
    seen = {'achieved_goal': 1, 'desired_goal': 3, 'observation': 2}
    seen = {key: np.full((2, spaces[key].shape[0]), float(seen[key])) for key in seen}
    write('me/ant-v0', [episode(0, 1, observations=seen)], gym.spaces.Dict(spaces))
    task = dataclasses.replace(TASKS['antmaze-large-play'], datasets=('me/ant-v0',))
    assert load(task).transitions.obs[0].tolist() == [1] * 2 + [2] * 27
    observing = adjust(task, goal='observe')
    assert load(observing).transitions.obs[0].tolist() == [1] * 2 + [2] * 27 + [3] * 2


def test_read__images_are_decoded_and_flattened(root):
    image = gym.spaces.Box(0, 255, (32, 32, 3), np.uint8)
    seen = np.full((3, 32, 32, 3), 100, np.uint8)
    write('me/own-v0', [episode(0, 2, observations=seen)], image)
    obs = load(OWN).transitions.obs
    assert (obs.shape, obs.min(), obs.max()) == ((2, 3072), 100, 100)


def test_read__another_simulator_than_the_datas_is_noted(root):
    write('me/own-v0', [episode(0, 3)], env=gym.spec('Walker2d-v5'))
    task = Task('own', ('me/own-v0',), env_id='Walker2d-v4')
    (note,) = load(task).card['notes']
    assert note.startswith('recorded in Walker2d-v5, played in Walker2d-v4: another simulator')
    assert load(dataclasses.replace(task, env_id='Walker2d-v5')).card['notes'] == []
    assert load(dataclasses.replace(task, env_id=None)).card['notes'] == []


def test_read__published_formats(shared):
    ant = load(resolve('antmaze-large-diverse')[0])
    assert ant.spec == Spec(obs_dim=29, action_dim=8)
    assert set(np.unique(ant.transitions.reward)) == {0, 1}
    assert (ant.transitions.mask == 1 - ant.transitions.reward).all()
    # What the simulator paid is what the goal beside the observation says.
    observed = load(adjust(resolve('antmaze-large-diverse')[0], goal='observe')).transitions
    assert observed.obs.shape[1] == 31
    assert (observed.mask == 1 - observed.reward).all()
    door = load(resolve('minari:D4RL/door/human-v2')[0])
    assert door.spec == Spec(obs_dim=39, action_dim=28)
    assert door.transitions.mask.all()
