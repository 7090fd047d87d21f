"""Shards: which are played next, whole files, and the same episodes whoever plays them."""

import dataclasses
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

from dtql_jax.collect import shards
from dtql_jax.collect.base import Behaviour, record
from dtql_jax.collect.shards import Shards, fill, shard_size
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError
from tests.helpers import fake_env

HORIZON = 12


class Drift:
    """Random actions about a direction that is drawn at the start of the episode."""

    def begin(self, obs, rng):
        self.rng, self.way = rng, rng.uniform(-0.5, 0.5, 2)

    def act(self, obs):
        return (self.way + self.rng.uniform(-0.5, 0.5, 2)).astype(np.float32)


class Fixed:
    """The same action always."""

    def __init__(self, action):
        self.action = np.full(2, action, np.float32)

    def begin(self, obs, rng):
        pass

    def act(self, obs):
        return self.action


@dataclasses.dataclass(frozen=True)
class Drifting(Behaviour):
    """In episodes of 3 to 12 steps."""

    env: type[gym.Env] = fake_env.Walk
    action: float | None = None

    algorithm = description = 'drift'

    def settings(self):
        return {}

    def env_spec(self):
        raise NotImplementedError

    def open(self):
        return self.env(), Drift() if self.action is None else Fixed(self.action)


DRIFTING = Drifting(Task('walk', ('none',)), 0.3)


def played(folder, workers=0, behaviour=DRIFTING, seed=5, steps=100):
    folder.mkdir(exist_ok=True)
    made = Shards(folder, steps, HORIZON, size=2)
    fill(behaviour, made, seed, workers, progress=lambda done: None)
    return made


def flat(made):
    return [array for episode in made.episodes() for _, array in sorted(episode.items())]


def test_the_numbers_of_a_shard():
    assert shard_size(90_000, 300) == 16  # 4800 steps each
    assert shard_size(2400, 300) == 8
    assert shard_size(1, 300) == 1
    assert shard_size(10_000, 20_000) == 1
    for steps, horizon in ((320_000, 800), (10**6, 1000), (12_345, 67)):
        size = shard_size(steps, horizon)
        assert 0 < size * horizon <= shards.SHARD_STEPS
        episodes = -(-steps // horizon)
        assert -(-episodes // size) * size - episodes < -(-episodes // size)


def test_what_is_missing():
    """Wanted are 100 steps of shards that have 24 at most."""
    made = Shards(None, 100, HORIZON, size=2)
    assert made.missing({}) == 0
    assert made.missing({}, [0, 1]) == 2
    assert made.missing({0: 24, 1: 24, 2: 24, 3: 24}) == 4
    assert made.missing({0: 24, 1: 24, 2: 24, 3: 24}, [4]) is None
    assert made.missing(dict.fromkeys(range(5), 24)) is None
    assert made.missing(dict.fromkeys(range(5), 19)) == 5, 'episodes ended early'
    assert made.missing({0: 24, 2: 24, 3: 24, 4: 24, 5: 24}) == 1, 'a gap'
    assert made.missing({0: 24, 1: 24, 2: 24, 4: 24}, [3]) is None, 'which one is closing'


def test_episodes_that_end_early_are_as_many_as_it_takes(tmp_path):
    made = played(tmp_path)
    episodes = list(made.episodes())
    lengths = [len(episode['actions']) for episode in episodes]
    assert sum(lengths[:-1]) < 100 <= sum(lengths)
    assert len(set(lengths)) > 3
    for number, episode in enumerate(episodes):
        again = record(fake_env.Walk(), Drift(), HORIZON, 0.3, 5, number)
        assert again.keys() == episode.keys()
        for name, values in again.items():
            np.testing.assert_array_equal(values, episode[name], strict=True)
        length = lengths[number]
        assert episode['observations'].shape == (length + 1, 2)
        ends = episode['terminations'] | episode['truncations']
        np.testing.assert_array_equal(ends, np.arange(1, length + 1) == length)
        assert not (episode['terminations'] & episode['truncations']).any()
    assert {bool(episode['success']) for episode in episodes} == {True, False}


def test_an_episode_is_cut_at_the_horizon():
    episode = record(fake_env.Walk(), Drift(), 3, 0.0, 5, 0)
    assert episode['truncations'].tolist() == [False, False, True]
    assert not episode['terminations'].any()


def test_noise_stays_in_the_box():
    actions = record(fake_env.Walk(), Fixed(0.9), 12, 0.5, 0, 0)['actions']
    assert actions.dtype == np.float32
    assert np.abs(actions).max() == 1
    assert len(np.unique(actions)) > 4
    assert (record(fake_env.Walk(), Fixed(0.5), 12, 0.0, 0, 0)['actions'] == 0.5).all()


def test_neither_workers_nor_gaps_change_the_episodes(tmp_path):
    alone = flat(played(tmp_path / 'alone'))
    for workers in (1, 3):
        team = played(tmp_path / f'team{workers}', workers)
        for ours, theirs in zip(flat(team), alone, strict=True):
            np.testing.assert_array_equal(ours, theirs, strict=True)
    team.path(1).unlink()
    team.path(4).unlink()
    for ours, theirs in zip(flat(played(team.folder, 2)), alone, strict=True):
        np.testing.assert_array_equal(ours, theirs, strict=True)
    other = flat(played(tmp_path / 'other', seed=6))
    assert not np.array_equal(other[0], alone[0])


@pytest.mark.parametrize('workers', [0, 1])
def test_an_environment_that_fails_is_told(workers, tmp_path):
    behaviour = dataclasses.replace(DRIFTING, env=fake_env.Broken, action=1.5, noise=0.0)
    with pytest.raises((RuntimeError, ValueError), match='the joint broke') as error:
        played(tmp_path, workers, behaviour)
    assert not workers or 'In the worker: Traceback' in error.value.__notes__[0]
    assert not list(tmp_path.iterdir())


def test_a_worker_that_dies_is_told(tmp_path):
    behaviour = dataclasses.replace(DRIFTING, env=fake_env.Broken, action=3.0, noise=0.0)
    with pytest.raises(
        RuntimeError, match=r'a worker died \(exit code 3\).* the same command goes'
    ):
        played(tmp_path, 2, behaviour)


def test_what_is_not_finite_is_not_recorded(tmp_path):
    behaviour = dataclasses.replace(DRIFTING, env=fake_env.BadReward)
    with pytest.raises(RuntimeError, match='episode 0 of seed 5: rewards not finite'):
        played(tmp_path, 0, behaviour)


def test_a_shard_that_cannot_be_written(tmp_path):
    made = Shards(tmp_path / 'nowhere', 10, HORIZON, size=1)
    with pytest.raises(UserError, match=r'shard-000000\.npz cannot be written: .*No such file'):
        made.save(0, [record(fake_env.Walk(), Drift(), HORIZON, 0.0, 5, 0)])


def test_workers_need_no_jax():
    code = (
        'import sys, dtql_jax.collect.shards, dtql_jax.behaviours.wander\n'
        'import dtql_jax.behaviours.ant\n'
        'assert "jax" not in sys.modules'
    )
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
