"""The embedded collector: deterministic, whole or absent, and an ordinary Minari set."""

import dataclasses
import fcntl
import hashlib
import json
import threading

import gymnasium as gym
import minari
import numpy as np
import pytest

from dtql_jax.collect import shards, write
from dtql_jax.collect.base import Behaviour
from dtql_jax.collect.wander import Wander
from dtql_jax.collect.write import collect, collect_missing, default_dataset, default_steps
from dtql_jax.data.digest import DIGEST_KEY
from dtql_jax.data.load import load
from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.registry import TASKS
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError
from tests.helpers.same_sets import assert_same

TASK = dataclasses.replace(TASKS['pointmaze-umaze'], datasets=('dtql/small-v0',))
STEPS = 8 * TASK.horizon


def collect_own(task, steps, seed=0):
    """Collects the task's own set."""
    return collect(Wander(task), task.datasets[0], steps, seed)


def test_collect_missing__load_collects_once_and_finds_it_again(root, monkeypatch, capsys):
    monkeypatch.setitem(write.STEPS, TASK.name, STEPS)
    first = load(TASK, collect=collect_missing)
    assert 'collected dtql/small-v0: 2,400 steps, 8 episodes' in capsys.readouterr().out
    second = load(TASK, collect=collect_missing)
    assert capsys.readouterr().out == ''
    assert second.card == first.card
    assert first.card['timeouts'] == 8
    assert minari.list_local_datasets().keys() == {'dtql/small-v0'}


def test_collect__the_seed_decides(root):
    def fingerprint(name, seed):
        task = dataclasses.replace(TASK, datasets=(f'dtql/{name}-v0',))
        collect_own(task, STEPS, seed)
        return load(task).card['fingerprint']

    same, again, other = fingerprint('a', 0), fingerprint('b', 0), fingerprint('c', 1)
    assert same == again != other


def test_collect__recorded_rows_replay_exactly(root):
    collect_own(TASK, TASK.horizon)
    dataset = minari.load_dataset('dtql/small-v0')
    seen = dataset[0].observations['observation']
    env = dataset.recover_environment().unwrapped
    env.reset(seed=0)
    env.point_env.set_state(seen[0, :2], seen[0, 2:])
    for row, action in enumerate(dataset[0].actions):
        obs, *_ = env.step(action)
        np.testing.assert_allclose(obs['observation'], seen[row + 1], atol=1e-9)


def test_collect__the_tasks_environment_observes_what_the_data_hold(root):
    collect_own(TASK, TASK.horizon)
    data = load(TASK).transitions
    env = make_env(TASK)
    env.reset(seed=0)
    position, velocity = np.split(data.obs[5].astype(float), 2)
    env.unwrapped.point_env.set_state(position, velocity)
    obs, reward, *_ = env.step(data.action[5])
    np.testing.assert_allclose(obs, data.next_obs[5], atol=1e-5)
    assert obs.dtype == data.obs.dtype
    assert reward == data.reward[5]


def test_collect__the_set_records_the_evaluations_environment(root):
    collect_own(TASK, TASK.horizon)
    dataset = minari.load_dataset('dtql/small-v0')
    evaluation = dataset.recover_environment(eval_env=True)
    assert evaluation.unwrapped.maze.maze_map == TASK.env_kwargs['maze_map']
    assert evaluation.spec.max_episode_steps == dataset.env_spec.max_episode_steps == TASK.horizon
    assert len(dataset.recover_environment().unwrapped.maze.unique_goal_locations) == 7


def test_collect__dying_leaves_no_set(root, monkeypatch):
    def die(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, 'record', die)
    with pytest.raises(KeyboardInterrupt):
        collect_own(TASK, STEPS)
    assert minari.list_local_datasets() == {}
    assert not (root / 'dtql' / 'small-v0').exists()
    monkeypatch.undo()


def test_collect__whoever_comes_second_keeps_the_set_that_is_there(root):
    collect_own(TASK, TASK.horizon, seed=0)
    before = load(TASK).card
    collect_own(TASK, TASK.horizon, seed=1)
    assert load(TASK).card == before
    assert not list(root.rglob('.collecting-*'))


def test_collect__a_root_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path / 'file'))
    with pytest.raises(UserError, match=r'cannot write dataset dtql/small-v0 .*export MINARI_'):
        collect_own(TASK, STEPS)


def test_collect__the_simulators_registry_stays_as_it_was(root):
    before = str(gym.spec('PointMaze_UMaze-v3')) if 'PointMaze_UMaze-v3' in gym.registry else None
    make_env(TASK)
    before = before or str(gym.spec('PointMaze_UMaze-v3'))
    collect_own(TASK, TASK.horizon)
    assert str(gym.spec('PointMaze_UMaze-v3')) == before


@pytest.fixture
def small_shards(monkeypatch):
    """Two episodes in each; worker processes are told."""
    monkeypatch.setattr(shards, 'SHARD_STEPS', 2 * TASK.horizon)


def collect_small(name, **changes):
    return collect(Wander(TASK), f'dtql/{name}-v0', STEPS, **changes)


@pytest.mark.slow
def test_collect__workers_change_nothing(root, small_shards):
    done = []
    assert collect_small('here').steps == STEPS
    for workers in (1, 2):
        told = []
        collect_small(f'by{workers}', workers=workers, progress=told.append)
        assert_same('dtql/here-v0', f'dtql/by{workers}-v0')
        assert told == sorted(told)
        done.append((told[0], told[-1]))
    assert done == [(0, STEPS)] * 2
    assert not list(root.rglob('.collecting-*'))


