"""Arrays as data: which rows become transitions, what may be given, and that it stays unchanged.

A row's observation is its number, thrice; `fields` says which rows end episodes.
"""

import dataclasses

import gymnasium as gym
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.data.columns import add_columns
from dtql_jax.data.load import load
from dtql_jax.tasks.task import Task
from dtql_jax.types import Spec, Transition
from tests.helpers.flat_files import (
    ARRAYS,
    ROW,
    THEIRS,
    fields,
    first_numbers,
    flags,
    load_file,
    table,
)
from tests.helpers.minari_sets import episode, write


def numbers(data, task=ARRAYS, **kwargs):
    """The first number of each of the five columns."""
    return first_numbers(load(task, arrays=data, **kwargs))


# Which rows, and where they end.


def test_read_arrays__every_row_with_a_next_observation_is_kept():
    data = load(ARRAYS, arrays=fields(next_obs=table(ROW + 0.5)))
    obs, action, reward, mask, next_obs = first_numbers(data)
    assert obs == ROW.tolist()
    assert action == [0.5] * 7
    assert reward == (1 + ROW).tolist()
    assert mask == [1, 1, 1, 1, 1, 0, 1]  # a time-out does not cut
    assert next_obs == (ROW + 0.5).tolist()
    assert data.length.tolist() == [3, 3, 1]
    assert data.spec == Spec(obs_dim=3, action_dim=2, max_action=1.0)
    assert all(array.dtype == np.float32 for array in data.transitions[:5])


def test_read_arrays__without_next_observations_a_time_out_has_no_successor():
    data = load(ARRAYS, arrays=fields(next_obs=None))
    obs, _, reward, mask, next_obs = first_numbers(data)
    assert obs == [0, 1, 3, 4, 5]
    assert next_obs == [1, 2, 4, 5, 5]  # that of a terminal row is hidden by the mask
    assert reward == [1, 2, 4, 5, 6]
    assert mask == [1, 1, 1, 1, 0]
    assert data.length.tolist() == [2, 3]
    assert (data.card['timeouts'], data.card['terminations']) == (1, 1)
    assert data.card['notes'] == [
        '2 rows at the end of episodes left out: what follows them is not known'
    ]


@pytest.mark.parametrize('after', [None, table(ROW + 0.5)])
def test_read_arrays__reads_as_a_d4rl_file_does(d4rl_file, after):
    theirs = {THEIRS[name]: value for name, value in fields(next_obs=after).items()}
    theirs['terminals'] = 1 - theirs.pop('masks')
    from_file, given = load_file(d4rl_file(**theirs)), load(ARRAYS, arrays=theirs)
    assert first_numbers(given) == first_numbers(from_file)
    assert given.length.tolist() == from_file.length.tolist()
    assert given.card['fingerprint'] == from_file.card['fingerprint']
    assert given.card['return'] == from_file.card['return']


def test_read_arrays__without_time_outs_a_leap_ends_an_episode():
    after = table(ROW + 1)
    after[0, 1] += 9e-7  # rounding
    after[2, 1] += 2e-6  # a leap
    data = load(ARRAYS, arrays=fields(timeout=None, next_obs=after))
    assert data.length.tolist() == [3, 3, 1]
    assert (data.card['terminations'], data.card['timeouts']) == (1, 1)


def test_read_arrays__rows_out_of_order_are_episodes_of_their_own():
    order = np.array([4, 0, 6, 2, 5, 1, 3])
    shuffled = {name: value[order] for name, value in fields(timeout=None).items()}
    assert load(ARRAYS, arrays=shuffled).length.tolist() == [1] * 7


def test_read_arrays__the_further_columns_follow_the_episodes():
    actions = table(ROW / 10, 2)
    data = add_columns(
        load(ARRAYS, arrays=fields(action=actions)), ('next_action', 'return_to_go'), 1.0
    )
    extra = data.transitions.extra
    assert extra['next_action'][:, 0].tolist() == pytest.approx([0.1, 0.2, 0.2, 0.4, 0.5, 0.5, 0.6])
    assert extra['return_to_go'].tolist() == [6, 5, 3, 15, 11, 6, 7]


# What may be given.


def test_read_arrays__a_transition():
    assert numbers(Transition(**fields(timeout=None))) == numbers(fields(timeout=None))


def test_read_arrays__what_was_loaded_can_be_given_again(root):
    write('me/own-v0', [episode(0, 3), episode(10, 2, end='terminated'), episode(20, 2)])
    first = load(Task('own', ('me/own-v0',)))
    again = load(ARRAYS, arrays=first.transitions)
    assert first_numbers(again) == first_numbers(first)
    assert again.length.tolist() == first.length.tolist()


