"""D4RL's hdf5: which rows become transitions, what ends what, one line for each mistake.

A row's observation is its number, thrice: rows 0 to 2 end by a time-out, 3 to 5 by a terminal, and
row 6 begins an episode that the file does not finish.
"""

import dataclasses

import h5py
import numpy as np
import pytest

from dtql_jax.data import load
from dtql_jax.data.card import format_card
from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.registry import TASKS
from dtql_jax.tasks.task import adjust
from dtql_jax.types import Spec, UserError
from tests.helpers.flat_files import OWN, columns, table
from tests.helpers.minari_sets import episode, write

ANT = TASKS['antmaze-umaze-v2']
ROW = np.arange(7.0)


def flags(*rows, count=7):
    return np.isin(np.arange(count), rows)


@pytest.fixture
def file(tmp_path):
    """Writes the file with some fields changed, or left out where they are None; its path."""

    def write_file(**changes):
        fields = {
            'observations': table(ROW),
            'actions': table(0.5 * np.ones(7), 2),
            'rewards': 1 + ROW,
            'terminals': flags(5),
            'timeouts': flags(2),
        }
        path = tmp_path / 'own-v2.hdf5'
        with h5py.File(path, 'w') as storage:
            for name, value in (fields | changes).items():
                if value is not None:
                    storage[name] = value
            storage['infos/qpos'] = np.zeros((7, 5))
            storage['metadata/algorithm'] = 'SAC'
        return path

    return write_file


def test_the_next_row_is_the_successor_and_a_time_out_has_none(file):
    data = load(OWN, dataset_path=file())
    obs, action, reward, mask, next_obs = data.transitions
    assert obs.tolist() == table([0, 1, 3, 4, 5]).tolist()
    assert next_obs[:4].tolist() == table([1, 2, 4, 5]).tolist()
    assert next_obs[4].tolist() == obs[4].tolist()  # hidden by the mask; never another episode's
    assert reward.tolist() == [1, 2, 4, 5, 6]
    assert mask.tolist() == [1, 1, 1, 1, 0]
    assert action.tolist() == table([0.5] * 5, 2).tolist()
    assert all(array.dtype == np.float32 for array in data.transitions)
    assert data.spec == Spec(obs_dim=3, action_dim=2, max_action=1.0)


def test_the_card_counts_what_is_left_and_says_what_is_not(file):
    path = file()
    card = load(OWN, dataset_path=path).card
    assert (card['datasets'], card['transitions'], card['episodes']) == ([str(path)], 5, 2)
    assert (card['return']['min'], card['return']['max']) == (3, 15)
    assert (card['ends'], card['terminations'], card['timeouts']) == (1, 1, 1)
    (note,) = card['notes']
    assert note == '2 rows at the end of episodes left out: what follows them is not known'
    assert format_card(card).endswith(f'note     {note}')


def test_recorded_next_observations_keep_every_row(file):
    path = file(next_observations=table(ROW + 0.5))
    obs, _, reward, mask, next_obs = columns(path)
    assert obs == ROW.tolist()
    assert next_obs == (ROW + 0.5).tolist()
    assert reward == (1 + ROW).tolist()
    assert mask == [1, 1, 1, 1, 1, 0, 1]  # a time-out does not cut
    card = load(OWN, dataset_path=path).card
    assert (card['episodes'], card['timeouts'], card['notes']) == (3, 1, [])
    assert (card['return']['min'], card['return']['max']) == (6, 15)


def test_without_time_outs_a_leap_ends_an_episode(file):
    after = table(ROW + 1)
    after[0, 1] += 9e-7  # rounding
    after[2, 1] += 2e-6  # a leap
    path = file(timeouts=None, next_observations=after)
    card = load(OWN, dataset_path=path).card
    assert (card['episodes'], card['transitions']) == (3, 7)
    assert (card['return']['min'], card['return']['max']) == (6, 15)
    assert (card['terminations'], card['timeouts']) == (1, 1)


def test_without_both_an_episode_ends_at_the_horizon(file):
    path = file(timeouts=None)
    assert columns(path)[0] == [0, 1, 2, 3, 4, 5]
    two = dataclasses.replace(OWN, horizon=2)
    obs, _, _, mask, next_obs = columns(path, two)
    assert (obs, mask, next_obs) == ([0, 2, 4, 5], [1, 1, 1, 0], [1, 3, 5, 5])
    assert load(two, dataset_path=path).card['timeouts'] == 2


def test_a_terminal_in_the_last_row_is_kept(file):
    obs, _, _, mask, next_obs = columns(file(terminals=flags(6)))
    assert (obs, mask) == ([0, 1, 3, 4, 5, 6], [1, 1, 1, 1, 1, 0])
    assert next_obs == [1, 2, 4, 5, 6, 6]


def test_a_terminal_at_the_time_limit_cuts(file):
    obs, _, _, mask, _ = columns(file(terminals=flags(2)))
    assert (obs, mask) == ([0, 1, 2, 3, 4, 5], [1, 1, 0, 1, 1, 1])


def test_columns_of_width_one_and_numbers_as_flags(file):
    plain = columns(file())
    wide = file(
        rewards=(1 + ROW)[:, None],
        terminals=flags(5).astype(np.float32)[:, None],
        timeouts=flags(2).astype(np.uint8),
    )
    assert columns(wide) == plain


def test_an_episode_of_which_nothing_is_left(file):
    card = load(OWN, dataset_path=file(timeouts=flags(0, 2))).card
    assert (card['transitions'], card['episodes']) == (4, 2)  # rows 1, and 3 to 5
    assert (card['return']['min'], card['timeouts']) == (2, 1)


