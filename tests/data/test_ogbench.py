"""OGBench's npz: which rows become transitions, where rewards come from, and its mistakes.

A row's observation is its number, thrice; rows 0 to 3 and 4 to 7 are one trajectory each.
"""

import contextlib
import dataclasses
import pickle

import gymnasium as gym
import numpy as np
import pytest

from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.registry import TASKS
from dtql_jax.types import Spec
from tests.helpers.flat_files import OWN, columns, load_file, message, table

ROW = np.arange(8.0, dtype=np.float32)
SUCCESS = np.isin(ROW, [1, 2])


@pytest.fixture
def file(tmp_path):
    """Writes the file with some fields changed, or left out where they are None; its path."""

    def write_file(**changes):
        fields = {
            'observations': table(ROW),
            'actions': table(0.5 * np.ones(8, np.float32), 2),
            'terminals': np.isin(ROW, [3, 7]).astype(np.float32),
            'rewards': SUCCESS - 1.0,
            'masks': 1.0 - SUCCESS,
        }
        path = tmp_path / 'own-v0.npz'
        fields = {name: value for name, value in (fields | changes).items() if value is not None}
        np.savez_compressed(path, **fields)
        return path

    return write_file


class Maze(gym.Env):
    """The part of OGBench's mazes that gives a goal: a reset sets it."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    _goal_tol = 0.5

    def __init__(self, task=1, goal=(2, 4)):
        self._reward_task_id, self._goal = task, goal
        self.cur_goal_xy = np.full(2, np.nan)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cur_goal_xy = np.array(self._goal, float)
        return np.zeros(3), {}


@pytest.fixture
def single():
    """A task whose environment is a maze with one goal."""
    pytest.importorskip('ogbench', reason='ogbench, an extra, is not installed')
    gym.register('own-maze-v0', Maze)
    yield dataclasses.replace(OWN, env_id='own-maze-v0')
    del gym.registry['own-maze-v0']


def test_read__the_last_row_of_a_trajectory_starts_no_transition(file):
    data = load_file(file())
    obs, action, reward, mask, next_obs = data.transitions[:5]
    assert obs.tolist() == table([0, 1, 2, 4, 5, 6]).tolist()
    assert next_obs.tolist() == table([1, 2, 3, 5, 6, 7]).tolist()
    assert reward.tolist() == [-1, 0, 0, -1, -1, -1]
    assert mask.tolist() == [1, 0, 0, 1, 1, 1]
    assert action.tolist() == table([0.5] * 6, 2).tolist()
    assert all(array.dtype == np.float32 for array in data.transitions[:5])
    assert data.spec == Spec(obs_dim=3, action_dim=2, max_action=1.0)


def test_read__the_card_counts_episodes_and_successes(file):
    path = file()
    card = load_file(path).card
    assert (card['datasets'], card['transitions'], card['episodes']) == ([str(path)], 6, 2)
    assert (card['ends'], card['timeouts']) == (2, 2)
    assert card['reward_counts'] == {'-1': 4, '0': 2}
    # As an evaluation counts: up to the first success, or to the end.
    assert (card['return']['max'], card['return']['min']) == (-1, -3)
    assert card['notes'] == [
        '2 rows at the end of episodes left out: what follows them is not known'
    ]


def test_read__success_in_a_last_row_brings_no_row_back(file):
    last = np.isin(ROW, [3])
    assert columns(file(rewards=last - 1.0, masks=1.0 - last))[0] == [0, 1, 2, 4, 5, 6]


def test_read__the_last_row_of_the_file_ends_a_trajectory_without_a_flag(file):
    assert columns(file(terminals=np.isin(ROW, [3])))[0] == [0, 1, 2, 4, 5, 6]


def test_read__rewards_follow_from_the_one_goal_of_the_environment(file, single):
    qpos = np.zeros((8, 5))
    qpos[:, :2] = [[2, 3], [2, 3.5], [1.6, 4.3], [2, 4], [2, 4.51], [2.49, 4], [9, 9], [2, 4]]
    path = file(rewards=None, masks=None, qpos=qpos)
    _, _, reward, mask, _ = columns(path, single)
    assert reward == [-1, 0, 0, -1, 0, -1]  # of the state before the action; the edge counts
    assert mask == [1, 0, 0, 1, 0, 1]
    elsewhere = dataclasses.replace(single, env_kwargs={'goal': (9, 9)})
    assert columns(path, elsewhere)[2] == [-1, -1, -1, -1, -1, 0]


def test_read__rewards_of_the_file_come_before_those_of_the_goal(file, single):
    path = file(qpos=table(ROW, 5))
    assert columns(path, single)[2] == columns(path)[2]


def test_read__environments_without_one_goal_need_rewards_in_the_file(file, single):
    path = file(rewards=None, masks=None, qpos=table(ROW, 5))
    text = message(path, dataclasses.replace(single, env_kwargs={'task': None}))
    assert text.startswith(': the field rewards is missing, and own-maze-v0 is no single task of')
    text = message(file(rewards=None, masks=None), single)
    assert text.startswith(': the field qpos is missing')


def test_read__own_mazes_are_another_simulator(file):
    path = file()
    for name in ('antmaze-large-diverse', 'pointmaze-large'):
        text = message(path, TASKS[name])
        assert text.startswith(f': {name} is played in another simulator than OGBench')
        assert text.endswith('`env`=antmaze-large-navigate-singletask-task1-v0')


SPOILT = table(ROW)
SPOILT[4, 1] = np.nan
MISTAKES = {
    'missing': (
        {'actions': None},
        ': the field actions is missing (there is: masks, observations, rewards, terminals); ',
    ),
    'no rewards': (
        {'rewards': None},
        ': the field rewards is missing, and Hopper-v5 is no single task of OGBench, which gives '
        "them: take one of OGBench's (`env`=antmaze-large-navigate-singletask-task1-v0), or write "
        'rewards and masks (0 at success) into the file',
    ),
    'no masks': ({'masks': None}, ': the field masks is missing (there is: actions, '),
    'nan': (
        {'observations': SPOILT},
        ', row 4, field observations[1]: nan (1 rows are not finite)',
    ),
    'lengths': (
        {'terminals': np.zeros(7)},
        ': the field terminals has 7 rows, observations has 8; the file is incomplete',
    ),
    'images': (
        {'observations': np.zeros((8, 4, 4, 3))},
        ': the field observations has shape (8, 4',
    ),
    'words': ({'actions': table(['a'] * 8)}, ': the field actions has type <U1, not numbers'),
    'empty': ({'observations': np.zeros((0, 3))}, ': the field observations has no rows'),
    'masks': ({'masks': ROW / 7}, ', row 1, field masks: 0.142857 is neither 0 nor 1'),
    'pickle': (
        {'actions': np.array([[0.5, None]] * 8, dtype=object)},
        ': the field actions holds pickled objects, which could run code and are not read; write',
    ),
    'actions': (
        {'actions': table(2 + ROW, 2)},
        ', episode 1, row 2, field actions[0]: 8 is outside of the box',
    ),
    'nothing left': ({'terminals': np.ones(8)}, ': no row has a successor'),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_read__bad_data_and_good_data_afterwards(file, name):
    changes, expected = MISTAKES[name]
    assert message(file(**changes)).startswith(expected)
    assert columns(file())[0] == [0, 1, 2, 4, 5, 6]


def test_read__a_truncated_file_and_a_good_one_afterwards(file):
    path = file()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert message(path).startswith(': cannot be read, the file is truncated or of another kind (')
    flipped = bytearray(whole)
    flipped[whole.index(b'rewards.npy') + 60] ^= 255
    path.write_bytes(flipped)
    assert message(path).startswith(': cannot be read')
    path.write_bytes(whole)
    assert load_file(path).card['episodes'] == 2


def test_read__a_file_that_is_no_archive_is_not_opened(file):
    path = file()
    path.write_bytes(pickle.dumps({'observations': [1]}))
    assert message(path) == ': this is no npz archive; fetch or write it again'
    path.write_bytes(b'')
    assert message(path) == ': this is no npz archive; fetch or write it again'


def test_read__the_published_format(ogbench_file, single):
    """Its first task's goal lies at (36, 24)."""
    goal = dataclasses.replace(single, env_kwargs={'goal': (36, 24)})
    data = load_file(ogbench_file, goal)
    assert (data.card['transitions'], data.card['episodes']) == (200_000, 200)
    assert data.spec == Spec(obs_dim=29, action_dim=8)
    near = np.linalg.norm(data.transitions.obs[:, :2] - [36, 24], axis=1) <= 0.5
    assert near.any()
    assert (data.transitions.reward == near - 1.0).all()
    assert (data.transitions.mask == 1 - near).all()