@pytest.fixture
def interrupted(root, small_shards, monkeypatch):
    """A collection that was stopped in its fourth shard; its hidden folder."""
    record = shards.record

    def stop(*args):
        if args[-1] == 7:
            raise KeyboardInterrupt
        return record(*args)

    with monkeypatch.context() as patch:
        patch.setattr(shards, 'record', stop)
        with pytest.raises(KeyboardInterrupt):
            collect_small('stopped')
    return root / 'dtql' / '.collecting-stopped-v0'


def test_collect__goes_on_with_its_shards_after_a_stop(interrupted):
    assert [path.name for path in sorted(interrupted.glob('*.npz'))] == [
        f'shard-{i:06d}.npz' for i in range(3)
    ]
    told = []
    collect_small('stopped', workers=1, progress=told.append)
    assert told == [TASK.horizon * n for n in (6, 7, 8)]
    collect_small('whole')
    assert_same('dtql/whole-v0', 'dtql/stopped-v0')
    assert not interrupted.exists()


def test_collect__records_damaged_and_unfinished_shards_again(interrupted):
    first, second, third = sorted(interrupted.glob('*.npz'))
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.write_bytes(content)
    second.write_bytes(second.read_bytes()[:1000])
    np.savez(third, length=np.array([1], object))
    (interrupted / f'.{first.name}.1').write_bytes(b'half a shard')
    told = []
    collect_small('stopped', progress=told.append)
    assert told == [TASK.horizon * n for n in range(9)]
    collect_small('whole')
    assert_same('dtql/whole-v0', 'dtql/stopped-v0')


def test_collect__other_settings_do_not_go_on(interrupted):
    with pytest.raises(UserError) as error:
        collect_small('stopped', seed=3)
    text = str(error.value)
    assert text.startswith('dtql/stopped-v0 was begun with other settings: seed: begun with 0, ')
    assert 'asked for 3. Ask for the same to go on, choose another name with `dat' in text
    assert f'or remove {interrupted} to start anew' in text
    (interrupted / 'settings.json').write_text('{')
    with pytest.raises(UserError, match=r'settings\.json is damaged .*: remove '):
        collect_small('stopped')


def test_collect__leaves_a_set_that_exists_alone(root):
    assert collect_small('mine') is not None
    before = (root / 'dtql/mine-v0/data/main_data.hdf5').stat()
    assert collect_small('mine', seed=4) is None
    assert (root / 'dtql/mine-v0/data/main_data.hdf5').stat() == before


def test_collect__two_processes_do_not_mix(interrupted, root, capsys):
    """One waits for the other, and then finds the set."""
    results = []
    with (interrupted / 'lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = threading.Thread(target=lambda: results.append(collect_small('stopped')))
        waiting.start()
        while 'waiting for another process that collects dtql/stopped-v0' not in (
            capsys.readouterr().out
        ):
            assert waiting.is_alive()
        (root / 'dtql' / 'stopped-v0').mkdir()
    waiting.join()
    assert results == [None]


def test_collect__minari_reads_the_set_and_what_it_tells_of_itself(root):
    result = collect_small('mine', seed=2)
    dataset = minari.load_dataset('dtql/mine-v0')
    assert (dataset.total_steps, dataset.total_episodes) == (result.steps, result.episodes)
    assert minari.list_local_datasets().keys() == {'dtql/mine-v0'}
    told = json.loads((result.path / 'data' / 'metadata.json').read_text())
    content = (result.path / 'data' / 'main_data.hdf5').read_bytes()
    assert told[DIGEST_KEY] == hashlib.sha256(content).hexdigest()
    assert told['collected'].items() >= {'seed': 2, 'steps': STEPS, 'noise': 0.0}.items()
    assert told['description'].startswith('The pointmaze behaviour: wandering.')
    returns = [episode.rewards.sum() for episode in dataset.iterate_episodes()]
    assert result.mean_return == np.mean(returns)
    assert result.success == np.mean(np.array(returns) > 0)


@pytest.mark.parametrize('name', ['mine', 'v0', 'a b-v0', ''])
def test_dataset_folder__a_name_that_is_none(name, root):
    with pytest.raises(UserError, match=f'^{name!r} is no dataset id: write it like'):
        collect(Wander(TASK), name, STEPS)
    assert not list(root.iterdir())


def test_default_dataset__is_the_tasks_own_for_its_own_wanderer():
    def default(task):
        return default_dataset(Other(task))

    assert default_dataset(Wander(TASKS['pointmaze-large'])) == 'dtql/pointmaze-large-v0'
    # Its own set is what the wanderer makes, and nobody else.
    assert default(TASKS['pointmaze-large']) == 'dtql/pointmaze-large-collected-v0'
    assert default(TASKS['hopper-medium']) == 'dtql/hopper-medium-collected-v0'
    assert default(Task('minari:me/x-v0', ('me/x-v0',))) == 'dtql/me-x-v0-collected-v0'
    without = dataclasses.replace(TASKS['pointmaze-large'], datasets=())
    assert default_dataset(Wander(without)) == 'dtql/pointmaze-large-collected-v0'


def test_default_steps__are_the_tasks_own():
    assert default_steps(TASKS['pointmaze-large']) == 320_000
    assert default_steps(TASKS['hopper-medium']) == 100_000


def test_collect_missing__says_whether_the_task_has_a_collector(root):
    assert collect_missing(TASKS['hopper-medium'], 'mujoco/hopper/medium-v0') is False
    assert not list(root.iterdir())


class Other(Behaviour):
    """Someone else."""

    algorithm = description = settings = env_spec = open = None
