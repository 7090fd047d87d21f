"""Files of other people: of strange types, forbidden, locked, lying, larger than the memory."""

import fcntl
import io
import zipfile

import h5py
import numpy as np
import pytest

from dtql_jax.data import memory
from dtql_jax.data.load import load
from dtql_jax.types import UserError
from tests.helpers.flat_files import ARRAYS, ROW, fields, load_file, message, table
from tests.helpers.minari_sets import OWN, episode, write
from tests.helpers.permissions import obeying_permissions

NPZ = {
    'observations': table(ROW),
    'actions': table(0.5 * np.ones(7), 2),
    'terminals': ROW == 3,
    'rewards': ROW,
    'masks': np.ones(7),
}


@pytest.fixture
def npz(tmp_path):
    """Writes an OGBench file, some of whose members are replaced by bytes; its path."""

    def write_file(**members):
        path = tmp_path / 'own.npz'
        np.savez(path, **{name: value for name, value in NPZ.items() if name not in members})
        with zipfile.ZipFile(path, 'a') as archive:
            for name, content in members.items():
                archive.writestr(f'{name}.npy', content)
        return path

    return write_file


def member(shape, content=b'', dtype='<f8'):
    """A file of numpy's that promises this shape."""
    file = io.BytesIO()
    header = {'descr': dtype, 'fortran_order': False, 'shape': shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + content


LIES = {
    'more rows': (member((10**6, 3), table(ROW).tobytes()), 'has shape (1000000, 3), which takes'),
    'far more': (member((10**15, 3)), 'has shape (1000000000000000, 3), which takes'),
    'fewer': (member((2, 3), table(ROW).tobytes()), 'has shape (2, 3), which takes 48 bytes, and'),
    'negative': (member((-7, 3), table(ROW).tobytes()), 'has shape (-7, 3), which takes'),
    'no array': (b'hello, this is no array at all', ': cannot be read'),
    'nothing': (b'', ': cannot be read'),
    'code': (b'\x93NUMPY\x01\x00\x10\x00__import__("os")\n', ': cannot be read'),
}


def test_need__names_that_cannot_be_printed(npz, d4rl_file):
    path = npz()
    np.savez(path, **{'a\nb\x1b': ROW, 'observations': table(ROW)})
    assert r": the field actions is missing (there is: 'a\nb\x1b', observations); " in message(path)


@pytest.mark.parametrize('kind', LIES)
def test_size__a_member_that_lies_about_its_shape(npz, kind):
    content, expected = LIES[kind]
    assert expected in message(npz(observations=content))
    assert load_file(npz()).card['episodes'] == 2


TYPES = {
    'integers': (np.int64(ROW), None),
    'small': (np.int8(ROW), None),
    'halves': (np.float16(ROW), None),
    'big-endian': (ROW.astype('>f8'), None),
    'bools': (ROW > 3, None),
    'long doubles': (ROW.astype(np.longdouble), None),
    'complex': (ROW * 1j, 'type complex128, not numbers'),
    'dates': (ROW.astype('datetime64[s]'), 'type datetime64[s], not numbers'),
    'words': (ROW.astype('U'), 'not numbers'),
    'records': (np.zeros(7, [('a', 'f4')]), 'not numbers'),
    'a column': (ROW[:, None], None),
    'a table': (table(ROW), 'has shape (7, 3), expected [rows]'),
    'nothing': (np.zeros(0), 'the field rewards has no rows'),
}


@pytest.mark.parametrize('kind', TYPES)
@pytest.mark.filterwarnings('error::RuntimeWarning')
def test_check_flat__types_of_rewards_in_all_formats(d4rl_file, tmp_path, kind):
    rewards, expected = TYPES[kind]
    np.savez(tmp_path / 'own.npz', **NPZ | {'rewards': rewards})
    paths = [tmp_path / 'own.npz']
    if kind not in ('dates', 'words', 'long doubles'):  # which hdf5 does not hold
        paths.append(d4rl_file(rewards=rewards))
    for path in paths:
        if expected is None:
            values = np.float32(np.asarray(rewards, float).ravel())
            assert set(load_file(path).transitions.reward) <= set(values)
        else:
            assert expected in message(path)
    if expected is not None:
        with pytest.raises(UserError, match='field reward '):
            load(ARRAYS, arrays=fields(reward=rewards))
    else:
        load(ARRAYS, arrays=fields(reward=rewards))


def test_explained__a_file_that_one_may_not_read(d4rl_file, npz):
    for path in (d4rl_file(), npz()):
        path.chmod(0)
        with obeying_permissions():
            text = message(path)
        assert text.startswith(': cannot be read, this user may not read it (')
        path.chmod(0o644)
        assert load_file(path).card['episodes'] == 2


def test_explained__a_file_that_another_process_writes(d4rl_file):
    path = d4rl_file()
    with path.open('r+b') as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        text = message(path)
        assert text.startswith(': cannot be read, another process holds it open and writes it (')
        assert 'fetch' not in text
    assert load_file(path).card['episodes'] == 2


def test_explained__links_that_lead_nowhere(d4rl_file, tmp_path):
    path = d4rl_file(rewards=None)
    with h5py.File(path, 'a') as file:
        file['rewards'] = h5py.ExternalLink('nowhere.hdf5', '/rewards')
    assert message(path).startswith(
        ': the field rewards is a link to nowhere.hdf5/rewards, which cannot be opened: KeyError: '
    )
    path = d4rl_file(timeouts=None)
    with h5py.File(path, 'a') as file:
        file['timeouts'] = h5py.SoftLink('/nowhere')
    assert ': the field timeouts is a link to /nowhere, which cannot be opened' in message(path)
    path = d4rl_file()
    with h5py.File(path, 'a') as file:
        file['other'] = h5py.ExternalLink('nowhere.hdf5', '/other')
        file['soft'] = h5py.SoftLink('/nowhere')
    assert load_file(path).card['episodes'] == 2  # which no reader needs


@pytest.mark.parametrize('chunks', [None, (2, 3)])
def test_check_written__a_field_that_a_killed_writer_left(d4rl_file, chunks):
    path = d4rl_file(observations=None)
    with h5py.File(path, 'a') as file:
        field = file.create_dataset('observations', (7, 3), 'f8', chunks=chunks)
        if chunks:
            field[:4] = table(ROW)[:4]
    parts = '2 of 4' if chunks else '0 of 1'
    assert message(path) == (
        f': the field observations was never written to its end ({parts} parts); '
        'write the file again'
    )
    with h5py.File(path, 'a') as file:
        file['observations'][...] = table(ROW)
        del file['timeouts']
        file.create_dataset('timeouts', (7,), '?')  # zeros that nobody wrote are flags
    assert load_file(path).card['episodes'] == 1


def test_check_written__a_virtual_field_without_its_file(d4rl_file, tmp_path):
    path = d4rl_file(rewards=None)
    layout = h5py.VirtualLayout((7,), 'f8')
    layout[:] = h5py.VirtualSource('rewards.hdf5', 'rewards', (7,))
    with h5py.File(path, 'a') as file:
        file.create_virtual_dataset('rewards', layout)
    assert message(path) == (
        ': the field rewards lies in rewards.hdf5, which is absent; put the file there, or write '
        'the numbers themselves'
    )
    with h5py.File(tmp_path / 'rewards.hdf5', 'w') as file:
        file['rewards'] = 1 + ROW
    assert load_file(path).transitions.reward.tolist() == [1, 2, 4, 5, 6]


def test_explained__a_plugin_that_is_not_installed(d4rl_file):
    path = d4rl_file(rewards=None)
    with h5py.File(path, 'a') as file:
        space = h5py.h5s.create_simple((7,))
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((7,))
        plist.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (0,))  # Blosc
        made = h5py.h5d.create(file.id, b'rewards', h5py.h5t.NATIVE_DOUBLE, space, plist)
        made.write_direct_chunk((0,), b'\0' * 24)
    text = message(path)
    assert text.startswith(': cannot be read, it is compressed by a filter of HDF5 that is not')
    assert load_file(d4rl_file()).card['episodes'] == 2


