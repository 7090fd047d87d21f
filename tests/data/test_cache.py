"""The cache returns the bits of the source, or reports in one line that it cannot."""

import dataclasses
import errno
import json
import os
import shutil

import gymnasium as gym
import h5py
import numpy as np
import pytest

from dtql_jax.data import cache
from dtql_jax.data import load as load_module
from dtql_jax.data.load import load, with_dataset
from dtql_jax.tasks.registry import TASKS
from dtql_jax.tasks.task import Task, adjust
from dtql_jax.types import UserError
from tests.helpers.cache import entries, equal
from tests.helpers.flat_files import load_file, table
from tests.helpers.minari_sets import MAZE, OWN, episode, walk, write


def d4rl_file(path):
    rows = np.arange(7.0)
    with h5py.File(path, 'w') as file:
        file['observations'] = table(rows)
        file['actions'] = table(0.5 * np.ones(7), 2)
        file['rewards'] = rows
        file['terminals'], file['timeouts'] = rows == 5, rows == 2
    return path


def test_cached__minari_sets(own, unread):
    assert equal(load(OWN), own)


def test_cached__d4rl_files_with_their_notes(folder, tmp_path, request):
    path = d4rl_file(tmp_path / 'own.hdf5')
    first = load_file(path)
    request.getfixturevalue('unread')
    assert first.card['notes']
    assert equal(load_file(path), first)


def test_cached__ogbench_files(folder, tmp_path, request):
    rows = np.arange(8.0)
    fields = {'observations': table(rows), 'actions': table(np.zeros(8), 2)}
    fields |= {'terminals': rows == 3, 'rewards': rows, 'masks': np.ones(8)}
    np.savez(tmp_path / 'own.npz', **fields)
    first = load_file(tmp_path / 'own.npz')
    request.getfixturevalue('unread')
    assert equal(load_file(tmp_path / 'own.npz'), first)


def test_cached__joined_sets_and_reward_transforms(own, request):
    write('me/more-v0', [episode(500, 4)])
    both = dataclasses.replace(OWN, datasets=('me/own-v0', 'me/more-v0'))
    first = load(both, reward='iql_locomotion')
    request.getfixturevalue('unread')
    assert equal(load(both, reward='iql_locomotion'), first)
    assert equal(load(OWN), own)


def test_cached__one_set_by_its_id_and_by_its_folder_has_one_entry(own, folder, root, unread):
    data = load(with_dataset(OWN, root / 'me' / 'own-v0'))
    assert data.card['fingerprint'] == own.card['fingerprint']
    assert len(entries(folder)) == 1


def test_cached__fields_that_no_reader_uses_make_no_other_entry(own, folder, unread):
    task = dataclasses.replace(OWN, name='other', score_range=(0.0, 9.0), eval_episodes=3)
    assert load(task).card['fingerprint'] == own.card['fingerprint']
    assert len(entries(folder)) == 1


def test_cached__each_layout_has_an_entry(root, folder, request):
    write('me/maze-v0', [walk([(1, 1), (0, 0), (-1, -1), (1, 0)], (0, 0), [1, 0, 0])], MAZE)
    relabel = dataclasses.replace(TASKS['pointmaze-umaze'], datasets=('me/maze-v0',), collect=None)
    medium = {**relabel.env_kwargs, 'maze_map': TASKS['pointmaze-medium'].env_kwargs['maze_map']}
    tasks = [
        relabel,
        adjust(relabel, goal='observe'),
        dataclasses.replace(relabel, obs_keys=('achieved_goal', 'observation')),
        dataclasses.replace(relabel, env_kwargs=medium),
    ]
    first = [load(task) for task in tasks]
    assert len({data.card['fingerprint'] for data in first}) == 4
    assert len(entries(folder)) == 4
    request.getfixturevalue('unread')
    assert all(equal(load(task), data) for task, data in zip(tasks, first, strict=True))


def test_cached__another_source_in_the_same_place_replaces_the_entry(own, folder, root, capsys):
    shutil.rmtree(root / 'me' / 'own-v0')
    write('me/own-v0', [episode(7, 3)])
    assert load(OWN).transitions.obs[:, 0].tolist() == [7, 8, 9]
    assert len(entries(folder)) == 1
    assert capsys.readouterr().out == ''


def test_cached__a_change_that_hides_behind_its_old_time_is_noticed(folder, tmp_path):
    path = d4rl_file(tmp_path / 'own.hdf5')
    before = load_file(path).card['fingerprint']
    times = path.stat()
    with h5py.File(path, 'r+') as file:
        file['rewards'][0] = 9
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size
    assert load_file(path).card['fingerprint'] != before


def test_cached__a_reader_of_another_version_reads_again(own, folder, monkeypatch, unread):
    monkeypatch.setattr(cache, 'VERSION', cache.VERSION + 1)
    with pytest.raises(AssertionError, match='the source was read'):
        load(OWN)


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


