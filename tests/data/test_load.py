"""Reward transforms, joins, and where the data come from."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest

from dtql_jax.data.load import load, with_dataset
from dtql_jax.tasks.registry import TASKS
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError
from tests.helpers.minari_sets import BOX, OWN, episode, write


def test_load__transitions_cannot_be_overwritten(root):
    write('me/own-v0', [episode(0, 3)])
    with pytest.raises(ValueError, match='read-only'):
        load(OWN).transitions.reward[0] = 9


def test_load__medium_expert_joins_both_sets_in_order(root):
    task = dataclasses.replace(TASKS['hopper-medium-expert'], env_id=None)
    assert task.datasets == ('mujoco/hopper/medium-v0', 'mujoco/hopper/expert-v0')
    write('mujoco/hopper/expert-v0', [episode(500, 1)])
    write('mujoco/hopper/medium-v0', [episode(0, 2), episode(10, 1)])
    data = load(task)
    assert data.transitions.obs[:, 0].tolist() == [0, 1, 10, 500]
    assert data.transitions.next_obs[:, 0].tolist() == [1, 2, 11, 501]
    assert (data.card['episodes'], data.card['transitions']) == (3, 4)


def test_load__sets_of_other_sizes_do_not_join(root):
    write('me/own-v0', [episode(0, 2)])
    wide = gym.spaces.Box(-2, 2, (2,), np.float32)
    write('me/wide-v0', [episode(0, 2)], BOX, wide)
    with pytest.raises(UserError, match=r'own-v0 and me/wide-v0 cannot be joined.*\(3, 2, 2.0\)'):
        load(dataclasses.replace(OWN, datasets=('me/own-v0', 'me/wide-v0')))


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('none', [1, 2, 3, 1]),
        ('no', [1, 2, 3, 1]),
        ('iql_antmaze', [0, 1, 2, 0]),
        ('cql_antmaze', [2, 6, 10, 2]),
        ('antmaze', [1.5, 3.5, 5.5, 1.5]),
        # returns 6 and 1
        ('iql_locomotion', [200, 400, 600, 200]),
        # mean 7/4, unbiased variance ((3/4)^2 + (1/4)^2 + (5/4)^2 + (3/4)^2) / 3 = 11/12
        ('normalize', (np.array([1, 2, 3, 1]) - 1.75) / np.sqrt(11 / 12)),
    ],
)
def test_load__reward_transforms(root, name, expected):
    write('me/own-v0', [episode(0, 3), episode(0, 1)])
    np.testing.assert_allclose(load(OWN, reward=name).transitions.reward, expected, rtol=1e-6)


@pytest.mark.parametrize('name', ['normalize', 'iql_locomotion'])
def test_load__reward_transforms_without_spread_are_errors(root, name):
    write('me/own-v0', [episode(0, 1), episode(0, 1)])
    with pytest.raises(UserError, match=f"'{name}': all .* are equal"):
        load(OWN, reward=name)


def test_load__unknown_reward_transform_names_the_nearest(root):
    with pytest.raises(UserError, match="'iql_antmase', nearest: iql_antmaze"):
        load(OWN, reward='iql_antmase')


def test_with_dataset__replaces_the_tasks_sets(root, tmp_path_factory, monkeypatch):
    write('me/own-v0', [episode(0, 2)])
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path_factory.mktemp('empty')))
    data = load(with_dataset(TASKS['hopper-medium'], root / 'me' / 'own-v0'), download=False)
    assert len(data.transitions.obs) == 2
    assert data.task.datasets == (str(root / 'me' / 'own-v0'),)
    with pytest.raises(UserError, match='give the folder that contains data/'):
        with_dataset(OWN, root)


def test_with_dataset__a_file_that_is_not_there(tmp_path):
    for name in ('none.hdf5', 'none.npz', 'none.csv'):
        with pytest.raises(UserError) as caught:
            with_dataset(OWN, tmp_path / name)
        text = str(caught.value)
        assert '\n' not in text
        expected = (
            f'{tmp_path / name} is no Minari dataset: give the folder that contains data/, or a '
        )
        assert text.startswith(expected)


def test_load__collects_an_absent_set(root):
    asked = []

    def collect(task, dataset):
        asked.append((task, dataset))
        write(dataset, [episode(0, 2)])
        return True

    data = load(OWN, collect=collect, download=False)
    assert data.transitions.obs[:, 0].tolist() == [0, 1]
    assert asked == [(OWN, 'me/own-v0')]
    load(OWN, collect=collect, download=False)
    assert len(asked) == 1  # it is there now


def test_load__fetches_a_set_that_nobody_collects(root):
    with pytest.raises(UserError, match=r'me/own-v0 is not in .* and downloads are switched off'):
        load(OWN, collect=lambda task, dataset: False, download=False)


def test_load__a_task_without_datasets():
    with pytest.raises(UserError) as caught:
        load(Task('mine', (), env_id='Hopper-v5'))
    assert str(caught.value) == (
        'mine: the task names no dataset; give arrays as `data`, or a folder or file as '
        '`dataset_path`'
    )


def test_load__tells_the_rows_of_each_episode(root):
    write('me/own-v0', [episode(0, 3), episode(0, 1), episode(0, 2)])
    assert load(OWN).length.tolist() == [3, 1, 2]