def test_explained__compressed_chunks(d4rl_file):
    plain = load_file(d4rl_file()).card['fingerprint']
    path = d4rl_file(observations=None)
    with h5py.File(path, 'a') as file:
        kind = {'chunks': (2, 3), 'compression': 'gzip', 'shuffle': True, 'fletcher32': True}
        file.create_dataset('observations', data=table(ROW), **kind)
    assert load_file(path).card['fingerprint'] == plain


def test_check_written__a_file_that_promises_far_more_than_was_written(d4rl_file):
    path = d4rl_file(observations=None)
    with h5py.File(path, 'a') as file:
        file.create_dataset('observations', (2**44, 3), 'f8', chunks=(1024, 3))
    lack = ': the field observations was never written to its end (0 of 17,179,869,184 parts); '
    assert message(path) == lack + 'write the file again'
    assert load_file(d4rl_file()).card['episodes'] == 2


def test_need__every_format_is_compared_before_it_is_read(d4rl_file, npz, root, monkeypatch):
    write('me/own-v0', [episode(0, 3)])
    paths = [d4rl_file(), npz()]
    with monkeypatch.context() as patch:
        patch.setattr(memory, 'available', lambda: 50)
        for path in paths:
            assert message(path).startswith(': its numbers take 0.0 GB, 0.0 GB of memory are free')
        with pytest.raises(UserError, match=r'^data: its numbers take'):
            load(ARRAYS, arrays=fields())
        with pytest.raises(UserError, match=r'^me/own-v0: its numbers take'):
            load(OWN)
    assert load(OWN).card['transitions'] == 3
    assert load(ARRAYS, arrays=fields()).card['transitions'] == 7


def test_enough__a_lack_of_memory_is_one_line(d4rl_file, monkeypatch, root):
    def fail(*args, **kwargs):
        raise MemoryError('Unable to allocate 9 TiB')

    path = d4rl_file()
    with monkeypatch.context() as patch:
        patch.setattr(memory, 'empty', fail)
        with pytest.raises(UserError) as caught:
            load_file(path)
        assert str(caught.value).startswith('own: the data do not fit into memory (MemoryError: Un')
        write('me/own-v0', [episode(0, 3)])
    assert load_file(path).card['episodes'] == 2


def test_available__tells_the_least_of_what_limits(monkeypatch):
    assert memory.available() is None or memory.available() > 0
    texts = {
        '/proc/meminfo': 'MemTotal: 9 kB\nMemAvailable:   1000 kB\n',
        '/proc/self/cgroup': '0::/job/step\n',
        '/sys/fs/cgroup/job/step/memory.max': '900000\n',
        '/sys/fs/cgroup/job/step/memory.current': '500000\n',
        '/sys/fs/cgroup/job/step/memory.stat': 'anon 7\ninactive_file 100000\n',
    }
    monkeypatch.setattr(memory, '_process', lambda: None)
    monkeypatch.setattr(memory, '_text', lambda path: texts.get(str(path), ''))
    assert memory.available() == 500_000
    texts['/sys/fs/cgroup/job/step/memory.max'] = 'max\n'
    assert memory.available() == 1_024_000
    texts.clear()
    assert memory.available() is None
