"""Each kind of bad data gives one line with dataset, episode, row, field and cure."""

import dataclasses
import json

import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest

from dtql_jax.data import load
from dtql_jax.data import minari as minari_source
from dtql_jax.tasks.env import minari_folder
from dtql_jax.tasks.registry import TASKS
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError
from tests.helpers.minari_sets import BOX, MAZE, episode, walk, write

OWN = Task('own', ('me/own-v0',))


def message(task=OWN, **kwargs):
    with pytest.raises(UserError) as caught:
        load(task, **kwargs)
    text = str(caught.value)
    assert '\n' not in text
    assert load(_good()).card['transitions'] == 2  # what is in order can still be read
    return text


def _good():
    if not minari_folder('me/good-v0').exists():
        write('me/good-v0', [episode(0, 2)])
    return Task('good', ('me/good-v0',))


def spoilt(field, row, value):
    """Three rows, of which one number is not what it should be."""
    array = getattr(episode(0, 3), field).copy()
    array[row] = value
    return episode(0, 3, **{field: array})


@pytest.mark.parametrize(
    ('field', 'row', 'value', 'expected'),
    [
        ('actions', (1, 1), np.nan, 'row 1, field actions[1]: nan (1 rows are not finite)'),
        ('rewards', 2, np.inf, 'row 2, field rewards[0]: inf (1 rows'),
        ('observations', (0, 2), -np.inf, 'row 0, field observations[2]: -inf (1 rows'),
        ('observations', (3, 0), np.nan, 'row 2, field observations (the last)[0]: nan (1 rows'),
        ('observations', (1, 0), 1e39, 'row 1, field observations[0]: inf'),  # beyond float32
    ],
)
def test_not_finite(root, field, row, value, expected):
    write('me/own-v0', [episode(0, 2), spoilt(field, row, value)])
    text = message()
    assert text.startswith(f'me/own-v0, episode 1, {expected}')
    assert text.endswith('remove those episodes')


def test_large_finite_values_pass(root):
    write('me/own-v0', [episode(0, 2), spoilt('observations', (1, 0), 3e38)])
    assert load(OWN).transitions.obs.max() == np.float32(3e38)


def test_actions_outside_of_the_box(root):
    bad = [spoilt('actions', (1, 0), -1.25), spoilt('actions', (0, 1), 1.01)]
    write('me/own-v0', [episode(0, 2), *bad])
    assert message() == (
        'me/own-v0, episode 1, row 1, field actions: |a| = 1.25 is outside of the box [-1, 1], '
        'the worst of 2 rows; clip the actions or correct the action space'
    )


def test_rounding_at_the_edge_of_the_box_passes(root):
    write('me/own-v0', [spoilt('actions', (1, 0), np.float32(1.0000005))])
    assert load(OWN).transitions.action.max() > 1


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        (
            {'observations': np.zeros((4, 2))},
            'field observations has shape (4, 2), expected (4, 3)',
        ),
        (
            {'observations': np.zeros((3, 3))},
            'field observations has shape (3, 3), expected (4, 3)',
        ),
        ({'actions': np.zeros((2, 2))}, 'field actions has shape (2, 2), expected (3, 2)'),
        ({'truncations': np.zeros(4, bool)}, 'field truncations has shape (4,), expected (3,)'),
        ({'observations': [['x'] * 3] * 4}, 'field observations has type object, not numbers'),
    ],
)
def test_malformed_episodes(root, changes, expected):
    write('me/own-v0', [episode(0, 3), episode(0, 3)])
    with h5py.File(root / 'me/own-v0/data/main_data.hdf5', 'a') as file:
        for name, value in changes.items():
            del file['episode_1'][name]
            dtype = h5py.string_dtype() if isinstance(value, list) else None
            file['episode_1'].create_dataset(name, data=value, dtype=dtype)
    text = message()
    assert text.startswith(f'me/own-v0, episode 1: the field {expected.removeprefix("field ")}')
    assert 'record the episode again' in text or 'convert it' in text


def test_an_empty_episode(root):
    write('me/own-v0', [episode(0, 2), episode(0, 2)])
    with h5py.File(root / 'me/own-v0/data/main_data.hdf5', 'a') as file:
        for name in ('actions', 'rewards', 'terminations', 'truncations'):
            file['episode_1'][name].resize(0, axis=0)
    assert message() == 'me/own-v0, episode 1: the episode is empty; remove it from the dataset'


def test_an_empty_dataset(root):
    write('me/own-v0', [])
    assert message() == 'me/own-v0: the dataset has no episodes; record it again'


def test_a_missing_field(root):
    write('me/own-v0', [episode(0, 2), episode(0, 2)])
    with h5py.File(root / 'me/own-v0/data/main_data.hdf5', 'a') as file:
        del file['episode_1/rewards']
    text = message()
    assert text.startswith('me/own-v0, episode 1: cannot be read')
    assert "'rewards' doesn't exist" in text
    assert text.endswith('and fetch or record it again')


def test_a_missing_observation_key(root):
    write('me/own-v0', [walk([(0, 0), (1, 1)], (0, 0)) for _ in range(2)], MAZE)
    with h5py.File(root / 'me/own-v0/data/main_data.hdf5', 'a') as file:
        del file['episode_1/observations/achieved_goal']
    task = dataclasses.replace(TASKS['pointmaze-umaze'], datasets=OWN.datasets)
    assert message(task).startswith(
        'me/own-v0, episode 1: the field achieved_goal is missing '
        '(there is: desired_goal, observation); record it'
    )


