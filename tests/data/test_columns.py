"""The further columns, worked by hand, and what adding them leaves alone."""

import dataclasses
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from dtql_jax.data.columns import (
    COLUMNS,
    add_columns,
    next_action,
    next_row_action,
    return_to_go,
)
from dtql_jax.data.load import Dataset, load
from dtql_jax.tasks.task import Task
from dtql_jax.training.update import sample
from dtql_jax.types import Spec, Transition, UserError
from tests.helpers.flat_files import load_file
from tests.helpers.minari_sets import OWN, episode, write


def dataset(reward, mask, length):
    """Episodes of these lengths; the action of a row is its number, twice."""
    rows = len(reward)
    obs = np.zeros((rows, 3), np.float32)
    action = np.repeat(np.arange(rows, dtype=np.float32)[:, None], 2, axis=1)
    columns = (np.asarray(x, np.float32) for x in (reward, mask))
    transitions = Transition(obs, action, *columns, obs)
    return Dataset(transitions, Spec(3, 2), {}, OWN, np.array(length), lambda r: r)


def by_rows(data, discount):
    """The definition of `return_to_go`, one row at a time, from the last."""
    result, following = [], 0.0
    last = set(np.cumsum(data.length) - 1)
    pairs = list(zip(data.transitions.reward, data.transitions.mask, strict=True))
    for row in reversed(range(len(pairs))):
        reward, mask = map(float, pairs[row])
        following = reward + (0.0 if row in last else discount * mask * following)
        result.append(following)
    return np.array(result[::-1])


def test_next_action__is_the_next_rows_and_at_an_end_the_rows_own():
    data = dataset([0] * 6, [1, 1, 0, 1, 1, 1], [3, 2, 1])
    # Row 2 is terminal, row 4 a time-out, and row 5 an episode alone.
    assert next_action(data, 0.9)[:, 0].tolist() == [1, 2, 2, 4, 4, 5]
    assert next_action(data, 0.9)[:, 1].tolist() == [1, 2, 2, 4, 4, 5]


def test_next_action__goes_on_after_a_goal_within_an_episode():
    data = dataset([0] * 4, [1, 0, 0, 1], [4])
    assert next_action(data, 0.9)[:, 0].tolist() == [1, 2, 3, 3]


def test_next_row_action__goes_on_into_the_next_episode():
    data = dataset([0] * 6, [1, 1, 0, 1, 1, 1], [3, 2, 1])
    assert next_row_action(data, 0.9)[:, 0].tolist() == [1, 2, 3, 4, 5, 5]


def test_return_to_go__one_episode_by_hand():
    found = return_to_go(dataset([1, 2, 4], [1, 1, 1], [3]), 0.5)
    assert found.tolist() == [1 + 0.5 * (2 + 0.5 * 4), 2 + 0.5 * 4, 4]  # 3, 4, 4


def test_return_to_go__terminals_and_time_outs_end_the_sum():
    # Rows 0 and 1 end by a terminal, rows 2 to 4 by a time-out, row 5 by the end of the data.
    data = dataset([1, 2, 4, 8, 16, 32], [1, 0, 1, 1, 1, 1], [2, 3, 1])
    assert return_to_go(data, 0.5).tolist() == [2, 2, 4 + 4 + 4, 8 + 8, 16, 32]


def test_return_to_go__a_goal_within_an_episode_ends_the_sum():
    # As in antmazes, whose ant walks on at the goal: each row there has mask 0.
    data = dataset([0, 1, 1, 0, 2], [1, 0, 0, 1, 1], [5])
    assert return_to_go(data, 0.5).tolist() == [0.5, 1, 1, 1, 2]


@pytest.mark.parametrize(('discount', 'expected'), [(0.0, [1, 2, 4]), (1.0, [7, 6, 4])])
def test_return_to_go__discounts_of_0_and_1(discount, expected):
    assert return_to_go(dataset([1, 2, 4], [1, 1, 1], [3]), discount).tolist() == expected