def test_the_environment_bounds_the_actions(file):
    wide = dataclasses.replace(OWN, env_id='InvertedPendulum-v5')
    path = file(actions=table(2.5 * np.ones(7), 2))
    assert load(wide, dataset_path=path).spec.max_action == 3
    with pytest.raises(UserError, match=r'field actions: \|a\| = 2.5 is outside of the box'):
        load(OWN, dataset_path=path)


def test_reward_transforms_and_the_fingerprint_apply(file):
    path = file()
    assert columns(path, reward='iql_antmaze')[2] == [0, 1, 3, 4, 5]
    scaled = np.array([1, 2, 4, 5, 6]) * 1000 / (15 - 3)
    np.testing.assert_allclose(columns(path, reward='iql_locomotion')[2], scaled, rtol=1e-6)
    first = load(OWN, dataset_path=path).card['fingerprint']
    assert load(OWN, dataset_path=file()).card['fingerprint'] == first
    assert load(OWN, dataset_path=file(rewards=ROW)).card['fingerprint'] != first


def test_files_join_as_sets_of_a_task(file, tmp_path):
    file().rename(tmp_path / 'medium.hdf5')
    file(rewards=-ROW).rename(tmp_path / 'expert.hdf5')
    both = tuple(str(tmp_path / f'{name}.hdf5') for name in ('medium', 'expert'))
    data = load(dataclasses.replace(OWN, datasets=both))
    assert data.transitions.reward.tolist() == [1, 2, 4, 5, 6, 0, -1, -3, -4, -5]
    assert data.card['notes'][1].startswith(f'{both[1]}: 2 rows')


# Antmazes.


def maze(file, **changes):
    """Eight steps along x; the goal is near in rows 3 and 4, and the time is over in row 7."""
    obs = np.zeros((8, 29))
    obs[:, 0] = np.arange(8)
    fields = {
        'observations': obs,
        'actions': np.zeros((8, 8)),
        'rewards': flags(3, 4, count=8).astype(float),
        'terminals': flags(3, 4, count=8),
        'timeouts': flags(7, count=8),
    }
    return file(**fields | changes)


def test_antmaze_keeps_the_recorded_goal_and_a_run_of_terminals_ends_one_episode(file):
    path = maze(file)
    obs, _, reward, mask, next_obs = columns(path, ANT, reward='iql_antmaze')
    assert obs == [0, 1, 2, 3, 4, 5, 6]
    assert next_obs == [1, 2, 3, 4, 4, 6, 7]
    assert mask == [1, 1, 1, 0, 0, 1, 1]
    assert reward == [-1, -1, -1, 0, 0, -1, -1]
    card = load(ANT, dataset_path=path).card
    assert (card['episodes'], card['success_rate'], card['score']) == (2, 0.5, 50)
    assert card['notes'][1:] == [ANT.caveat]


def test_antmaze_v0s_leaps_are_told(file):
    obs = np.zeros((8, 29))
    obs[6:, 1] = 4.1  # a cell has 4 metres
    assert (
        load(ANT, dataset_path=maze(file, observations=obs))
        .card['notes'][0]
        .startswith('1 transitions leap over more than a cell: the time-outs are out of step')
    )


def test_mazes_that_such_a_file_cannot_serve(file):
    path = maze(file)
    for settings in ({'goal': 'observe'}, {'goal': 'relabel'}, {'success_ends': False}):
        with pytest.raises(UserError, match=r'leave out goal=\w+ and success_ends=false'):
            load(adjust(ANT, **settings), dataset_path=path)
    with pytest.raises(UserError, match=r'weaker than .* name the task .* --env=antmaze-umaze-v2'):
        load(TASKS['antmaze-umaze'], dataset_path=path)
    with pytest.raises(UserError, match='maze2d files do not fit pointmaze-umaze'):
        load(TASKS['pointmaze-umaze'], dataset_path=path)


# What is wrong is told in one line with file, field and cure.


def message(path, task=OWN):
    with pytest.raises(UserError) as caught:
        load(task, dataset_path=path)
    text = str(caught.value)
    assert '\n' not in text
    assert text.startswith(str(path))
    return text.removeprefix(str(path))


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
        ', episode 0, row 0, field actions: |a| = 1.5 is outside of the box [-1, 1]',
    ),
    'nothing left': (
        {'terminals': flags(), 'timeouts': flags(*range(7))},
        ': no row has a successor (each one ends an episode without being terminal); mend',
    ),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_bad_data_and_good_data_afterwards(file, name):
    changes, expected = MISTAKES[name]
    assert message(file(**changes)).startswith(expected)
    assert columns(file())[0] == [0, 1, 3, 4, 5]


def test_a_flipped_bit_in_a_compressed_file(file):
    path = file(observations=None)
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
def test_a_truncated_file_and_a_good_one_afterwards(file, share):
    path = file()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert message(path).startswith(': cannot be read, the file is truncated or of another kind (')
    path.write_bytes(whole)
    assert load(OWN, dataset_path=path).card['episodes'] == 2


def test_the_file_inside_of_a_minari_set(root):
    write('me/own-v0', [episode(0, 3)])
    text = message(root / 'me/own-v0/data/main_data.hdf5')
    assert text.startswith(': the field observations is missing (there is: nothing)')


def test_a_file_that_is_not_there(tmp_path):
    for name in ('none.hdf5', 'none.npz', 'none.csv'):
        text = message(tmp_path / name)
        assert text.startswith(' is no Minari dataset: give the folder that contains data/, or a ')


def test_a_file_names_no_environment(file):
    nameless = dataclasses.replace(OWN, env_id=None)
    path = file()
    with pytest.raises(UserError, match=r'hdf5 records no environment; name one: register\(Task'):
        load(nameless, dataset_path=path)
    with pytest.raises(UserError, match='records no environment'):
        make_env(dataclasses.replace(nameless, datasets=(str(path),)))
