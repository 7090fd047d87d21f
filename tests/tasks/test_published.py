"""The published tasks: names, sources, addresses, simulators and their sizes, settings."""

import contextlib
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from dtql_jax.agents.registry import AGENTS, row_of, task_config
from dtql_jax.data.load import load
from dtql_jax.runs.plan import Request, make_plan
from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.registry import TASKS, resolve
from dtql_jax.types import UserError

ROBOTS = ('halfcheetah', 'hopper', 'walker2d')
MAZES = ('umaze', 'umaze-diverse', 'medium-play', 'medium-diverse', 'large-play', 'large-diverse')
# The names in the released code's table.
RELEASED = [
    *(f'{robot}-{x}-v2' for robot in ROBOTS for x in ('medium', 'medium-replay', 'medium-expert')),
    *(f'antmaze-{kind}-{version}' for version in ('v0', 'v2') for kind in MAZES),
    'pen-human-v1',
    'pen-cloned-v1',
    *(f'kitchen-{kind}-v0' for kind in ('complete', 'partial', 'mixed')),
]
URL = 'http://rail.eecs.berkeley.edu/datasets/offline_rl/'
ADDRESSES = {
    'hopper-medium-replay-v2': 'gym_mujoco_v2/hopper_medium_replay-v2.hdf5',
    'antmaze-umaze-v0': 'ant_maze_new/Ant_maze_u-maze_noisy_multistart_False_multigoal_False_'
    'sparse.hdf5',
    'antmaze-medium-play-v2': 'ant_maze_v2/Ant_maze_big-maze_noisy_multistart_True_multigoal_'
    'False_sparse_fixed.hdf5',
    'antmaze-large-diverse-v2': 'ant_maze_v2/Ant_maze_hardest-maze_noisy_multistart_True_multigoal_'
    'True_sparse_fixed.hdf5',
    'pen-cloned-v1': 'hand_dapg_v1/pen-cloned-v1.hdf5',
    'kitchen-mixed-v0': 'kitchen/kitchen_microwave_kettle_bottomburner_light-v0.hdf5',
}
# Sizes of observations and actions in the published data.
SIZES = {
    'halfcheetah-medium': (17, 6),
    'halfcheetah-medium-v2': (17, 6),
    'hopper-expert': (11, 3),
    'hopper-medium-replay': (11, 3),
    'walker2d-medium': (17, 6),
    'walker2d-medium-v2': (17, 6),
    'antmaze-large-diverse': (29, 8),
    'antmaze-large-diverse-v2': (29, 8),
    'pointmaze-large': (4, 2),
    'pen-human': (45, 24),
    'door-human': (39, 28),
    'hammer-cloned-v1': (46, 26),
    'relocate-expert': (39, 30),
    'kitchen-complete': (59, 9),
    'kitchen-mixed-v0': (60, 9),
    'antmaze-large-navigate-singletask-task1-v0': (29, 8),
    'cube-single-play-singletask-v0': (28, 5),
}


def test_published__has_every_task_of_the_released_code_from_d4rl():
    assert len(RELEASED) == 26
    for name in RELEASED:
        assert resolve(name)[0].source == 'd4rl'


def test_published__has_what_minari_has_from_there_too():
    for name in RELEASED:
        if 'replay' not in name:
            assert resolve(name, 'minari')[0].source == 'minari'


@pytest.mark.parametrize('name', ADDRESSES)
def test_published__addresses(name):
    assert TASKS[name].datasets == (URL + ADDRESSES[name],)


def test_published__minaris_medium_expert_is_both_sets():
    sets = TASKS['hopper-medium-expert'].datasets
    assert sets == ('mujoco/hopper/medium-v0', 'mujoco/hopper/expert-v0')


@pytest.mark.parametrize('name', SIZES)
def test_published__simulators_have_the_sizes_of_their_data_and_can_be_played(name):
    task, _ = resolve(name)
    if task.source == 'ogbench':
        pytest.importorskip('ogbench', reason='ogbench, an extra, is not installed')
    with contextlib.closing(make_env(task)) as env:
        shape = (env.observation_space.shape[0], env.action_space.shape[0])
        assert shape == SIZES[name]
        assert env.spec.max_episode_steps == task.horizon
        obs, _ = env.reset(seed=0)
        env.action_space.seed(0)
        for _ in range(3):
            obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
            assert obs.shape == (SIZES[name][0],)
            assert np.isfinite(obs).all()
            assert np.isfinite(reward)
            assert not terminated
            assert not truncated
        if task.tells_success:
            assert not info['success']


def test_published__ogbenchs_horizons_are_its_own():
    pytest.importorskip('ogbench', reason='ogbench, an extra, is not installed')
    gym.make('ogbench:cube-single-v0').close()  # registers all
    tasks = [task for task in TASKS.values() if task.source == 'ogbench']
    assert len(tasks) == 6 * 47
    for task in tasks:
        assert task.horizon == gym.spec(task.env_id.removeprefix('ogbench:')).max_episode_steps


def test_published__v0_and_v2_differ_in_their_files_only():
    for kind in MAZES:
        old, new = TASKS[f'antmaze-{kind}-v0'], TASKS[f'antmaze-{kind}-v2']
        assert old.datasets != new.datasets
        assert (old.env_id, old.env_kwargs, old.base) == (new.env_id, new.env_kwargs, new.base)


@pytest.mark.parametrize('agent', ['dtql', 'diffusion_ql'])
def test_published__every_task_has_settings(agent):
    for task in TASKS.values():
        assert row_of(agent, task.rows) is not None, task.name
        config = task_config(agent, task.rows)
        if task.source == 'ogbench':  # its rewards are -1 and 0 already
            assert config.reward == 'none'


@pytest.mark.parametrize('agent', AGENTS)
def test_published__d4rls_task_has_the_settings_of_its_name_without_version(agent):
    released, default = TASKS['antmaze-large-play-v0'], TASKS['antmaze-large-play']
    row = row_of(agent, released.rows)
    assert row == row_of(agent, default.rows)
    assert row == 'antmaze-large-play' or not AGENTS[agent].table


def test_published__every_task_without_data_resolves_to_one_message(tmp_path, monkeypatch):
    for variable in ('MINARI_DATASETS_PATH', 'D4RL_DATASET_DIR', 'OGBENCH_DATASET_DIR'):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    for name in TASKS:
        plan = make_plan(Request(env=name))
        if plan.task.collect is None and plan.task.source != 'made':
            with pytest.raises(UserError) as caught:
                load(plan.task, reward=plan.config.reward, download=False)
            text = str(caught.value)
            assert '\n' not in text
            assert 'downloads are switched off' in text
            assert 'with a network run: ' in text
            assert Path(plan.task.datasets[0]).name in text
