"""Why files cannot be read: each reason with its own cure, and removal only for what is damaged."""

import errno
import fcntl
import zipfile

import h5py
import numpy as np
import pytest

from dtql_jax.tasks.unreadable import explained
from dtql_jax.types import UserError
from tests.helpers.permissions import obeying_permissions


def reason(error, **kwargs):
    """The line for an error."""
    with pytest.raises(UserError) as caught, explained('x', **kwargs):
        raise error
    text = str(caught.value)
    assert '\n' not in text
    assert text.startswith('x: cannot be read, ')
    return text.removeprefix('x: cannot be read, ')


def test_explained__one_line_for_damage_and_none_for_user_errors():
    assert reason(OSError('a\nb')) == (
        'the file is truncated or of another kind (a b); fetch or write it again'
    )
    assert reason(KeyError('x'), damaged='mend it').endswith('; mend it')
    with pytest.raises(UserError, match=r'^mine$'), explained('x'):
        raise UserError('mine')


@pytest.mark.parametrize(
    ('error', 'expected'),
    [
        (PermissionError(errno.EACCES, 'no', 'f'), 'this user may not read it'),
        (BlockingIOError(errno.EAGAIN, 'unable to lock file'), 'another process holds it open'),
        (OSError(errno.ENOLCK, 'unable to lock file, errno = 37'), 'export HDF5_USE_FILE_LOCKING='),
        (OSError('file is already open for write/SWMR write'), 'has not closed it'),
        (OSError("Can't open (required filter 'blosc' is not registered)"), 'hdf5plugin'),
        (OSError("(can't open directory (/usr/lib/hdf5/plugin). Please verify"), 'hdf5plugin'),
        (OSError('bad superblock version number'), 'newer version of HDF5'),
        (OSError(errno.EIO, 'Input/output error'), 'the system cannot read it'),
        (OSError(errno.EMFILE, 'Too many open files'), 'the system cannot read it'),
        (FileNotFoundError(errno.ENOENT, 'No such file', 'f'), 'there is no such file'),
        (IsADirectoryError(errno.EISDIR, 'Is a directory', 'f'), 'it is a folder'),
        (ModuleNotFoundError('No module', name='pyarrow'), 'the package that has pyarrow'),
        (
            ImportError('no. Please install it using `pip install "minari[arrow]"`'),
            'a package is missing (no. Please install it using `pip install "minari[arrow]"`); '
            'pip install "minari[arrow]"',
        ),
        (RuntimeError('Compression requires the (missing) lzma module'), 'a package is missing'),
        (NotImplementedError('That compression method is not supported'), 'numpy.savez'),
        (RuntimeError("File 'a' is encrypted, password required"), 'it is encrypted'),
        (ValueError('Object arrays cannot be loaded when allow_pickle=False'), 'pickled Python'),
    ],
)
def test_explained__a_healthy_file_is_never_called_broken(error, expected):
    text = reason(error, damaged='remove it')
    assert expected in text
    assert 'remove' not in text
    assert 'truncated' not in text


@pytest.fixture
def file(tmp_path):
    with h5py.File(tmp_path / 'a.hdf5', 'w') as stored:
        stored['x'] = np.zeros(3)
    return tmp_path / 'a.hdf5'


def read(path):
    with explained(str(path)), h5py.File(path, 'r') as stored:
        return stored['x'][()]


def test_explained__a_real_lock_and_a_good_read_afterwards(file):
    with open(file, 'rb') as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match='another process holds it open and writes it'):
            read(file)
    assert len(read(file)) == 3


def test_explained__real_permissions_and_a_good_read_afterwards(file):
    file.chmod(0)
    with obeying_permissions(), pytest.raises(UserError, match='this user may not read it'):
        read(file)
    file.chmod(0o600)
    assert len(read(file)) == 3


def test_explained__a_real_archive_of_another_compression(tmp_path):
    path = tmp_path / 'a.npz'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('x.npy', b'1234')
    spoilt = bytearray(path.read_bytes())
    spoilt[spoilt.index(b'PK\x01\x02') + 10] = 97  # the method, in the directory of the archive
    path.write_bytes(spoilt)
    with pytest.raises(UserError, match='compressed by a method'), explained(str(path)):
        np.load(path)['x']