@pytest.mark.parametrize('discount', [0.5, 0.99, 1.0])
def test_return_to_go__is_its_definition_on_random_episodes(discount):
    rng = np.random.default_rng(0)
    length = np.array([1, 1, 2, 3, 64, 65, 200, 1, 137])
    rows = length.sum()
    data = dataset(rng.normal(size=rows), rng.random(rows) < 0.97, length)
    expected = by_rows(data, discount)
    np.testing.assert_allclose(return_to_go(data, discount), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('length', [1000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_return_to_go__a_million_rows_take_no_loop(length):
    rows = 1_000_000
    data = dataset(np.ones(rows), np.ones(rows), [length] * (rows // length))
    began = time.process_time()
    found = return_to_go(data, 0.99)
    taken = time.process_time() - began
    began = time.process_time()
    by_rows(data, 0.99)
    assert taken < (time.process_time() - began) / 2
    assert found[-3:].tolist() == pytest.approx([1 + 0.99 + 0.99**2, 1.99, 1])
    assert found[0] == pytest.approx((1 - 0.99**length) / 0.01, rel=1e-6)


def test_add_columns__of_a_minari_set(root):
    write('me/own-v0', [episode(0, 3), episode(0, 2, end='terminated')])
    extra = add_columns(load(OWN), ('return_to_go', 'next_action'), 0.5).transitions.extra
    assert list(extra) == ['return_to_go', 'next_action']
    assert extra['return_to_go'].tolist() == [2.75, 3.5, 3, 2, 2]  # rewards 1, 2, 3 and 1, 2
    assert extra['next_action'].shape == (5, 2)


def test_add_columns__uses_the_transformed_rewards(root):
    write('me/own-v0', [episode(0, 3)])
    extra = add_columns(load(OWN, reward='iql_antmaze'), ('return_to_go',), 0.5).transitions.extra
    assert extra['return_to_go'].tolist() == [1, 2, 2]  # rewards 0, 1, 2


def test_add_columns__joined_sets_do_not_mix(root):
    write('me/own-v0', [episode(0, 2), episode(0, 1)])
    acts = np.array([[0.1, 0.1], [0.2, 0.2]], np.float32)
    write('me/more-v0', [episode(0, 2, actions=acts)])
    both = load(Task('both', ('me/own-v0', 'me/more-v0')))
    extra = add_columns(both, COLUMNS, 0.5).transitions.extra
    assert extra['return_to_go'].tolist() == [2, 2, 1, 2, 2]
    assert extra['next_action'][:, 0].tolist() == pytest.approx([0.5, 0.5, 0.5, 0.2, 0.2])


def test_add_columns__of_a_d4rl_file_that_drops_time_outs(d4rl_file):
    actions = np.repeat(np.arange(7)[:, None] / 10, 2, axis=1)
    extra = add_columns(load_file(d4rl_file(actions=actions)), COLUMNS, 1.0).transitions.extra
    # The rows are 0, 1 (the time-out in 2 is dropped), and 3 to 5.
    assert extra['next_action'][:, 0].tolist() == pytest.approx([0.1, 0.1, 0.4, 0.5, 0.5])
    assert extra['return_to_go'].tolist() == [3, 2, 15, 11, 6]


def test_add_columns__leaves_the_five_the_card_and_the_fingerprint_alone(root):
    write('me/own-v0', [episode(0, 3)])
    before = load(OWN)
    after = add_columns(before, COLUMNS, 0.9)
    for one, other in zip(before.transitions[:5], after.transitions[:5], strict=True):
        assert one is other
    assert after.card == before.card
    assert not before.transitions.extra
    # The value that was computed before transitions could carry further columns.
    assert before.card['fingerprint'].startswith('56132b32abacd5eb')


def test_add_columns__arrays_are_read_only_aligned_and_float32(root):
    write('me/own-v0', [episode(0, 3)])
    for array in add_columns(load(OWN), COLUMNS, 0.9).transitions.extra.values():
        assert (array.dtype, array.ctypes.data % 64, array.flags.writeable) == (
            np.float32,
            0,
            False,
        )
        assert array.flags.c_contiguous


def test_add_columns__none():
    data = dataset([1, 2], [1, 1], [2])
    assert add_columns(data, (), 0.9).transitions.extra == {}


def test_add_columns__an_unknown_column_names_the_nearest():
    with pytest.raises(UserError) as caught:
        add_columns(dataset([1], [1], [1]), ('next_action', 'next_actions'), 0.9)
    assert str(caught.value) == (
        "unknown column 'next_actions', nearest: next_action (of next_action, next_row_action, "
        'return_to_go); mend Agent.columns'
    )


def test_add_columns__keeps_the_spec_and_the_task():
    data = dataset([1, 2], [1, 1], [2])
    found = add_columns(data, COLUMNS, 0.9)
    assert (found.spec, found.task) == (data.spec, data.task)
    assert dataclasses.replace(found, transitions=data.transitions) == data


def test_add_columns__a_batch_holds_the_columns_of_its_rows():
    rows = np.arange(10.0)
    data = add_columns(dataset(rows, np.ones(10), [4, 6]), COLUMNS, 0.0)
    batch = sample(SimpleNamespace(key=jax.random.key(0), step=0), data.transitions, 32)
    assert batch.extra['return_to_go'].tolist() == batch.reward.tolist()
    after = np.where(np.isin(batch.reward, [3, 9]), batch.reward, batch.reward + 1)
    assert batch.extra['next_action'][:, 0].tolist() == after.tolist()
