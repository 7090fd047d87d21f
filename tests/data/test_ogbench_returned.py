"""Files of what `ogbench.make_env_and_datasets` returns: next observations, or valid rows."""

import dataclasses

import numpy as np
import pytest

from dtql_jax.data.load import load
from dtql_jax.types import UserError
from tests.helpers.flat_files import OWN, columns, load_file, table

ROW = np.arange(8.0, dtype=np.float32)  # two trajectories of four states, three transitions each
ENDS = np.isin(ROW, [3, 7]).astype(np.float32)
SUCCESS = np.isin(ROW, [2])  # the last transition of the first trajectory
SCORED = dataclasses.replace(OWN, scored='success', score_range=(0.0, 1.0))


def stored():
    return {
        'observations': table(ROW),
        'actions': table(0.5 * np.ones(8, np.float32), 2),
        'terminals': ENDS,
    }


def returned(compact):
    """What OGBench makes of the stored file, and its rewards and masks."""
    utils = pytest.importorskip('ogbench.utils', reason='ogbench, an extra, is not installed')

    def make(path):
        np.savez(path, **stored())
        data = utils.load_dataset(str(path), compact_dataset=compact)
        done = np.isin(data['observations'][:, 0], ROW[SUCCESS])
        return data | {'rewards': done - 1.0, 'masks': 1.0 - done}

    return make


def by_hand():
    """The same without OGBench's package."""
    rows = [0, 1, 2, 4, 5, 6]
    done = SUCCESS[rows]
    return {
        'observations': table(ROW[rows]),
        'next_observations': table(ROW[rows] + 1),
        'actions': table(0.5 * np.ones(6, np.float32), 2),
        'terminals': np.isin(rows, [2, 6]).astype(np.float32),
        'rewards': done - 1.0,
        'masks': 1.0 - done,
    }


EXPECTED = [[0, 1, 2, 4, 5, 6], [0.5] * 6, [-1, -1, 0, -1, -1, -1], [1, 1, 0, 1, 1, 1]]


@pytest.mark.parametrize('kind', ['regular', 'compact', 'by hand'])
def test_read__every_transition_is_kept_with_the_success_at_the_end(tmp_path, kind):
    path = tmp_path / 'own-v0.npz'
    fields = by_hand() if kind == 'by hand' else returned(kind == 'compact')(path)
    np.savez(path, **fields)
    assert columns(path) == [*EXPECTED, [1, 2, 3, 5, 6, 7]]
    card = load_file(path, SCORED).card
    assert (card['transitions'], card['episodes'], card['ends']) == (6, 2, 1)
    assert card['success_rate'] == 0.5
    left_out = '2 rows at the end of episodes left out: what follows them is not known'
    assert card['notes'] == ([left_out] if kind == 'compact' else [])


def test_read__next_observations_without_marks_tell_where_trajectories_end(tmp_path):
    path = tmp_path / 'own-v0.npz'
    np.savez(path, **by_hand() | {'terminals': np.zeros(6)})
    assert load_file(path).card['episodes'] == 2
    assert columns(path)[4] == [1, 2, 3, 5, 6, 7]


MISTAKES = {
    'sizes': (
        {'next_observations': np.zeros((6, 2))},
        ': the field next_observations has shape (6, 2), observations has (6, 3)',
    ),
    'lengths': (
        {'next_observations': np.zeros((5, 3))},
        ': the field next_observations has 5 rows, observations has 6',
    ),
    'nan': (
        {'next_observations': np.full((6, 3), np.nan)},
        ', row 0, field next_observations[0]: nan (6 rows are not finite)',
    ),
    'valids': ({'valids': 2 * np.ones(6)}, ', row 0, field valids: 2 is neither 0 nor 1'),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_read__mistakes_in_these_fields(tmp_path, name):
    path = tmp_path / 'own-v0.npz'
    changes, expected = MISTAKES[name]
    np.savez(path, **by_hand() | changes)
    with pytest.raises(UserError) as caught:
        load(dataclasses.replace(OWN, datasets=(str(path),)))
    assert str(caught.value).startswith(str(path) + expected)
    np.savez(path, **by_hand())
    assert load_file(path).card['transitions'] == 6


def test_read__without_successors_a_row_is_dropped_and_its_success_is_not(tmp_path):
    rows = np.arange(7.0)
    content = {
        'observations': table(rows),
        'actions': table(0.5 * np.ones(7), 2),
        'terminals': np.isin(rows, [3, 6]),
        'rewards': rows,
        'masks': 1.0 * (rows != 3),
    }
    np.savez(tmp_path / 'own.npz', **content)
    scored = dataclasses.replace(OWN, scored='success', score_range=(0.0, 1.0))
    data = load_file(tmp_path / 'own.npz', scored)
    assert data.transitions.reward.tolist() == [0, 1, 2, 4, 5]
    assert data.transitions.mask.tolist() == [1] * 5
    assert (data.card['success_rate'], data.card['timeouts']) == (0.5, 2)
    for told, rate in ((rows == 6, 0.5), (np.ones(7), 1.0), (np.zeros(7), 0), (True, None)):
        np.savez(tmp_path / 'own.npz', **content, success=told)
        assert load_file(tmp_path / 'own.npz', scored).card['success_rate'] == rate
