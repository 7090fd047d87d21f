"""Environments of tasks: goals, layouts, ends, seeds, and what cannot be made."""

import contextlib
import dataclasses
import sys
import tempfile
import warnings

import gymnasium as gym
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.registry import TASKS, resolve
from dtql_jax.tasks.task import Task, adjust
from dtql_jax.types import UserError
from tests.helpers.own_scripts import run_own_script

UMAZE, ANT = TASKS['pointmaze-umaze'], TASKS['antmaze-large-diverse']


@pytest.mark.parametrize('task', [UMAZE, TASKS['pointmaze-large'], ANT, TASKS['antmaze-umaze']])
def test_make_env__relabel_pins_the_goal_at_its_cell_and_keeps_the_starts_noise(task):
    env = make_env(task)
    starts = []
    for seed in (0, 1):
        starts.append(env.reset(seed=seed)[0][:2])
        maze = env.unwrapped.maze
        np.testing.assert_allclose(env.unwrapped.goal, maze.unique_goal_locations[0])
        np.testing.assert_allclose(env.unwrapped.goal, task.fixed_goal)
        noise = np.abs(starts[-1] - maze.unique_reset_locations[0])
        assert noise.max() <= 0.25 * maze.maze_size_scaling
    assert (starts[0] != starts[1]).all()


def test_make_env__lays_observations_out_as_the_goal_says():
    sizes = {'relabel': (4, 29), 'observe': (6, 31)}
    for goal, expected in sizes.items():
        for task, size in zip((UMAZE, ANT), expected, strict=True):
            env = make_env(adjust(task, goal=goal))
            obs, info = env.reset(seed=0)
            assert obs.shape == env.observation_space.shape == (size,)
            assert obs.dtype == np.float32
            assert info['success'] is False
            if goal == 'observe':  # the episode's own goal, with its noise
                np.testing.assert_allclose(obs[-2:], env.unwrapped.goal, rtol=1e-6)
                assert (np.abs(env.unwrapped.goal - task.fixed_goal) > 1e-3).all()


def arrive(env):
    """Step from within the goal; the step's results."""
    env.reset(seed=0)
    env.unwrapped.point_env.set_state(env.unwrapped.goal, np.zeros(2))
    return env.step(np.zeros(2, np.float32))


def test_make_env__success_ends_the_episode_or_not():
    _, reward, terminated, truncated, info = arrive(make_env(UMAZE))
    assert (reward, terminated, truncated, info['success']) == (1.0, True, False, True)
    _, reward, terminated, _, info = arrive(make_env(adjust(UMAZE, success_ends=False)))
    assert (reward, terminated, info['success']) == (1.0, False, True)


def test_make_env__the_horizon_truncates():
    env = make_env(dataclasses.replace(UMAZE, horizon=3))
    env.reset(seed=0)
    flags = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(3)]
    assert flags == [(False, False), (False, False), (False, True)]


@pytest.mark.parametrize('name', ['pointmaze-medium', 'antmaze-medium-play', 'walker2d-medium'])
def test_make_env__seeds_decide_episodes(name):
    def rollout():
        env = make_env(TASKS[name])
        rng = np.random.default_rng(0)
        seen = [env.reset(seed=5)[0]]
        shape = env.action_space.shape
        seen += [env.step(rng.uniform(-1, 1, shape).astype(np.float32))[0] for _ in range(5)]
        seen.append(env.reset()[0])
        return np.stack(seen)

    np.testing.assert_array_equal(rollout(), rollout())


SPAWNED = """
import multiprocessing, sys
from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.registry import TASKS

def first(task, answers):
    answers.put((make_env(task).reset(seed=0)[0].tolist(), 'jax' in sys.modules))

if __name__ == '__main__':
    context = multiprocessing.get_context('spawn')
    answers = context.Queue()
    process = context.Process(target=first, args=(TASKS['pointmaze-umaze'], answers))
    process.start()
    print(answers.get(timeout=60))
    process.join()
"""