def test_a_maze_without_goals(root):
    write('me/own-v0', [episode(0, 2)])
    task = dataclasses.replace(TASKS['pointmaze-umaze'], datasets=OWN.datasets)
    assert 'there must be a Box without, or a Dict with Task.obs_keys' in message(task)


def test_spaces_that_cannot_be_learnt(root):
    high = np.array([1, 2], np.float32)
    for name, space in (
        ('uneven', gym.spaces.Box(-high, high)),
        ('lopsided', gym.spaces.Box(0, 1, (2,))),
        ('endless', gym.spaces.Box(-np.inf, np.inf, (2,))),
    ):
        write(f'me/{name}-v0', [episode(0, 2)], BOX, space)
        text = message(Task('own', (f'me/{name}-v0',)))
        assert text.startswith(f'me/{name}-v0: the action box')
        assert 'gymnasium.wrappers.RescaleAction(env, -1, 1)' in text
    discrete = episode(0, 2, actions=np.zeros(2, int))
    write('me/discrete-v0', [discrete], BOX, gym.spaces.Discrete(2))
    assert 'actions of type Discrete' in message(Task('own', ('me/discrete-v0',)))
    words = episode(0, 2, observations=['a', 'b', 'c'])
    write('me/words-v0', [words], gym.spaces.Text(3))
    assert 'observations of type Text cannot be used' in message(Task('own', ('me/words-v0',)))


@pytest.mark.parametrize('damage', ['truncated', 'no json', 'no metadata', 'no data'])
def test_damaged_files_and_a_good_run_afterwards(root, damage):
    write('me/own-v0', [episode(0, 50) for _ in range(40)])
    folder = root / 'me/own-v0/data'
    name = 'main_data.hdf5' if damage in ('truncated', 'no data') else 'metadata.json'
    whole = (folder / name).read_bytes()
    if damage.startswith('no ') and damage != 'no json':
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(whole[: len(whole) // 2])
    text = message(download=False)
    assert text.startswith('me/own-v0, episode 0: cannot be read')
    assert str(root / 'me/own-v0') in text
    (folder / name).write_bytes(whole)
    assert load(OWN).card['episodes'] == 40


def test_more_episodes_promised_than_there_are(root):
    write('me/own-v0', [episode(0, 2)])
    path = root / 'me/own-v0/data/metadata.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'total_episodes': 3}))
    assert message().startswith('me/own-v0, episode 1: cannot be read')


@pytest.mark.parametrize('count', [2, 4])
def test_other_steps_promised_than_there_are(root, count):
    write('me/own-v0', [episode(0, 2), episode(0, 1)])
    path = root / 'me/own-v0/data/metadata.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'total_steps': count}))
    assert message() == (
        f'me/own-v0: metadata.json promises {count} steps, the first 2 episodes have 3; the set is '
        'incomplete, fetch or record it again'
    )


@pytest.mark.parametrize('damage', ['flipped', 'truncated'])
def test_a_set_that_carries_its_digest(root, damage):
    write('me/own-v0', [episode(0, 50)])
    folder = root / 'me/own-v0'
    path, metadata = folder / 'data/main_data.hdf5', folder / 'data/metadata.json'
    whole = path.read_bytes()
    record = {minari_source.DIGEST_KEY: minari_source.file_digest(path)}
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | record))
    with h5py.File(path) as file:
        at = file['episode_0/observations'].id.get_chunk_info(0).byte_offset
    spoilt = bytearray(whole if damage == 'flipped' else whole[:-1])
    spoilt[at] ^= 1  # the last bit of a number: no other check could find it
    path.write_bytes(spoilt)
    assert message() == (
        f'{path}: the contents are not those that were collected (their SHA-256 is not the '
        f'data_sha256 of metadata.json); remove {folder} and collect again'
    )
    path.write_bytes(whole)
    assert load(OWN).card['transitions'] == 50


def test_file_digest(tmp_path):
    (tmp_path / 'abc').write_bytes(b'abc')
    expected = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
    assert minari_source.file_digest(tmp_path / 'abc') == expected


@pytest.mark.parametrize('reason', ['off', 'no network', 'refused'])
def test_an_absent_dataset_names_the_commands(root, monkeypatch, capfd, reason):
    def refuse(name):
        print('noise')
        raise ConnectionError('no\nroute')

    monkeypatch.setattr(minari_source, '_online', lambda: reason != 'no network')
    monkeypatch.setattr(minari, 'download_dataset', refuse)
    text = message(TASKS['antmaze-large-diverse'], download=reason != 'off')
    assert text.startswith(f'dataset D4RL/antmaze/large-diverse-v1 is not in {root} and ')
    assert 'minari download D4RL/antmaze/large-diverse-v1' in text
    assert 'export MINARI_DATASETS_PATH=' in text
    assert ('the download failed (no route)' in text) == (reason == 'refused')
    assert 'noise' not in capfd.readouterr().out


def test_online_asks_the_host_once(monkeypatch):
    monkeypatch.setattr('urllib.request.getproxies', dict)
    monkeypatch.delenv('MINARI_REMOTE', raising=False)
    monkeypatch.setenv('HF_ENDPOINT', 'http://127.0.0.1:1')
    assert not minari_source._online()
    monkeypatch.setattr('urllib.request.getproxies', lambda: {'https': 'http://proxy'})
    assert minari_source._online()


def test_a_name_that_is_no_dataset_id(root):
    assert message(Task('own', ('no such thing',))) == (
        "'no such thing' is neither a Minari dataset id (like me/my-data-v0) nor its folder"
    )
