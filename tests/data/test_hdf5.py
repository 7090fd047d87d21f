"""Arrays of hdf5 files that promise more than the file holds, as a flipped bit makes them."""

import h5py
import numpy as np
import pytest

from dtql_jax.data.hdf5 import incomplete, values
from dtql_jax.data.load import load
from dtql_jax.types import UserError
from tests.helpers.flat_files import load_file, message
from tests.helpers.minari_sets import OWN, episode, write


def flip(path, shape):
    """Sets a high bit of the first dimension of the arrays of this shape."""
    content = path.read_bytes()
    old = b''.join(size.to_bytes(8, 'little') for size in shape)
    assert old in content
    new = (shape[0] + 2**45).to_bytes(8, 'little') + old[8:]
    path.write_bytes(content.replace(old, new))


def test_incomplete__a_flat_file_with_a_flipped_bit(d4rl_file):
    path = d4rl_file()
    flip(path, (7, 3))
    text = message(path)
    assert 'GB' not in text
    assert 'memory' not in text
    assert load_file(d4rl_file()).card['episodes'] == 2


def test_incomplete__a_minari_set_with_a_flipped_bit(root):
    write('me/own-v0', [episode(0, 3)])
    good = load(OWN).card['fingerprint']
    path = root / 'me/own-v0/data/main_data.hdf5'
    before = path.read_bytes()
    flip(path, (4, 3))
    with pytest.raises(
        UserError, match=r'episode 0: cannot be read, the file is truncated'
    ) as told:
        load(OWN)
    assert '\n' not in str(told.value)
    path.write_bytes(before)
    assert load(OWN).card['fingerprint'] == good


def test_incomplete__a_minari_set_whose_writer_was_killed(root):
    write('me/own-v0', [episode(0, 3)])
    with h5py.File(root / 'me/own-v0/data/main_data.hdf5', 'a') as file:
        kind = file['episode_0/actions'].shape, file['episode_0/actions'].dtype
        del file['episode_0/actions']
        file['episode_0'].create_dataset('actions', *kind, chunks=(1, kind[0][1]))[:2] = 0.5
    with pytest.raises(UserError, match=r'actions was never written to its end \(2 of 3 parts\)'):
        load(OWN)


@pytest.mark.parametrize('kind', [{}, {'chunks': (2, 2)}, {'compression': 'gzip'}])
def test_incomplete__whole_arrays_lack_nothing(tmp_path, kind):
    with h5py.File(tmp_path / 'a.hdf5', 'w') as file:
        file.create_dataset('a', data=np.zeros((500, 500)), **kind)
        file.create_dataset('empty', (0, 3))
        file['number'] = 1.0
        assert [incomplete(file[name]) for name in file] == [None] * 3
        unwritten = file.create_dataset('b', (9, 2))
        assert incomplete(unwritten, whole=False) is None
        assert incomplete(unwritten) == 'was never written to its end (0 of 1 parts)'


def test_values__objects_are_not_read(tmp_path):
    with h5py.File(tmp_path / 'a.hdf5', 'w') as file:
        text = file.create_dataset('text', (2, 3), h5py.string_dtype())
        text[0, 0] = 'a'
        file['number'] = 1.5
        assert values(text).tolist() == [[None] * 3] * 2
        assert values(file['number']) == 1.5
