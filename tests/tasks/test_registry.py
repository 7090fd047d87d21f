"""Names, settings and environments of tasks."""

import dataclasses
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import gymnasium as gym
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from dtql_jax.tasks import registry as tasks
from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.mazes import REACHED
from dtql_jax.tasks.registry import TASKS, register, resolve
from dtql_jax.tasks.task import Task, adjust
from dtql_jax.types import UserError

UMAZE, ANT = TASKS['pointmaze-umaze'], TASKS['antmaze-large-diverse']


def test_a_name_without_a_version_is_the_default_and_needs_no_note():
    assert resolve('hopper-medium') == (TASKS['hopper-medium'], None)
    assert TASKS['hopper-medium'].source == 'minari'
    # Where Minari has none, D4RL's own file is the default.
    assert resolve('hopper-medium-replay') == (TASKS['hopper-medium-replay-v2'], None)


def test_d4rls_spelling_with_a_version_is_d4rls_own_file():
    for name in ('hopper-medium-v2', 'antmaze-large-diverse-v0', 'pen-human-v1'):
        task, note = resolve(name)
        assert (task.name, task.source, note) == (name, 'd4rl', None)


def test_a_source_is_asked_for():
    assert resolve('hopper-medium', 'd4rl') == (TASKS['hopper-medium-v2'], None)
    assert resolve('hopper-medium-v2', 'd4rl') == (TASKS['hopper-medium-v2'], None)
    task, note = resolve('walker2d-medium-expert-v2', 'minari')
    assert task is TASKS['walker2d-medium-expert']
    assert note.startswith('walker2d-medium-expert-v2: served by mujoco/walker2d/medium-v0 + mujoc')
    assert "other data than D4RL's" in note
    with pytest.raises(UserError, match='medium-replay does not come from minari: there is --sour'):
        resolve('hopper-medium-replay', 'minari')
    with pytest.raises(UserError, match=r'several versions; name one: --env=antmaze-umaze-v0 or '):
        resolve('antmaze-umaze', 'd4rl')
    with pytest.raises(UserError, match='--source=gym: there are minari, d4rl, ogbench'):
        resolve('hopper-medium', 'gym')


def test_a_files_format_decides_where_the_name_leaves_it_open():
    assert resolve('hopper-medium', None, 'x.hdf5')[0].env_id == 'Hopper-v4'
    assert resolve('hopper-medium', 'minari', 'x.hdf5')[0].env_id == 'Hopper-v5'
    assert resolve('hopper-medium-v2', None, 'some/folder')[0].env_id == 'Hopper-v4'
    assert resolve('hopper-medium', None, 'some/folder')[0].env_id == 'Hopper-v5'
    assert resolve('pointmaze-umaze', None, 'x.hdf5')[0] is UMAZE  # its reader says what is wrong
    with pytest.raises(UserError, match='several versions'):
        resolve('antmaze-umaze', None, 'x.hdf5')


def test_unknown_names_get_the_nearest():
    with pytest.raises(UserError, match="unknown task 'hoper-medium'; nearest: hopper-medium,"):
        resolve('hoper-medium')
    with pytest.raises(UserError, match="'hopper-medium-v0'; nearest: hopper-medium-v2"):
        resolve('hopper-medium-v0')
    with pytest.raises(UserError, match=r'nearest: pointmaze-umaze, .*--list has all'):
        resolve('zzz')
    for name, source in (('minari:', None), ('minari:me/own-v0', 'd4rl')):
        with pytest.raises(UserError, match='names no dataset'):
            resolve(name, source)


def test_register(monkeypatch):
    monkeypatch.setattr(tasks, 'TASKS', dict(TASKS))
    own = register(Task('mine', ('me/mine-v0',), env_id='Hopper-v5', horizon=7))
    assert resolve('mine') == (own, None)
    with pytest.raises(UserError, match="a task 'mine' already"):
        register(own)


