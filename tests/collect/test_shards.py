"""Shards: which are recorded next, whole files, and the same episodes whoever records them."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from dtql_jax.collect import shards
from dtql_jax.collect.base import record
from dtql_jax.collect.shards import Shards, fill, shard_size
from dtql_jax.types import UserError
from tests.helpers import fake_env
from tests.helpers.drifting import DRIFTING, HORIZON, Drift


def played(folder, workers=0, behaviour=DRIFTING, seed=5, steps=100):
    folder.mkdir(exist_ok=True)
    made = Shards(folder, steps, HORIZON, size=2)
    fill(behaviour, made, seed, workers, progress=lambda done: None)
    return made


def flat(made):
    return [array for episode in made.episodes() for _, array in sorted(episode.items())]


def test_shard_size__is_near_the_limit_and_fills_the_last_shard():
    assert shard_size(90_000, 300) == 16  # 4800 steps each
    assert shard_size(2400, 300) == 8
    assert shard_size(1, 300) == 1
    assert shard_size(10_000, 20_000) == 1
    for steps, horizon in ((320_000, 800), (10**6, 1000), (12_345, 67)):
        size = shard_size(steps, horizon)
        assert 0 < size * horizon <= shards.SHARD_STEPS
        episodes = -(-steps // horizon)
        assert -(-episodes // size) * size - episodes < -(-episodes // size)


def test_Shards_missing__is_the_first_gap_until_enough_is_there():
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


def test_Shards_episodes__are_as_many_as_it_takes(tmp_path):
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


def test_fill__neither_workers_nor_gaps_change_the_episodes(tmp_path):
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
def test_fill__an_environment_that_fails_is_told(workers, tmp_path):
    behaviour = dataclasses.replace(DRIFTING, env=fake_env.Broken, action=1.5, noise=0.0)
    with pytest.raises((RuntimeError, ValueError), match='the joint broke') as error:
        played(tmp_path, workers, behaviour)
    assert not workers or 'In the worker: Traceback' in error.value.__notes__[0]
    assert not list(tmp_path.iterdir())


def test_fill__a_worker_that_dies_is_told(tmp_path):
    behaviour = dataclasses.replace(DRIFTING, env=fake_env.Broken, action=3.0, noise=0.0)
    with pytest.raises(
        RuntimeError, match=r'a worker died \(exit code 3\).* the same command goes'
    ):
        played(tmp_path, 2, behaviour)


def test_fill__what_is_not_finite_is_not_recorded(tmp_path):
    behaviour = dataclasses.replace(DRIFTING, env=fake_env.BadReward)
    with pytest.raises(RuntimeError, match='episode 0 of seed 5: rewards not finite'):
        played(tmp_path, 0, behaviour)


def test_Shards_save__a_file_that_cannot_be_written(tmp_path):
    made = Shards(tmp_path / 'nowhere', 10, HORIZON, size=1)
    with pytest.raises(UserError, match=r'shard-000000\.npz cannot be written: .*No such file'):
        made.save(0, [record(fake_env.Walk(), Drift(), HORIZON, 0.0, 5, 0)])


def test_shards__workers_need_no_jax():
    code = (
        'import sys, dtql_jax.collect.shards, dtql_jax.collect.wander\n'
        'import dtql_jax.collect.ant\n'
        'assert "jax" not in sys.modules'
    )
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
