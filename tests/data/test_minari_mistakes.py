"""Minari sets that are damaged or absent: one line names the set and the cure."""

import dataclasses
import json

import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest

from dtql_jax.data import minari as minari_reader
from dtql_jax.data.digest import DIGEST_KEY, file_digest
from dtql_jax.data.load import load
from dtql_jax.tasks.registry import TASKS
from dtql_jax.tasks.task import Task
from tests.helpers.minari_sets import BOX, OWN, episode, message, write


def test_read__an_empty_dataset(root):
    write('me/own-v0', [])
    assert message() == 'me/own-v0: the dataset has no episodes; record it again'


def test_read__a_missing_field(root):
    write('me/own-v0', [episode(0, 2), episode(0, 2)])
    with h5py.File(root / 'me/own-v0/data/main_data.hdf5', 'a') as file:
        del file['episode_1/rewards']
    text = message()
    assert text.startswith('me/own-v0, episode 1: cannot be read')
    assert "'rewards' doesn't exist" in text
    assert text.endswith('from where it came, or record the set again under another name')


def test_read__a_maze_without_goals(root):
    write('me/own-v0', [episode(0, 2)])
    task = dataclasses.replace(TASKS['pointmaze-umaze'], datasets=OWN.datasets)
    assert 'they must be a Box, or a Dict whose keys in Task.obs_keys' in message(task)


def test_read__spaces_that_cannot_be_learnt(root):
    high = np.array([1, 2], np.float32)
    for name, space in (
        ('uneven', gym.spaces.Box(-high, high)),
        ('lopsided', gym.spaces.Box(0, 1, (2,))),
    ):
        write(f'me/{name}-v0', [episode(0, 2)], BOX, space)
        text = message(Task('own', (f'me/{name}-v0',)))
        assert text.startswith(f'me/{name}-v0: the action box')
        assert 'gymnasium.wrappers.RescaleAction(env, -1, 1)' in text
    write('me/endless-v0', [episode(0, 2)], BOX, gym.spaces.Box(-np.inf, np.inf, (2,)))
    assert message(Task('own', ('me/endless-v0',))).startswith(
        'me/endless-v0: the action box Box(-inf, inf, (2,), float32) has no bounds, and those of '
        'the simulator are not known (own: me/endless-v0 records no environment; name one: '
    )
    discrete = episode(0, 2, actions=np.zeros(2, int))
    write('me/discrete-v0', [discrete], BOX, gym.spaces.Discrete(2))
    assert 'actions of type Discrete' in message(Task('own', ('me/discrete-v0',)))
    words = episode(0, 2, observations=['a', 'b', 'c'])
    write('me/words-v0', [words], gym.spaces.Text(3))
    assert 'observations of type Text cannot be used' in message(Task('own', ('me/words-v0',)))


@pytest.mark.parametrize('damage', ['truncated', 'no json', 'no metadata', 'no data'])
def test_read__damaged_files_and_a_good_run_afterwards(root, damage):
    write('me/own-v0', [episode(0, 50) for _ in range(40)])
    folder = root / 'me/own-v0/data'
    name = 'main_data.hdf5' if damage in ('truncated', 'no data') else 'metadata.json'
    whole = (folder / name).read_bytes()
    if damage.startswith('no ') and damage != 'no json':
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(whole[: len(whole) // 2])
    text = message(OWN, download=False)
    assert 'cannot be read, ' in text
    assert str(root / 'me/own-v0') in text
    (folder / name).write_bytes(whole)
    assert load(OWN).card['episodes'] == 40


def test_read__more_episodes_promised_than_there_are(root):
    write('me/own-v0', [episode(0, 2)])
    path = root / 'me/own-v0/data/metadata.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'total_episodes': 3}))
    assert message().startswith('me/own-v0, episode 1: cannot be read')


@pytest.mark.parametrize('count', [2, 4])
def test_read__other_steps_promised_than_there_are(root, count):
    write('me/own-v0', [episode(0, 2), episode(0, 1)])
    path = root / 'me/own-v0/data/metadata.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'total_steps': count}))
    assert message() == (
        f'me/own-v0: metadata.json promises {count} steps, the first 2 episodes have 3; the set is '
        'incomplete, fetch or record it again'
    )


@pytest.mark.parametrize('damage', ['flipped', 'truncated'])
def test_read__a_set_that_carries_its_digest(root, damage):
    write('me/own-v0', [episode(0, 50)])
    folder = root / 'me/own-v0'
    path, metadata = folder / 'data/main_data.hdf5', folder / 'data/metadata.json'
    whole = path.read_bytes()
    record = {DIGEST_KEY: file_digest(path)}
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | record))
    with h5py.File(path) as file:
        at = file['episode_0/observations'].id.get_chunk_info(0).byte_offset
    spoilt = bytearray(whole if damage == 'flipped' else whole[:-1])
    spoilt[at] ^= 1  # the last bit of a number: no other check could find it
    path.write_bytes(spoilt)
    assert message() == (
        f'{path}: the contents differ from what was collected (their SHA-256 is not the '
        f'data_sha256 of metadata.json); remove {folder} and collect again'
    )
    path.write_bytes(whole)
    assert load(OWN).card['transitions'] == 50


@pytest.mark.parametrize('reason', ['off', 'no network', 'refused'])
def test_fetch__an_absent_dataset_names_the_commands(root, monkeypatch, capfd, reason):
    def refuse(name):
        print('noise')
        raise ConnectionError('no\nroute')

    monkeypatch.setattr(minari_reader, '_online', lambda: reason != 'no network')
    monkeypatch.setattr(minari, 'download_dataset', refuse)
    text = message(TASKS['antmaze-large-diverse'], download=reason != 'off')
    assert text.startswith(f'dataset D4RL/antmaze/large-diverse-v1 is not in {root} and ')
    assert 'minari download D4RL/antmaze/large-diverse-v1' in text
    assert 'export MINARI_DATASETS_PATH=' in text
    assert ('the download failed (no route)' in text) == (reason == 'refused')
    assert 'noise' not in capfd.readouterr().out


def test_fetch__a_name_that_is_no_dataset_id(root):
    assert message(Task('own', ('no such thing',))) == (
        "'no such thing' is neither a Minari dataset id (like me/my-data-v0) nor its folder"
    )


def test_online__online_asks_the_host_once(monkeypatch):
    monkeypatch.setattr('urllib.request.getproxies', dict)
    monkeypatch.delenv('MINARI_REMOTE', raising=False)
    monkeypatch.setenv('HF_ENDPOINT', 'http://127.0.0.1:1')
    assert not minari_reader._online()
    monkeypatch.setattr('urllib.request.getproxies', lambda: {'https': 'http://proxy'})
    assert minari_reader._online()


@pytest.mark.parametrize('field', ['terminations', 'truncations'])
@pytest.mark.parametrize('value', [2, 0.5, np.nan])
def test_read__flags_that_are_neither_0_nor_1(root, field, value):
    flags = np.array([0, value, 0])
    write('me/own-v0', [episode(0, 3), episode(0, 3)])
    with h5py.File(root / 'me/own-v0/data/main_data.hdf5', 'a') as file:
        del file[f'episode_1/{field}']
        file[f'episode_1/{field}'] = flags
    assert message() == (
        f'me/own-v0, episode 1, row 1, field {field}: {value:g} is neither 0 nor 1; record the '
        'episode again or remove it'
    )
