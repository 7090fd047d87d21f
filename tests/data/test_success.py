"""What data tell of success, in each format: 1, 0, or that it is not known."""

import dataclasses

import h5py
import numpy as np
import pytest

from dtql_jax.data.card import behaviour, format_card
from dtql_jax.data.load import load
from dtql_jax.data.success import UNKNOWN, of_episode, told
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError
from tests.helpers.flat_files import OWN as FLAT
from tests.helpers.flat_files import fields, load_file
from tests.helpers.minari_sets import episode, write

OWN = Task('own', ('me/own-v0',), scored='success', score_range=(0.0, 1.0))
YES, NO, DARK = [0, 0, 1], [0, 0, 0], [0, 0, np.nan]


@pytest.mark.parametrize(
    ('values', 'expected'),
    [
        (np.array([False, True, False]), [0, 1, 0]),
        (np.array([0.0, 1.0, 0.0], np.float32), [0, 1, 0]),
        (np.array([[0], [1], [1]]), [0, 1, 1]),
        (np.array([1, 0, 1, 0]), [0, 1, 0]),  # the first is of the reset
        (np.array([[1], [0], [1], [0]]), [0, 1, 0]),
        (np.array([np.nan, 0.0, np.nan, 1.0]), [0, UNKNOWN, 1]),
        (np.array(True), [0, 0, 1]),  # of the whole episode
        (np.array([0.0]), [0, 0, 0]),
        (np.array([np.nan] * 3), [UNKNOWN] * 3),
        (np.array(['yes', 'no', 'no']), [UNKNOWN] * 3),
        (np.zeros(7), [UNKNOWN] * 3),
        (np.array([-1, 0.3, 1]), [UNKNOWN, UNKNOWN, 1]),  # a share of the way is no success
        (np.zeros((3, 2)), [UNKNOWN] * 3),
        (np.zeros(0), [UNKNOWN] * 3),
    ],
)
def test_told__shapes_and_types(values, expected):
    for key in ('success', 'is_success'):
        assert told({key: values}, 3).tolist() == expected
    assert told({'other': values}, 3).tolist() == [UNKNOWN] * 3


def test_told__either_key_counts():
    infos = {'success': np.array([0, 0, np.nan]), 'is_success': np.array([0, 1, 0])}
    assert told(infos, 3).tolist() == [0, 1, 0]


def test_of_episode__one_unknown_step_may_have_been_the_success():
    assert [of_episode(np.array(steps)) for steps in ([0, 1, -1], [0, 0, -1], [0, 0])] == [1, -1, 0]
    assert of_episode(np.array([False, True])) == 1
    assert of_episode(np.array([-1, -1, 0])) == 0  # told at the end alone
    assert of_episode(np.array([-1, 1, -1])) == 1


@pytest.mark.parametrize('key', ['success', 'is_success'])
def test_read__a_minari_sets_infos_tell(root, key):
    write('me/own-v0', [episode(0, 3, infos={key: np.array(it)}) for it in (YES, NO, [False] * 4)])
    card = load(OWN).card
    assert card['success_rate'] == pytest.approx(1 / 3)
    assert card['score'] == pytest.approx(100 / 3)
    assert load(dataclasses.replace(OWN, scored='return')).card['success_rate'] is None


@pytest.mark.parametrize('infos', [{}, {'other': np.zeros(3)}, {'success': {'deep': np.zeros(3)}}])
def test_read__a_minari_set_that_does_not_tell_is_not_known(root, infos):
    write('me/own-v0', [episode(0, 3, infos=infos)] * 2)
    card = load(OWN).card
    assert (card['success_rate'], card['score']) == (None, None)
    assert 'success  not known (behaviour)' in format_card(card)
    assert behaviour(card) == 'not known'
    assert 'success is told in 0 of 2 episodes (infos, success or is_success)' in card['notes']


def test_read__episodes_that_tell_are_counted_alone(root):
    some = [episode(0, 3, infos={'success': np.array(it)}) for it in (YES, NO, DARK)]
    write('me/own-v0', [*some, episode(0, 3)])
    card = load(OWN).card
    assert card['success_rate'] == 0.5
    assert 'success is told in 2 of 4 episodes (infos, success or is_success)' in card['notes']


def test_read__sets_that_tell_and_others_can_be_joined(root, d4rl_file):
    write('me/own-v0', [episode(0, 3, infos={'success': np.array(it)}) for it in (YES, NO)])
    write('me/more-v0', [episode(0, 3)])
    card = load(dataclasses.replace(OWN, datasets=('me/own-v0', 'me/more-v0'))).card
    assert card['success_rate'] == 0.5


def test_read__success_that_is_told_only_where_it_is_true_is_not_known(root):
    told = [{'success': np.array(YES)}, {}, {'success': np.array(DARK)}]
    write('me/own-v0', [episode(0, 3, infos=infos) for infos in told])
    card = load(OWN).card
    assert (card['success_rate'], card['score'], behaviour(card)) == (None, None, 'not known')
    note = 'success is told in 1 of 3 episodes (infos, success or is_success), and never a failure'
    assert f'{note}: its rate is not known' in card['notes']


@pytest.mark.parametrize('place', ['infos/success', 'infos/is_success', 'success'])
def test_read__a_d4rl_file_tells_also_by_a_row_that_is_dropped(d4rl_file, place):
    scored = dataclasses.replace(FLAT, scored='success', score_range=(0.0, 1.0))
    path = d4rl_file()
    card = load_file(path, scored).card
    assert (card['success_rate'], card['score']) == (None, None)
    with h5py.File(path, 'a') as file:
        file[place] = np.arange(7) == 2  # the time-out's own row, which has no successor
    card = load_file(path, scored).card
    assert (card['success_rate'], card['score']) == (0.5, 50.0)


ARRAYS = dataclasses.replace(FLAT, datasets=(), scored='success', score_range=(0.0, 1.0))


def test_read_arrays__a_column_tells():
    column = np.array([0, 1, 0, 0, 0, 0, np.nan])
    for name in ('success', 'is_success'):
        card = load(ARRAYS, arrays=fields(**{name: column})).card
        assert (card['success_rate'], card['episodes']) == (0.5, 3)
        assert 'success is told in 2 of 3 episodes' in card['notes'][-1]


def test_read_arrays__without_a_column_and_without_terminals_it_is_not_known():
    card = load(ARRAYS, arrays=fields(mask=np.ones(7))).card
    assert (card['success_rate'], behaviour(card)) == (None, 'not known')


@pytest.mark.parametrize(
    'values', [np.zeros(6), np.zeros((7, 2)), np.array(['a'] * 7), np.full(7, 0.5)]
)
def test_read_arrays__a_column_of_another_shape_or_of_other_numbers(values):
    told = r'^data: the field success has type .* give one of these for each of the 7 rows$'
    with pytest.raises(UserError, match=told):
        load(ARRAYS, arrays=fields(success=values))
    with pytest.raises(UserError, match='are the same field'):
        load(ARRAYS, arrays=fields(success=np.zeros(7), is_success=np.zeros(7)))


@pytest.mark.parametrize('values', [True, 1.0, np.ones(8), np.ones((7, 2)), 'yes'])
def test_read__a_d4rl_field_of_another_shape_does_not_tell(d4rl_file, values):
    card = load_file(d4rl_file(success=values), dataclasses.replace(FLAT, scored='success')).card
    assert card['success_rate'] is None
