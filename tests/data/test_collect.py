"""The embedded collector: deterministic, whole or absent, and an ordinary Minari set."""

import dataclasses

import gymnasium as gym
import minari
import numpy as np
import pytest

from dtql_jax.behaviours import shards
from dtql_jax.data import collect, load
from dtql_jax.tasks import TASKS, make_env
from dtql_jax.types import UserError

TASK = dataclasses.replace(TASKS['pointmaze-umaze'], datasets=('dtql/small-v0',))
STEPS = 8 * TASK.horizon


def test_load_collects_once_and_finds_it_again(root, monkeypatch, capsys):
    monkeypatch.setitem(collect.STEPS, TASK.name, STEPS)
    first = load(TASK)
    assert 'collected dtql/small-v0: 2,400 steps, 8 episodes' in capsys.readouterr().out
    second = load(TASK)
    assert capsys.readouterr().out == ''
    assert second.card == first.card
    assert first.card['timeouts'] == 8
    assert minari.list_local_datasets().keys() == {'dtql/small-v0'}


def test_the_seed_decides(root):
    def fingerprint(name, seed):
        task = dataclasses.replace(TASK, datasets=(f'dtql/{name}-v0',))
        collect.collect_pointmaze(task, STEPS, seed)
        return load(task).card['fingerprint']

    same, again, other = fingerprint('a', 0), fingerprint('b', 0), fingerprint('c', 1)
    assert same == again != other


def test_recorded_rows_replay_exactly(root):
    collect.collect_pointmaze(TASK, TASK.horizon)
    dataset = minari.load_dataset('dtql/small-v0')
    seen = dataset[0].observations['observation']
    env = dataset.recover_environment().unwrapped
    env.reset(seed=0)
    env.point_env.set_state(seen[0, :2], seen[0, 2:])
    for row, action in enumerate(dataset[0].actions):
        obs, *_ = env.step(action)
        np.testing.assert_allclose(obs['observation'], seen[row + 1], atol=1e-9)


def test_the_task_environment_observes_what_the_data_hold(root):
    collect.collect_pointmaze(TASK, TASK.horizon)
    data = load(TASK).transitions
    env = make_env(TASK)
    env.reset(seed=0)
    position, velocity = np.split(data.obs[5].astype(float), 2)
    env.unwrapped.point_env.set_state(position, velocity)
    obs, reward, *_ = env.step(data.action[5])
    np.testing.assert_allclose(obs, data.next_obs[5], atol=1e-5)
    assert obs.dtype == data.obs.dtype
    assert reward == data.reward[5]


def test_the_set_records_the_evaluations_environment(root):
    collect.collect_pointmaze(TASK, TASK.horizon)
    dataset = minari.load_dataset('dtql/small-v0')
    evaluation = dataset.recover_environment(eval_env=True)
    assert evaluation.unwrapped.maze.maze_map == TASK.env_kwargs['maze_map']
    assert evaluation.spec.max_episode_steps == dataset.env_spec.max_episode_steps == TASK.horizon
    assert len(dataset.recover_environment().unwrapped.maze.unique_goal_locations) == 7


def test_a_collection_that_dies_leaves_no_set(root, monkeypatch):
    def die(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, 'record', die)
    with pytest.raises(KeyboardInterrupt):
        collect.collect_pointmaze(TASK, STEPS)
    assert minari.list_local_datasets() == {}
    assert not (root / 'dtql' / 'small-v0').exists()
    monkeypatch.undo()


def test_whoever_comes_second_keeps_the_set_that_is_there(root):
    collect.collect_pointmaze(TASK, TASK.horizon, seed=0)
    before = load(TASK).card
    collect.collect_pointmaze(TASK, TASK.horizon, seed=1)
    assert load(TASK).card == before
    assert not list(root.rglob('.collecting-*'))


def test_a_root_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path / 'file'))
    with pytest.raises(UserError, match=r'cannot write dataset dtql/small-v0 .*export MINARI_'):
        collect.collect_pointmaze(TASK, STEPS)


def test_the_simulators_registry_stays_as_it_was(root):
    before = str(gym.spec('PointMaze_UMaze-v3')) if 'PointMaze_UMaze-v3' in gym.registry else None
    make_env(TASK)
    before = before or str(gym.spec('PointMaze_UMaze-v3'))
    collect.collect_pointmaze(TASK, TASK.horizon)
    assert str(gym.spec('PointMaze_UMaze-v3')) == before