FILES = [f'{field}.npy' for field in cache.COLUMNS]
DAMAGES = {
    **{f'flipped {name}': (name, lambda path: flip(path, -1)) for name in FILES},
    'flipped header': ('obs.npy', lambda path: flip(path, 9)),
    'flipped bound': (
        'entry.json',
        lambda path: path.write_text(
            path.read_text().replace('"max_action": 1.0', '"max_action": 3.0')
        ),
    ),
    'truncated column': ('obs.npy', lambda path: path.write_bytes(path.read_bytes()[:-8])),
    'empty column': ('obs.npy', lambda path: path.write_bytes(b'')),
    'longer column': ('obs.npy', lambda path: path.write_bytes(path.read_bytes() + b'1234')),
    'missing column': ('reward.npy', lambda path: path.unlink()),
    'missing index': ('entry.json', lambda path: path.unlink()),
    'truncated index': ('entry.json', lambda path: path.write_bytes(path.read_bytes()[:99])),
    'no index': ('entry.json', lambda path: path.write_bytes(b'\xff\x00{')),
    'another index': ('entry.json', lambda path: path.write_text('[1, 2]\n')),
}


@pytest.mark.parametrize('name', DAMAGES)
def test_cached__a_damaged_entry_is_reported_and_replaced(own, folder, capsys, request, name):
    (entry,) = entries(folder)
    file, damage = DAMAGES[name]
    before = (entry / file).read_bytes()
    damage(entry / file)
    assert not (entry / file).exists() or (entry / file).read_bytes() != before
    assert equal(load(OWN), own)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f'me/own-v0: cached in {entry}, but ')
    assert line.endswith('; reading the source')
    if file != 'entry.json':
        assert file in line
    request.getfixturevalue('unread')
    assert equal(load(OWN), own)
    assert capsys.readouterr().out == ''


def test_cached__columns_are_plain_npy_files(own, folder):
    (entry,) = entries(folder)
    assert {path.name for path in entry.iterdir()} == {*FILES, 'entry.json'}
    obs = np.load(entry / 'obs.npy', allow_pickle=False)
    assert obs.tobytes() == own.transitions.obs.tobytes()
    assert json.loads((entry / 'entry.json').read_text())['content']['max_action'] == 1.0


def test_cached__a_folder_that_cannot_be_made_stops_nothing(own, tmp_path, monkeypatch, capsys):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('DTQL_DATA_CACHE', str(tmp_path / 'file' / 'cache'))
    assert equal(load(OWN), own)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith('me/own-v0: not cached for the next time (')
    assert line.endswith('); export DTQL_DATA_CACHE=/path/to/a/folder')


def test_cached__a_full_disk_stops_nothing_and_leaves_nothing(root, folder, monkeypatch, capsys):
    def full(path, array):
        path.write_bytes(b'some')
        raise OSError(errno.ENOSPC, 'No space left on device')

    write('me/own-v0', [episode(0, 3)])
    with monkeypatch.context() as patch:
        patch.setattr(cache, '_save', full)
        first = load(OWN)
    (line,) = capsys.readouterr().out.splitlines()
    assert 'not cached for the next time ([Errno 28] No space left on device)' in line
    assert list(folder.iterdir()) == []
    assert equal(load(OWN), first)


def test_cached__a_stop_while_writing_leaves_no_entry(root, folder, monkeypatch):
    def stop(path, array):
        raise KeyboardInterrupt

    write('me/own-v0', [episode(0, 3)])
    monkeypatch.setattr(cache, '_save', stop)
    with pytest.raises(KeyboardInterrupt):
        load(OWN)
    assert list(folder.iterdir()) == []


def test_cached__an_absent_source_is_not_served_from_the_cache(own, folder, root):
    shutil.rmtree(root / 'me' / 'own-v0')
    with pytest.raises(UserError, match='dataset me/own-v0 is not in'):
        load(OWN, download=False)


def test_cached__lies_in_the_home_folder_or_where_the_variable_says(root, tmp_path, monkeypatch):
    write('me/own-v0', [episode(0, 3)])
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('DTQL_DATA_CACHE', '')
    load(OWN)
    assert not (tmp_path / 'home').exists()
    monkeypatch.delenv('DTQL_DATA_CACHE')
    load(OWN)
    assert len(entries(tmp_path / 'home' / '.cache' / 'dtql_jax' / 'data')) == 1


def test_cached__a_layout_that_json_cannot_hold_is_not_cached(own, folder):
    strange = dataclasses.replace(OWN, env_kwargs={'reward': object()})
    load(strange)
    assert len(entries(folder)) == 1


def test_cached__another_simulator_under_the_same_name_has_its_own_entry(folder, tmp_path):
    path = d4rl_file(tmp_path / 'own.hdf5')
    with h5py.File(path, 'a') as file:
        del file['timeouts']
    task = Task('own', ('none',), env_id='own-hopper-v0')
    found = {}
    for limit in (2, 3, 2):
        gym.register('own-hopper-v0', gym.spec('Hopper-v5').entry_point, max_episode_steps=limit)
        found[limit] = load_file(path, task).card['timeouts']
        del gym.registry['own-hopper-v0']
    assert found == {2: 2, 3: 1}
    assert len(entries(folder)) == 2


@pytest.mark.parametrize('cached', [True, False])
def test_cached__a_source_that_changes_while_it_is_read(folder, tmp_path, monkeypatch, cached):
    if not cached:
        monkeypatch.setenv('DTQL_DATA_CACHE', '')
    path = d4rl_file(tmp_path / 'own.hdf5')
    read = load_module.FILES['.hdf5']

    def beside_a_writer(*args):
        episodes = read(*args)
        with h5py.File(path, 'a') as file:
            file['rewards'][0] = 5
        return episodes

    with monkeypatch.context() as patch:
        patch.setitem(load_module.FILES, '.hdf5', beside_a_writer)
        with pytest.raises(UserError, match=r'changed while it was read: wait until nothing write'):
            load_file(path)
    assert load_file(path).transitions.reward[0] == 5
