"""Names, settings and environments of tasks."""

import dataclasses
import os
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from dtql_jax import tasks
from dtql_jax.mazes import REACHED
from dtql_jax.tasks import TASKS, Task, adjust, make_env, register, resolve
from dtql_jax.types import UserError

UMAZE, ANT = TASKS['pointmaze-umaze'], TASKS['antmaze-large-diverse']


def test_the_promised_tasks_are_there():
    sizes = ('umaze', 'umaze-diverse', 'medium-play', 'medium-diverse', 'large-play')
    promised = {f'pointmaze-{size}' for size in ('umaze', 'medium', 'large')}
    promised |= {f'antmaze-{size}' for size in (*sizes, 'large-diverse')}
    for robot in ('halfcheetah', 'hopper', 'walker2d'):
        promised |= {f'{robot}-{level}' for level in ('medium', 'expert', 'medium-expert')}
    assert set(TASKS) == promised
    assert all(task.name == name for name, task in TASKS.items())


@pytest.mark.parametrize(
    ('name', 'base', 'source'),
    [
        ('hopper-medium-v2', 'hopper-medium', 'mujoco/hopper/medium-v0'),
        ('antmaze-large-diverse-v0', 'antmaze-large-diverse', 'D4RL/antmaze/large-diverse-v1'),
        ('antmaze-large-diverse-v2', 'antmaze-large-diverse', 'D4RL/antmaze/large-diverse-v1'),
        ('walker2d-medium-expert-v2', 'walker2d-medium-expert', ' + mujoco/walker2d/expert-v0'),
    ],
)
def test_d4rl_spellings_resolve_with_one_line(name, base, source):
    task, note = resolve(name)
    assert task is TASKS[base]
    assert note.startswith(f'{name}: served by ')
    assert source in note
    assert '\n' not in note


def test_registry_names_need_no_note():
    assert resolve('hopper-medium') == (TASKS['hopper-medium'], None)


def test_unknown_names_get_the_nearest():
    with pytest.raises(UserError, match="unknown task 'hoper-medium'; nearest: hopper-medium,"):
        resolve('hoper-medium')
    with pytest.raises(UserError, match=r'nearest: antmaze-large-diverse.*walker2d-medium'):
        resolve('zzz')
    with pytest.raises(UserError, match='names no dataset'):
        resolve('minari:')


@pytest.mark.parametrize('version', ['', '-v2'])
def test_medium_replay_says_what_there_is(version):
    with pytest.raises(UserError, match=r'Minari has no medium-replay set .* hopper-medium, '):
        resolve(f'hopper-medium-replay{version}')


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
    for distance in (REACHED - 1e-9, REACHED + 1e-9):
        reached = env.compute_reward(np.array([distance, 0.0]), goal, {})
        assert reached == (distance <= REACHED)


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
from dtql_jax.tasks import TASKS, make_env

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
    with pytest.raises(UserError, match=r'pip install gymnasium-robotics "gymnasium\[mujoco\]"'):
        make_env(UMAZE)


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