def test_read_arrays__both_spellings_mean_the_same():
    assert numbers({THEIRS[name]: value for name, value in fields().items()}) == numbers(fields())
    mixed = fields()
    mixed['observations'] = mixed.pop('obs')
    assert numbers(mixed) == numbers(fields())


def test_read_arrays__terminal_is_one_minus_mask():
    assert numbers(fields(mask=None, terminal=flags(5))) == numbers(fields())


@pytest.mark.parametrize('convert', [np.ndarray.tolist, jnp.asarray, np.asfortranarray])
def test_read_arrays__lists_and_jax_arrays(convert):
    given = {name: convert(np.asarray(value)) for name, value in fields().items()}
    assert numbers(given) == numbers(fields())


@pytest.mark.parametrize('dtype', [np.float16, np.float64, np.int64, np.uint8])
def test_read_arrays__any_type_of_numbers(dtype):
    given = {name: np.asarray(value).astype(dtype) for name, value in fields().items()}
    expected = fields(action=table(np.full(7, 0.5).astype(dtype), 2))
    assert numbers(given) == numbers(expected)


def test_read_arrays__columns_of_width_one():
    names = ('reward', 'mask', 'timeout')
    wide = {name: np.asarray(fields()[name])[:, None] for name in names}
    assert numbers(fields(**wide)) == numbers(fields())


def test_read_arrays__the_bound_is_that_of_the_environment():
    wide = dataclasses.replace(ARRAYS, env_id='InvertedPendulum-v5')
    given = fields(action=table(2.5 * np.ones(7), 2))
    assert load(wide, arrays=given).spec.max_action == 3


def test_read_arrays__reward_transforms_apply():
    assert numbers(fields(), reward='iql_antmaze')[2] == ROW.tolist()


def test_read_arrays__success_where_the_task_is_scored_by_it():
    scored = dataclasses.replace(ARRAYS, scored='success', score_range=(0.0, 1.0))
    card = load(scored, arrays=fields()).card
    assert card['success_rate'] == pytest.approx(1 / 3)  # one of three episodes ends by mask 0
    assert load(ARRAYS, arrays=fields()).card['success_rate'] is None


def test_read_arrays__the_task_and_the_card_say_arrays():
    data = load(ARRAYS, arrays=fields())
    assert (data.card['datasets'], data.card['source']) == (['arrays'], 'arrays')
    assert (data.task.datasets, data.task.source) == (('arrays',), 'arrays')


def test_read_arrays__a_task_of_a_set_is_played_in_the_environment_that_the_set_records(root):
    write('me/own-v0', [episode(0, 2)], env=gym.spec('Hopper-v5'))
    recorded = Task('own', ('me/own-v0',))
    assert numbers(fields(), recorded) == numbers(fields())


# The caller's arrays.


@pytest.mark.parametrize('after', [None, table(ROW + 1)])
def test_read_arrays__leaves_the_callers_arrays_alone(after):
    given = fields(next_obs=after)
    given = {name: np.asarray(value, np.float32) for name, value in given.items()}
    before = {name: value.copy() for name, value in given.items()}
    data = load(ARRAYS, arrays=given)
    add_columns(data, ('next_action', 'return_to_go'), 0.9)
    for name, value in given.items():
        assert value.flags.writeable
        assert value.tobytes() == before[name].tobytes()
        for array in data.transitions[:5]:
            assert not np.shares_memory(array, value)
        value[...] = 99
    assert first_numbers(data) == numbers(before)


def test_read_arrays__flags_that_are_bool_are_copied_too():
    given = fields(mask=None, terminal=flags(5), timeout=flags(2), next_obs=None)
    before = {name: value.copy() for name, value in given.items()}
    load(ARRAYS, arrays=given)
    for name, value in given.items():
        assert value.tobytes() == before[name].tobytes()
        assert value.flags.writeable


def test_read_arrays__takes_arrays_that_are_read_only():
    given = fields()
    for value in given.values():
        value.flags.writeable = False
    assert numbers(given) == numbers(fields())


def test_read_arrays__the_device_needs_no_copy_of_the_tables():
    transitions = load(ARRAYS, arrays=fields()).transitions
    for array in (transitions.obs, transitions.action, transitions.next_obs):
        assert array.ctypes.data % 64 == 0
        assert not array.flags.writeable
