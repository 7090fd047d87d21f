"""Tables, npz and hdf5 files of one's own, and folders of them."""

import csv
import dataclasses
import sys

import h5py
import numpy as np
import pytest

from dtql_jax.data import cache
from dtql_jax.data.load import load, with_dataset
from dtql_jax.tasks.own_files import files_in
from dtql_jax.tasks.registry import resolve
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError

# Two episodes of three rows; the first is cut, the second ends.
FIELDS = {
    'obs': np.arange(12.0).reshape(6, 2),
    'action': np.linspace(-1, 1, 6)[:, None],
    'reward': np.arange(6.0),
    'terminal': np.array([0, 0, 0, 0, 0, 1]),
    'episode': np.array([7, 7, 7, 8, 8, 8]),
}
TABLE = {
    'obs_x': FIELDS['obs'][:, 0],
    'obs_y': FIELDS['obs'][:, 1],
    'action': FIELDS['action'][:, 0],
    **{name: FIELDS[name] for name in ('reward', 'terminal', 'episode')},
    'comment': np.array(['a', 'b', 'c', 'd', 'e', 'f, g']),
}
OWN = {
    'obs': ('px', 'py'), 'action': 'command', 'reward': 'r', 'terminal': 'done', 'episode': 'run',
}  # fmt: skip
SPELT = dict(zip(('px', 'py', 'command', 'r', 'done', 'run'), TABLE.values(), strict=False))


def write_csv(path, columns, delimiter=',', start=''):
    """A CSV file."""
    with path.open('w', newline='') as file:
        file.write(start)
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([columns, *zip(*columns.values(), strict=True)])


def part(rows):
    """Some rows of the fields, without the name of their episode."""
    return {name: values[rows] for name, values in FIELDS.items() if name != 'episode'}


def read(path, **changes):
    """The data of a file or folder, by a task without an environment."""
    return load(dataclasses.replace(resolve(f'files:{path}')[0], **changes))


def check(data):
    """The row that follows the cut is not known; the last one needs none."""
    assert data.transitions.obs.tolist() == FIELDS['obs'][[0, 1, 3, 4, 5]].tolist()
    assert data.transitions.next_obs[:, 0].tolist() == [2, 4, 8, 10, 10]
    assert data.transitions.mask.tolist() == [1, 1, 1, 1, 0]
    assert data.transitions.reward.tolist() == [0, 1, 3, 4, 5]
    assert data.length.tolist() == [2, 3]
    assert (data.card['ends'], data.card['timeouts']) == (1, 1)
    assert data.card['source'] == 'files'


def message(path, **changes):
    with pytest.raises(UserError) as caught:
        read(path, **changes)
    assert '\n' not in str(caught.value)
    return str(caught.value)


# Tables.


@pytest.mark.parametrize(('delimiter', 'start'), [(',', ''), (';', ''), ('\t', '\ufeff')])
def test_read__a_csv_file(tmp_path, delimiter, start):
    write_csv(tmp_path / 'robot.csv', TABLE, delimiter, start)
    check(read(tmp_path / 'robot.csv'))


def test_read__a_csv_file_with_columns_of_its_own_and_words(tmp_path):
    words = {
        **SPELT,
        'done': np.where(FIELDS['terminal'], 'True', 'False'),
        'run': np.where(FIELDS['episode'] == 7, 'mon, day', 'tuesday'),
    }
    write_csv(tmp_path / 'robot.csv', words)
    check(read(tmp_path / 'robot.csv', columns=OWN))


def test_read__a_parquet_table_with_lists(tmp_path):
    arrow = pytest.importorskip('pyarrow')
    parquet = pytest.importorskip('pyarrow.parquet')
    columns = {name: arrow.array(values) for name, values in part(slice(6)).items() if
               values.ndim == 1}  # fmt: skip
    columns['observation.state'] = arrow.array(FIELDS['obs'].tolist())
    columns['action'] = arrow.array(FIELDS['action'].tolist())
    columns['episode_index'] = arrow.array(FIELDS['episode'])
    parquet.write_table(arrow.table(columns), tmp_path / 'robot.parquet')
    names = {'obs': 'observation.state', 'episode': 'episode_index'}
    names |= {name: name for name in ('action', 'reward', 'terminal')}
    check(read(tmp_path / 'robot.parquet', columns=names))


def test_read__a_parquet_table_without_the_package(tmp_path, monkeypatch):
    path = tmp_path / 'robot.parquet'
    path.touch()
    monkeypatch.setitem(sys.modules, 'pyarrow.parquet', None)
    assert 'reading a Parquet table needs the package pyarrow' in message(
        tmp_path / 'robot.parquet'
    )


