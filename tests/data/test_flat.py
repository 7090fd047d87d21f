"""What flat data have in common: successors, episodes, and what is left out."""

import numpy as np
import pytest

from dtql_jax.data import flat
from dtql_jax.data.episodes import ROWS, Episodes
from dtql_jax.types import UserError
from tests.helpers.flat_files import ROW, flags, table


def rows(**changes):
    """Seven rows; row t observes t."""
    columns = {
        'obs': table(ROW).astype(np.float32),
        'action': np.zeros((7, 2), np.float32),
        'reward': ROW.copy(),
        'next_obs': table(ROW + 1).astype(np.float32),
        'terminated': flags(),
        'truncated': flags(),
        'reached': flags(),
    }
    return Episodes('x', 1.0, length=np.zeros(0, int), **columns | changes)


def test_next_rows__never_reach_into_the_next_episode():
    found = flat.next_rows(table(ROW).astype(np.float32), flags(2, 6))
    assert found[:, 0].tolist() == [1, 2, 2, 4, 5, 6, 6]
    assert found.ctypes.data % 64 == 0


def test_leaps__where_any_entry_differs_from_the_next_row():
    after = table(ROW + 1)
    after[1, 2] += 2e-6
    after[3, 0] -= 2e-6
    after[4, 1] += 9e-7
    after[6] = 99  # the last row has no next one
    assert np.flatnonzero(flat.leaps(table(ROW), after)).tolist() == [1, 3]


def test_leaps__of_one_row():
    assert flat.leaps(np.zeros((1, 3)), np.ones((1, 3))).tolist() == [False]


def test_cut__lengths_follow_the_ends():
    found = flat.cut(rows(), flags(2, 5, 6), np.ones(7, bool))
    assert found.length.tolist() == [3, 3, 1]
    assert found.notes == ()


def test_cut__a_dropped_time_out_passes_its_flag_to_the_row_before():
    found = flat.cut(rows(truncated=flags(2, 6)), flags(2, 6), ~flags(2, 6))
    assert found.obs[:, 0].tolist() == [0, 1, 3, 4, 5]
    assert found.truncated.tolist() == [False, True, False, False, True]
    assert found.length.tolist() == [2, 3]
    assert found.notes == (
        '2 rows at the end of episodes left out: what follows them is not known',
    )


def test_cut__a_dropped_episode_passes_its_flag_to_no_other():
    found = flat.cut(rows(truncated=flags(2, 3)), flags(2, 3, 6), ~flags(3, 6))
    assert found.obs[:, 0].tolist() == [0, 1, 2, 4, 5]
    assert found.truncated.tolist() == [False, False, True, False, False]
    assert found.length.tolist() == [3, 2]


def test_cut__drops_the_same_rows_of_every_column():
    keep = ~flags(0, 3)
    given = rows(reached=flags(1, 3), terminated=flags(3, 4))
    expected = {name: getattr(given, name)[keep].copy() for name in ROWS if name != 'truncated'}
    found = flat.cut(given, flags(6), keep)
    for name, column in expected.items():
        np.testing.assert_array_equal(getattr(found, name), column)


def test_cut__nothing_left():
    with pytest.raises(UserError, match='x: no row has a successor'):
        flat.cut(rows(), flags(*range(7)), flags())


def test_float32__numbers_that_exceed_it_become_infinite():
    found = flat.float32(np.array([[1.0, 1e39]]))
    assert (found.dtype, found.tolist()) == (np.float32, [[1.0, np.inf]])


def test_float32__of_float32_is_the_array_itself():
    array = np.zeros((2, 3), np.float32)
    assert flat.float32(array) is array
    assert not np.shares_memory(flat.copy_float32(array), array)


def test_need__names_the_first_missing_field():
    flat.need('x', ('a',), ('a', 'b'))
    with pytest.raises(UserError) as caught:
        flat.need('x', ('a', 'c', 'd'), [])
    assert str(caught.value) == (
        'x: the field a is missing (there is: nothing); fetch the file again, or write the field '
        'into it'
    )
    with pytest.raises(UserError, match=r'the field c is missing \(there is: a, b\); add it'):
        flat.need('x', ('a', 'c'), ('b', 'a'), 'add it')