def test_make_env__works_in_spawned_processes_without_jax(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(SPAWNED)
    assert run_own_script(script) == str((make_env(UMAZE).reset(seed=0)[0].tolist(), False))


class Uneven(gym.Env):
    """An environment whose action box is not symmetric."""

    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Box(np.array([-1, 0], np.float32), np.ones(2, np.float32))


@pytest.fixture
def uneven():
    gym.register('Uneven-v0', Uneven)
    yield 'Uneven-v0'
    del gym.registry['Uneven-v0']


def test_make_env__refuses_what_cannot_be_used(uneven):
    task = Task('own', ('me/own-v0',), env_id=uneven, horizon=5)
    with pytest.raises(UserError, match=r'own: the action box .*\.RescaleAction'):
        make_env(task)
    with pytest.raises(UserError, match=r'never ends; set a horizon'):
        make_env(dataclasses.replace(task, horizon=None))
    with pytest.raises(UserError, match='cannot make its environment'):
        make_env(dataclasses.replace(task, env_id='NoSuchThing-v0'))


def test_make_env__a_missing_package_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, 'gymnasium_robotics', None)
    monkeypatch.delitem(gym.registry, UMAZE.env_id, raising=False)
    with pytest.raises(UserError, match=r'pip install gymnasium-robotics "gymnasium\[mujoco\]"'):
        make_env(UMAZE)


def test_make_env__a_missing_extra_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ogbench', None)
    with pytest.raises(UserError, match=r"OGBench is an extra: pip install -e '\.\[ogbench\]'"):
        make_env(TASKS['cube-single-play-singletask-v0'])


@pytest.mark.parametrize(('timing', 'at_once'), [('pre', False), ('post', True)])
def test_make_env__ogbench_judges_success_before_or_after_the_action(timing, at_once):
    """The point is put two steps from its goal; `pre` needs one step more."""
    pytest.importorskip('ogbench', reason='ogbench, an extra, is not installed')
    task = TASKS['pointmaze-medium-navigate-singletask-v0']
    with contextlib.closing(make_env(adjust(task, success_timing=timing))) as env:
        env.reset(seed=0)
        maze = env.unwrapped
        maze.set_xy(maze.cur_goal_xy + np.array([maze._goal_tol + 0.1, 0]))
        _, reward, terminated, _, info = env.step(np.float32([-1, 0]))
        assert np.linalg.norm(maze.get_xy() - maze.cur_goal_xy) < maze._goal_tol
        assert (bool(info['success']), terminated, reward == 0) == (at_once,) * 3
        if not at_once:
            _, reward, terminated, _, info = env.step(np.float32([0, 0]))
            assert (bool(info['success']), terminated, reward) == (True, True, 0)


def test_make_env__leaves_no_model_in_the_temporary_folder(monkeypatch, tmp_path):
    pytest.importorskip('ogbench', reason='ogbench, an extra, is not installed')
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    names = ('antmaze-umaze', 'antmaze-umaze-v2', 'antmaze-medium-stitch-singletask-v0')
    for name in names:
        make_env(TASKS[name]).reset(seed=0)
    assert not list(tmp_path.iterdir())


def test_make_env__own_data_bring_their_environment(tmp_path, monkeypatch):
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path))
    task, note = resolve('minari:me/own-v0')
    assert note is None
    with pytest.raises(UserError, match='is absent; run: minari download me/own-v0'):
        make_env(task)
    world = gym.make('Pendulum-v1')
    seen = np.stack([world.observation_space.sample() for _ in range(3)])
    episode = EpisodeBuffer(
        observations=seen,
        actions=np.zeros((2, 1), np.float32),
        rewards=np.zeros(2),
        terminations=np.zeros(2, bool),
        truncations=np.zeros(2, bool),
        infos={},
    )
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        minari.create_dataset_from_buffers(
            'me/own-v0', [episode], env='Pendulum-v1', eval_env=gym.spec('Pendulum-v1')
        )
    env = make_env(task)
    assert env.spec.id == 'Pendulum-v1'
    assert env.reset(seed=0)[0].shape == (3,)
    by_folder = make_env(resolve(f'minari:{tmp_path}/me/own-v0')[0])
    assert by_folder.spec.id == 'Pendulum-v1'


def test_make_env__a_task_without_an_environment_and_a_dataset_says_so():
    for task in (Task('own'), Task('own', ('arrays',), source='arrays')):
        with pytest.raises(UserError, match=r'own: it has no environment, .*Task\(\.\.\., env_id='):
            make_env(task)