# Files of arrays.


def test_read__one_npz_file_with_our_names(tmp_path):
    np.savez(tmp_path / 'robot.npz', **FIELDS)
    check(read(tmp_path / 'robot.npz'))


def test_read__an_hdf5_file_with_a_group_for_each_episode(tmp_path):
    with h5py.File(tmp_path / 'robot.hdf5', 'w') as file:
        for name, rows in (('first', slice(3)), ('second', slice(3, 6))):
            for field, values in part(rows).items():
                file[f'{name}/{field}'] = values
    check(read(tmp_path / 'robot.hdf5'))


@pytest.mark.parametrize('kind', ['npz', 'hdf5', 'csv'])
def test_read__a_folder_with_a_file_for_each_episode(tmp_path, kind):
    for name, rows in (('e9', slice(3)), ('e10', slice(3, 6))):
        path, fields = tmp_path / f'{name}.{kind}', part(rows)
        if kind == 'npz':
            np.savez(path, **fields)
        elif kind == 'csv':
            write_csv(path, {name: TABLE[name][rows] for name in TABLE if name != 'episode'})
        else:
            with h5py.File(path, 'w') as file:
                file.update(fields)
    (tmp_path / 'notes.txt').touch()
    assert [path.stem for path in files_in(str(tmp_path))] == ['e9', 'e10']
    check(read(tmp_path))
    check(load(with_dataset(Task('own'), tmp_path)))


def test_read__is_cached_until_a_file_of_the_folder_changes(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / 'cache'))
    folder = tmp_path / 'episodes'
    folder.mkdir()
    np.savez(folder / 'a.npz', **part(slice(6)))
    first, again = read(folder), read(folder)
    assert first.card == again.card
    np.savez(folder / 'b.npz', **part(slice(6)))
    assert len(read(folder).length) == 2


def test_read__D4RLs_and_OGBenchs_files_need_no_environment(tmp_path):
    flat = {'observations': FIELDS['obs'], 'actions': FIELDS['action'], 'rewards': FIELDS['reward']}
    cut = np.arange(6) == 2
    with h5py.File(tmp_path / 'own-v2.hdf5', 'w') as file:
        file.update({**flat, 'terminals': FIELDS['terminal'] == 1, 'timeouts': cut})
    check(read(tmp_path / 'own-v2.hdf5'))
    ends = cut | (FIELDS['terminal'] == 1)
    np.savez(tmp_path / 'own-v0.npz', **flat, terminals=ends, masks=1 - FIELDS['terminal'])
    data = read(tmp_path / 'own-v0.npz')
    assert data.transitions.reward.tolist() == [0, 1, 3, 4]


# Mistakes.


def test_read__mistakes_name_the_file_and_the_column(tmp_path):
    path = tmp_path / 'robot.csv'
    write_csv(path, {name: TABLE[name] for name in TABLE if name != 'reward'})
    assert message(path).startswith(f'{path}: the field reward is missing (there is: action, ')
    write_csv(path, {**TABLE, 'reward': ['1', '2', '', '4', '5', '6']})
    text = message(path)
    assert text.startswith(f"{path}: could not convert string '' to float64 at row 2, column 4")
    assert text.endswith('write a number there')
    text = message(path, columns={**OWN, 'reward': 'reword'})
    assert f"{path}: there is no column 'px' (there is: obs_x, obs_y, " in text
    assert "there is no field 'speed'; there are obs, " in message(path, columns={'speed': 'x'})
    write_csv(path, {**TABLE, 'obs_x': ['1', 'nan', '2', '4', '5', '6']})
    assert message(path).startswith(f'{path}, row 1, field obs[0]: nan')


def test_read__files_of_a_folder_that_differ(tmp_path):
    np.savez(tmp_path / 'a.npz', **part(slice(3)))
    np.savez(tmp_path / 'b.npz', **part(slice(3)), success=np.zeros(3))
    text = message(tmp_path)
    assert text.startswith(f'{tmp_path / "a.npz"}: the field is_success is missing, which ')
    np.savez(tmp_path / 'b.npz', **{**part(slice(3)), 'obs': np.zeros((3, 4))})
    assert 'b.npz: the field observations has rows of shape (4,), in ' in message(tmp_path)


def test_resolve__files_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=r'there is no such file or folder: name one'):
        resolve(f'files:{tmp_path}/none.csv')
    with pytest.raises(UserError, match=r'there is no such file or folder: name one'):
        resolve(f'files:{tmp_path}')