@pytest.mark.parametrize(('number', 'goal'), [(1, (36, 24)), (2, (0, 24)), (5, (12, 16))])
def test_read__ogbenchs_own_environment_gives_the_goal(ogbench_file, number, goal):
    pytest.importorskip('ogbench', reason='ogbench, an extra, is not installed')
    task = TASKS[f'antmaze-large-navigate-singletask-task{number}-v0']
    data = load_file(ogbench_file, task)
    near = np.linalg.norm(data.transitions.obs[:, :2] - goal, axis=1) <= 0.5
    assert near.any()
    assert (data.transitions.reward == near - 1.0).all()
    assert (data.transitions.mask == 1 - near).all()
    assert data.card['success_rate'] == data.card['score'] / 100
    assert data.card['success_rate'] > 0


def test_read__an_arms_rewards_count_the_parts_that_do_not_hold(tmp_path):
    """Three rows of one cube: at its place, 3 cm beside it, 5 cm beside it."""
    pytest.importorskip('ogbench', reason='ogbench, an extra, is not installed')
    task = TASKS['cube-single-play-singletask-task1-v0']
    with contextlib.closing(make_env(task)) as env:
        env.reset(seed=0)
        place = env.unwrapped._data.mocap_pos[0].copy()
    qpos = np.zeros((4, 21))
    qpos[:, 14:17] = place + np.array([[0, 0, 0], [0.03, 0, 0], [0.05, 0, 0], [0, 0, 0]])
    path = tmp_path / 'cube-single-play-v0.npz'
    fields = {'actions': np.zeros((4, 5)), 'terminals': np.array([0, 0, 0, 1]), 'qpos': qpos}
    np.savez(path, observations=np.zeros((4, 28)), **fields)
    data = load_file(path, task).transitions
    assert data.reward.tolist() == [0, 0, -1]
    assert data.mask.tolist() == [0, 0, 1]
