"""Checks of data: one line with dataset, episode, row, field and cure."""

import dataclasses

import h5py
import numpy as np
import pytest

from dtql_jax.data import validate
from dtql_jax.data.load import load
from dtql_jax.tasks.registry import TASKS
from dtql_jax.types import UserError
from tests.helpers.flat_files import table
from tests.helpers.minari_sets import MAZE, OWN, episode, message, walk, write


def spoilt(field, row, value):
    """Three rows with one wrong number."""
    array = getattr(episode(0, 3), field).copy()
    array[row] = value
    return episode(0, 3, **{field: array})


@pytest.mark.parametrize(
    ('field', 'row', 'value', 'expected'),
    [
        ('actions', (1, 1), np.nan, 'row 1, field actions[1]: nan (1 rows are not finite)'),
        ('rewards', 2, np.inf, 'row 2, field rewards[0]: inf (1 rows'),
        ('observations', (0, 2), -np.inf, 'row 0, field observations[2]: -inf (1 rows'),
        ('observations', (3, 0), np.nan, 'row 2, field observations (the last)[0]: nan (1 rows'),
        ('observations', (1, 0), 1e39, 'row 1, field observations[0]: inf'),  # beyond float32
    ],
)
def test_check_values__not_finite(root, field, row, value, expected):
    write('me/own-v0', [episode(0, 2), spoilt(field, row, value)])
    text = message()
    assert text.startswith(f'me/own-v0, episode 1, {expected}')
    assert text.endswith('remove those episodes')


def test_check_values__large_finite_values_pass(root):
    write('me/own-v0', [episode(0, 2), spoilt('observations', (1, 0), 3e38)])
    assert load(OWN).transitions.obs.max() == np.float32(3e38)


def test_check_values__actions_outside_of_the_box(root):
    bad = [spoilt('actions', (1, 0), -1.25), spoilt('actions', (0, 1), 1.01)]
    write('me/own-v0', [episode(0, 2), *bad])
    assert message() == (
        'me/own-v0, episode 1, row 1, field actions[0]: -1.25 is outside of the box [-1, '
        '1], the worst of 2 rows; correct the action space, or clip the actions: `actions`=clip'
    )


def test_check_values__rounding_at_the_edge_of_the_box_passes(root):
    write('me/own-v0', [spoilt('actions', (1, 0), np.float32(1.0000005))])
    assert load(OWN).transitions.action.max() > 1


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        (
            {'observations': np.zeros((4, 2))},
            'field observations has shape (4, 2), expected (4, 3)',
        ),
        (
            {'observations': np.zeros((3, 3))},
            'field observations has shape (3, 3), expected (4, 3)',
        ),
        ({'actions': np.zeros((2, 2))}, 'field actions has shape (2, 2), expected (3, 2)'),
        ({'truncations': np.zeros(4, bool)}, 'field truncations has shape (4,), expected (3,)'),
        ({'observations': [['x'] * 3] * 4}, 'field observations has type object, not numbers'),
    ],
)
def test_check_episode__malformed_episodes(root, changes, expected):
    write('me/own-v0', [episode(0, 3), episode(0, 3)])
    with h5py.File(root / 'me/own-v0/data/main_data.hdf5', 'a') as file:
        for name, value in changes.items():
            del file['episode_1'][name]
            dtype = h5py.string_dtype() if isinstance(value, list) else None
            file['episode_1'].create_dataset(name, data=value, dtype=dtype)
    text = message()
    assert text.startswith(f'me/own-v0, episode 1: the field {expected.removeprefix("field ")}')
    assert 'record the episode again' in text or 'convert it' in text


def test_check_episode__an_empty_episode(root):
    write('me/own-v0', [episode(0, 2), episode(0, 2)])
    with h5py.File(root / 'me/own-v0/data/main_data.hdf5', 'a') as file:
        for name in ('actions', 'rewards', 'terminations', 'truncations'):
            file['episode_1'][name].resize(0, axis=0)
    assert message() == 'me/own-v0, episode 1: the episode is empty; remove it from the dataset'


def test_check_episode__a_missing_observation_key(root):
    write('me/own-v0', [walk([(0, 0), (1, 1)], (0, 0)) for _ in range(2)], MAZE)
    with h5py.File(root / 'me/own-v0/data/main_data.hdf5', 'a') as file:
        del file['episode_1/observations/achieved_goal']
    task = dataclasses.replace(TASKS['pointmaze-umaze'], datasets=OWN.datasets)
    assert message(task).startswith(
        'me/own-v0, episode 1: the field achieved_goal is missing '
        '(there is: desired_goal, observation); record it'
    )


def flat(**changes):
    """Two rows of flat fields."""
    fields = {'observations': table([0, 1]), 'actions': table([0, 0], 2)}
    return fields | {'rewards': np.zeros(2), 'terminals': np.zeros(2)} | changes


def test_check_flat__columns_of_width_one_and_flags():
    found = validate.check_flat('x', flat(rewards=np.ones((2, 1)), terminals=np.array([[0], [1]])))
    assert found['rewards'].shape == (2,)
    assert found['terminals'].tolist() == [False, True]
    assert found['observations'].shape == (2, 3)


def test_check_flat__names_fields_and_cures_as_told():
    cures = validate.Cures(rows='give both the same')
    with pytest.raises(UserError) as caught:
        validate.check_flat('x', flat(rewards=np.zeros(3)), {'rewards': 'reward'}, cures)
    assert str(caught.value) == (
        'x: the field reward has 3 rows, observations has 2; give both the same'
    )
