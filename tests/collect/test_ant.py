"""The walking ant: its policy's file, its ways, and the goals it is given."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from dtql_jax.collect.ant import ENVIRONMENT, ant_walk, read_weights
from dtql_jax.collect.base import record
from dtql_jax.tasks.mazes import MAPS
from dtql_jax.tasks.registry import TASKS
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError

MAZE = MAPS['antmaze-umaze']
TASK = Task('walk', ('me/walk-v0',), env_id=ENVIRONMENT, env_kwargs={'maze_map': MAZE}, horizon=700)
SHARED = Path(__file__).parents[3] / 'shared' / 'policies' / 'ant_goal_reach.npz'
SHAPES = {'fc0': (5, 29), 'fc1': (7, 5), 'last_fc': (8, 7)}


@pytest.fixture
def file(tmp_path):
    """Writes a small policy with some fields changed, or left out where they are None."""

    def write(**changes):
        rng = np.random.default_rng(0)
        fields = {}
        for layer, shape in SHAPES.items():
            fields[f'{layer}.w'] = rng.normal(size=shape).astype(np.float32)
            fields[f'{layer}.b'] = rng.normal(size=shape[:1]).astype(np.float32)
        changes = {name.replace('__', '.'): value for name, value in changes.items()}
        fields = {k: v for k, v in (fields | changes).items() if v is not None}
        np.savez(tmp_path / 'ant.npz', **fields)
        return tmp_path / 'ant.npz'

    return write


def test_AntWalk__the_network(file):
    path = file()
    env, policy = ant_walk(TASK, path, 0.0).open()
    env.close()
    obs = {
        'achieved_goal': np.array([0.0, 0.0]),
        'desired_goal': np.array([3.0, 4.0]) * 0.1,
        'observation': np.linspace(-1, 1, 27),
    }
    policy.begin(obs, None)
    action = policy.act(obs)
    with np.load(path) as layers:
        x = np.concatenate([obs['observation'], [6.0, 8.0]])
        for layer in SHAPES:
            x = (
                layers[f'{layer}.w'] @ np.maximum(x, 0 if layer != 'fc0' else -9)
                + (layers[f'{layer}.b'])
            )
    np.testing.assert_allclose(action, np.tanh(x), atol=1e-5)
    assert action.dtype == np.float32


MISTAKES = {
    'missing': ({'fc1__b': None}, r"no field 'fc1\.b'; a policy of the ant has fc0, fc1, last_fc"),
    'input': (
        {'fc0__w': np.ones((5, 28))},
        r'fc0\.w is float64 of shape \(5, 28\); it must be floats of shape \(5, 29\)',
    ),
    'chain': ({'fc1__w': np.ones((7, 6))}, r'fc1\.w .* floats of shape \(7, 5\)'),
    'output': ({'last_fc__b': np.ones(6)}, r'last_fc\.b .* floats of shape \(8,\)'),
    'scalar': ({'fc0__b': np.float32(1)}, r'fc0\.b is float32 of shape \(\)'),
    'text': ({'fc0__b': np.array(['a'] * 5)}, r'fc0\.b is <U1 of shape \(5,\)'),
    'finite': ({'fc0__b': np.full(5, np.nan)}, r'fc0\.b has a number that is not finite'),
    'pickle': ({'fc0__b': np.array([1, None, 2, 3, 4], object)}, 'not an npz file of plain arrays'),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_read_weights__a_file_that_holds_no_policy(name, file):
    changes, message = MISTAKES[name]
    path = file(**changes)
    with pytest.raises(UserError, match=message) as error:
        read_weights(path)
    assert str(error.value).startswith(f'{path}: ')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('content', [b'', b'no zip', b'PK\x03\x04 half a zip'])
def test_read_weights__a_file_that_is_no_npz(content, tmp_path):
    (tmp_path / 'ant.npz').write_bytes(content)
    with pytest.raises(UserError, match=r'ant\.npz: not an npz file of plain arrays'):
        read_weights(tmp_path / 'ant.npz')


def test_read_weights__a_lone_array_is_no_policy(tmp_path):
    np.save(tmp_path / 'ant.npy', np.ones(3))
    with pytest.raises(UserError, match=r'ant\.npy: not an npz file of plain arrays'):
        read_weights(tmp_path / 'ant.npy')


def test_ant_walk__refuses_an_ant_that_the_policy_was_not_made_for(file):
    # As long as there is a task of this name with gymnasium's ant.
    with pytest.raises(UserError, match=r'five times as strong\): `env`=antmaze-medium-play-v2$'):
        ant_walk(TASKS['antmaze-medium-play'], file(), 0.2)
    with pytest.raises(UserError, match=r'^hopper-medium: .* `env`=antmaze-umaze-v2$'):
        ant_walk(TASKS['hopper-medium'], file(), 0.2)


def test_AntWalk__starts_and_goals_lie_in_free_cells(file):
    env, policy = ant_walk(TASK, file(), 0.2).open()
    free = {(float(x), float(y)) for x, y in policy._maze.centres}
    # The start is the origin; x grows with the column, y with the row.
    assert free == {(0, 0), (4, 0), (8, 0), (8, -4), (8, -8), (4, -8), (0, -8)}
    starts, goals = set(), set()
    for seed in range(60):
        obs, info = env.reset(seed=seed)
        cells = [np.round(obs[key] / 4) * 4 for key in ('achieved_goal', 'desired_goal')]
        assert max(np.abs(obs[key] - cell).max() for key, cell in zip(
            ('achieved_goal', 'desired_goal'), cells, strict=True)) <= 1  # fmt: skip
        start, goal = (tuple(cell.tolist()) for cell in cells)
        assert start != goal
        assert not info['success']
        starts.add(start)
        goals.add(goal)
    assert starts == goals == free
    env.close()


def test_AntWalk__draws_a_new_goal_where_one_is_reached(file):
    env, _ = ant_walk(TASK, file(), 0.2).open()
    ant = env.unwrapped
    env.reset(seed=0)
    ant.goal = ant.data.qpos[:2].copy()
    reached, reward, terminated, truncated, info = env.step(np.zeros(8, np.float32))
    after, reward_after, *_ = env.step(np.zeros(8, np.float32))
    assert (reward, info['success'], terminated, truncated) == (1, True, False, False)
    assert np.linalg.norm(reached['desired_goal'] - reached['achieved_goal']) < 0.5
    assert np.linalg.norm(after['desired_goal'] - after['achieved_goal']) > 1
    assert reward_after == 0
    env.close()


def test_AntWalk__the_way_leads_round_the_wall(file):
    env, policy = ant_walk(TASK, file(), 0.2).open()
    env.close()
    maze, at, way = policy._maze, np.array([0.0, 0.0]), []
    goal = maze.centres[maze.cell(np.array([0.0, -8.0]))] + 0.5
    policy.begin(None, None)
    policy._forward = lambda x: x[-2:] / 10
    for _ in range(200):
        at = at + 0.25 * policy.act(
            {'achieved_goal': at, 'desired_goal': goal, 'observation': np.zeros(27)}
        )
        way.append(maze.cell(at))
        assert np.abs(at - maze.centres[way[-1]]).max() <= 2.1, 'in a wall'
    assert np.linalg.norm(at - goal) < 0.5
    assert len(dict.fromkeys(way)) == 7


def test_AntWalk__real_walks(tmp_path):
    if not SHARED.is_file():
        pytest.skip('no ../shared/policies beside the checkout')
    env, policy = ant_walk(TASK, SHARED, 0.2).open()
    walks = [record(env, policy, TASK.horizon, 0.2, 0, number) for number in range(4)]
    env.close()
    assert sum(walk['rewards'].sum() for walk in walks) >= 12
    assert all(walk['success'] for walk in walks)
    # The recorded actions lead D4RL's environment from the recorded state to the next.
    env = gym.make(ant_walk(TASK, SHARED, 0.2).env_spec()).unwrapped
    env.reset(seed=0)
    walk = walks[0]
    for row in (0, 100, 300):
        state = np.concatenate(
            [walk[f'observations/{key}'][row] for key in ('achieved_goal', 'observation')]
        )
        env.set_state(state[:15], state[15:])
        obs, *_ = env.step(walk['actions'][row])
        seen = walk['observations/achieved_goal'][row + 1]
        np.testing.assert_allclose(obs['achieved_goal'], seen, atol=1e-3)
