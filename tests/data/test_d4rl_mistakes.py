"""D4RL's hdf5 files with a mistake: one line names file, field and cure.

A row's observation is its number, thrice; the fixture `d4rl_file` says which rows end episodes.
"""

import dataclasses

import h5py
import numpy as np
import pytest

from dtql_jax.tasks.env import make_env
from dtql_jax.types import UserError
from tests.helpers.flat_files import OWN, ROW, columns, flags, load_file, message, table
from tests.helpers.minari_sets import episode, write

SPOILT = table(ROW)
SPOILT[4, 1] = np.nan
HUGE = table(ROW)
HUGE[4, 1] = 1e39  # beyond float32
MISTAKES = {
    'missing': (
        {'rewards': None},
        ': the field rewards is missing (there is: actions, observations, terminals, timeouts); '
        'fetch the file again, or write the field into it',
    ),
    'a folder': (
        {'observations': None, 'observations/image': ROW},
        ': the field observations is missing',
    ),
    'nan': (
        {'observations': SPOILT},
        ', row 4, field observations[1]: nan (1 rows are not finite); remove those episodes',
    ),
    'nan action': (
        {'actions': SPOILT[:, :2]},
        ', row 4, field actions[1]: nan (1 rows are not finite); remove those episodes',
    ),
    'nan after': (
        {'next_observations': SPOILT},
        ', row 4, field next_observations[1]: nan (1 rows are not finite)',
    ),
    'infinite': (
        {'rewards': np.where(ROW == 6, np.inf, 1)},
        ', row 6, field rewards[0]: inf (1 rows',
    ),
    'huge': ({'observations': HUGE}, ', episode 1, row 1, field observations[1]: inf (1 rows'),
    'lengths': (
        {'actions': np.zeros((6, 2))},
        ': the field actions has 6 rows, observations has 7; the file is incomplete',
    ),
    'sizes': (
        {'next_observations': np.zeros((7, 2))},
        ': the field next_observations has shape (7, 2), observations has (7, 3); write both',
    ),
    'images': (
        {'observations': np.zeros((7, 4, 4))},
        ': the field observations has shape (7, 4, 4), expected [rows, size]; write it again',
    ),
    'no table': ({'actions': np.zeros(7)}, ': the field actions has shape (7,), expected [rows, '),
    'no column': ({'rewards': np.zeros((7, 2))}, ': the field rewards has shape (7, 2), expected'),
    'a number': ({'rewards': 1.0}, ': the field rewards has shape (), expected [rows]'),
    'no size': ({'observations': np.zeros((7, 0))}, ': the field observations has shape (7, 0)'),
    'words': (
        {'actions': [['a', 'b']] * 7},
        ': the field actions has type object, not numbers; write it again as numbers',
    ),
    'bytes': ({'rewards': np.array([b'1'] * 7)}, ': the field rewards has type |S1, not numbers'),
    'empty': (
        {'observations': np.zeros((0, 3))},
        ': the field observations has no rows; record the file again',
    ),
    'flags': (
        {'terminals': np.arange(7)},
        ', row 2, field terminals: 2 is neither 0 nor 1; write the flags again',
    ),
    'actions': (
        {'actions': table(1.5 * np.ones(7), 2)},
        ', episode 0, row 0, field actions[0]: 1.5 is outside of the box [-1, 1]',
    ),
    'nothing left': (
        {'terminals': flags(), 'timeouts': flags(*range(7))},
        ': no row has a successor (each one ends an episode without being terminal); mend',
    ),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_read__bad_data_and_good_data_afterwards(d4rl_file, name):
    changes, expected = MISTAKES[name]
    assert message(d4rl_file(**changes)).startswith(expected)
    assert columns(d4rl_file())[0] == [0, 1, 3, 4, 5]


def test_read__a_flipped_bit_in_a_compressed_file(d4rl_file):
    path = d4rl_file(observations=None)
    with h5py.File(path, 'a') as storage:
        storage.create_dataset('observations', data=table(ROW), compression='gzip')
        chunk = storage['observations'].id.get_chunk_info(0)
    whole = path.read_bytes()
    spoilt = bytearray(whole)
    spoilt[chunk.byte_offset + chunk.size - 1] ^= 1
    path.write_bytes(spoilt)
    assert message(path).startswith(': cannot be read, the file is truncated or of another kind (')
    path.write_bytes(whole)
    assert columns(path)[0] == [0, 1, 3, 4, 5]


@pytest.mark.parametrize('share', [0, 0.5, 0.95])
def test_read__a_truncated_file_and_a_good_one_afterwards(d4rl_file, share):
    path = d4rl_file()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert message(path).startswith(': cannot be read, the file is truncated or of another kind (')
    path.write_bytes(whole)
    assert load_file(path).card['episodes'] == 2


def test_read__the_file_inside_of_a_minari_set_is_refused(root):
    write('me/own-v0', [episode(0, 3)])
    text = message(root / 'me/own-v0/data/main_data.hdf5')
    assert text.startswith('/episode_0: the field mask is missing (there is: action, obs, reward)')


def test_read__a_file_names_no_environment(d4rl_file):
    nameless = dataclasses.replace(OWN, env_id=None)
    path = d4rl_file()
    assert len(load_file(path, nameless).transitions.obs)  # to train on, and not to play
    with pytest.raises(UserError, match='it has no environment, and no dataset that records one'):
        make_env(dataclasses.replace(nameless, datasets=()))
    with pytest.raises(
        UserError, match=r'hdf5 records no environment; name one: register_task\(Task'
    ):
        make_env(dataclasses.replace(nameless, datasets=(str(path),)))