def test_settings_are_checked():
    assert adjust(UMAZE, goal='observe').goal == 'observe'
    assert adjust(UMAZE, success_ends=False).score_range is None
    with pytest.raises(UserError, match="goal='none' has no meaning here, use 'observe' or"):
        adjust(UMAZE, goal='none')
    with pytest.raises(UserError, match="goal='relabel' has no meaning here, use 'none'"):
        adjust(TASKS['hopper-medium'], goal='relabel')
    with pytest.raises(UserError, match='success_ends=True needs a goal'):
        adjust(TASKS['hopper-medium'], success_ends=True)
    with pytest.raises(UserError, match="success_ends='no': use True or False"):
        adjust(UMAZE, success_ends='no')
    with pytest.raises(UserError, match="unknown task setting 'horizont'"):
        adjust(UMAZE, horizont=3)
    with pytest.raises(UserError, match="exactly one 'g' cell"):
        dataclasses.replace(UMAZE, env_kwargs={'maze_map': [[1, 'g', 'g']]})


def test_scores():
    assert TASKS['hopper-medium'].score([-20.272305, 3234.3]).tolist() == [0, 100]
    assert UMAZE.score(0.25) == 25
    assert Task('own', ('me/own-v0',)).score(3.0) is None


@pytest.mark.parametrize('task', [UMAZE, TASKS['pointmaze-large'], ANT, TASKS['antmaze-umaze']])
def test_relabel_pins_the_goal_at_its_cell_and_keeps_the_starts_noise(task):
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


def test_the_radius_of_success_is_the_simulators():
    env = make_env(UMAZE).unwrapped
    goal = np.zeros(2)
    radius = REACHED['pointmaze']
    for distance in (radius - 1e-9, radius + 1e-9):
        reached = env.compute_reward(np.array([distance, 0.0]), goal, {})
        assert reached == (distance <= radius)


def test_layouts():
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


def test_success_ends_the_episode_or_not():
    _, reward, terminated, truncated, info = arrive(make_env(UMAZE))
    assert (reward, terminated, truncated, info['success']) == (1.0, True, False, True)
    _, reward, terminated, _, info = arrive(make_env(adjust(UMAZE, success_ends=False)))
    assert (reward, terminated, info['success']) == (1.0, False, True)


def test_the_horizon_truncates():
    env = make_env(dataclasses.replace(UMAZE, horizon=3))
    env.reset(seed=0)
    flags = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(3)]
    assert flags == [(False, False), (False, False), (False, True)]


@pytest.mark.parametrize('name', ['pointmaze-medium', 'antmaze-medium-play', 'walker2d-medium'])
def test_seeds_decide_episodes(name):
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
from dtql_jax.tasks.registry import TASKS, make_env

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


def test_environments_start_in_spawned_processes_without_jax(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(SPAWNED)
    path = {'PYTHONPATH': str(Path(tasks.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, script], env=os.environ | path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str((make_env(UMAZE).reset(seed=0)[0].tolist(), False))


class Uneven(gym.Env):
    """An environment whose action box is not symmetric."""

    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Box(np.array([-1, 0], np.float32), np.ones(2, np.float32))


@pytest.fixture
def uneven():
    gym.register('Uneven-v0', Uneven)
    yield 'Uneven-v0'
    del gym.registry['Uneven-v0']


def test_environments_that_cannot_be_used(uneven):
    task = Task('own', ('me/own-v0',), env_id=uneven, horizon=5)
    with pytest.raises(UserError, match=r'own: the action box .*\.RescaleAction'):
        make_env(task)
    with pytest.raises(UserError, match=r'never ends; set a horizon'):
        make_env(dataclasses.replace(task, horizon=None))
    with pytest.raises(UserError, match='cannot make its environment'):
        make_env(dataclasses.replace(task, env_id='NoSuchThing-v0'))


def test_a_missing_package_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, 'gymnasium_robotics', None)
    monkeypatch.delitem(gym.registry, UMAZE.env_id, raising=False)
    with pytest.raises(UserError, match=r'pip install gymnasium-robotics "gymnasium\[mujoco\]"'):
        make_env(UMAZE)


def test_a_missing_extra_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ogbench', None)
    with pytest.raises(UserError, match=r"OGBench is an extra: pip install -e '\.\[ogbench\]'"):
        make_env(TASKS['cube-single-play-singletask-v0'])


def test_no_model_is_left_in_the_temporary_folder(monkeypatch, tmp_path):
    pytest.importorskip('ogbench', reason='ogbench, an extra, is not installed')
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    names = ('antmaze-umaze', 'antmaze-umaze-v2', 'antmaze-medium-stitch-singletask-v0')
    for name in names:
        make_env(TASKS[name]).reset(seed=0)
    assert not list(tmp_path.iterdir())


def test_own_data_bring_their_environment(tmp_path, monkeypatch):
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
