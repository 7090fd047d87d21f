"""Windows of rows, worked by hand, and by their definition."""

import numpy as np
import pytest

from dtql_jax.data.chunks import chunked
from dtql_jax.data.columns import add_columns
from dtql_jax.data.load import Dataset, load
from dtql_jax.types import Spec, Transition, UserError
from tests.helpers.minari_sets import OWN, episode, write


def dataset(reward, mask, length, **units):
    """Episodes of these lengths: row t observes t, acts (t, -t), and observes t + 1 then."""
    row = np.arange(len(reward), dtype=np.float32)[:, None]
    obs, action = np.repeat(row, 2, axis=1), np.concatenate([row, -row], axis=1)
    columns = (np.asarray(x, np.float32) for x in (reward, mask))
    transitions = Transition(obs, action, *columns, obs + 1)
    return Dataset(transitions, Spec(2, 2, **units), {}, OWN, np.array(length), lambda r: r)


def by_rows(data, h, discount):
    """The definition, one window at a time: (first row, rows, reward, mask)."""
    reward, mask = data.transitions.reward.tolist(), data.transitions.mask.tolist()
    found, begin = [], 0
    for length in data.length:
        stop = begin + length
        for t in range(begin, stop):
            rows = range(t, min(t + h, stop))
            end = next((i for i in rows if mask[i] == 0), None)
            if len(rows) < h and end is None:
                continue
            counted = [i for i in rows if end is None or i <= end]
            total = sum(discount ** (i - t) * reward[i] for i in counted)
            padded = [*rows, *[stop - 1] * (h - len(rows))]
            found.append((t, padded, total, 0.0 if end is not None else discount ** (h - 1)))
        begin = stop
    return found


def test_chunked__a_termination_and_a_time_out():
    # Rows 0 to 3 end by a termination, rows 4 to 7 by a time-out.
    data = dataset([1, 2, 4, 8, 16, 32, 64, 128], [1, 1, 1, 0, 1, 1, 1, 1], [4, 4])
    found = chunked(data, 3, 0.5)
    rows = found.transitions
    assert rows.obs[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert rows.action[:, ::2].tolist() == [
        [0, 1, 2], [1, 2, 3], [2, 3, 3], [3, 3, 3], [4, 5, 6], [5, 6, 7],
    ]  # fmt: skip
    assert (rows.action[:, 1::2] == -rows.action[:, ::2]).all()
    assert rows.reward.tolist() == [1 + 1 + 1, 2 + 2 + 2, 4 + 4, 8, 16 + 16 + 16, 32 + 32 + 32]
    assert rows.mask.tolist() == [0.25, 0, 0, 0, 0.25, 0.25]
    assert rows.next_obs[:, 0].tolist() == [3, 4, 4, 4, 7, 8]
    assert found.length.tolist() == [4, 2]


def test_chunked__a_goal_within_an_episode_ends_the_return_and_not_the_actions():
    data = dataset([1, 2, 4, 8, 16], [1, 1, 0, 1, 1], [5])
    rows = chunked(data, 2, 0.5).transitions
    assert rows.reward.tolist() == [2, 4, 4, 16]
    assert rows.mask.tolist() == [0.5, 0, 0, 0.5]
    assert rows.action[2].tolist() == [2, -2, 3, -3]


def test_chunked__an_episode_that_is_too_short_begins_no_window():
    found = chunked(dataset([1] * 6, [1, 1, 1, 1, 1, 0], [2, 3, 1]), 3, 0.5)
    assert found.transitions.obs[:, 0].tolist() == [2, 5]
    assert found.length.tolist() == [1, 1]


@pytest.mark.parametrize('h', [2, 3, 7])
def test_chunked__is_its_definition_on_random_episodes(h):
    rng = np.random.default_rng(0)
    length = np.array([1, 2, 3, 9, 40, 7])
    mask = rng.random(length.sum()) < 0.9
    mask[np.cumsum(length)[::2] - 1] = 0
    data = dataset(rng.normal(size=length.sum()), mask, length)
    found, expected = chunked(data, h, 0.9).transitions, by_rows(data, h, 0.9)
    assert found.obs[:, 0].tolist() == [row for row, *_ in expected]
    assert found.action[:, ::2].tolist() == [rows for _, rows, *_ in expected]
    np.testing.assert_allclose(found.reward, [x for *_, x, _ in expected], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.mask, [x for *_, x in expected])
    assert found.next_obs[:, 0].tolist() == [rows[-1] + 1 for _, rows, *_ in expected]


def test_chunked__of_one_row_is_the_dataset():
    data = dataset([1], [1], [1])
    assert chunked(data, 1, 0.5) is data


def test_chunked__the_spec_is_that_of_the_agent():
    data = dataset([1] * 3, [1] * 3, [3], action_low=(-1, 0), action_high=(3, 5))
    box = ((-1, 0, -1, 0), (3, 5, 3, 5))
    found = chunked(data, 2, 0.5).spec
    assert found == Spec(2, 4, action_low=box[0], action_high=box[1], horizon_length=2)
    assert found.box == box


@pytest.mark.usefixtures('root')
def test_chunked__of_a_set_keeps_its_card():
    write('me/own-v0', [episode(0, 3), episode(10, 3, end='terminated')])
    data = load(OWN)
    found = chunked(data, 2, 1.0)
    assert found.card is data.card
    assert found.transitions.obs[:, 0].tolist() == [0, 1, 10, 11, 12]
    assert found.transitions.reward.tolist() == [3, 5, 3, 5, 3]
    for array in found.transitions[:5]:
        assert (array.dtype, array.ctypes.data % 64) == (np.float32, 0)
        assert not array.flags.writeable
        assert array.flags.c_contiguous


def test_chunked__refuses_what_has_no_windows():
    short = dataset([1] * 5, [1, 1, 1, 0, 1], [3, 1, 1])
    with pytest.raises(UserError) as caught:
        chunked(short, 4, 0.5)
    assert str(caught.value).startswith(
        '`horizon_length`=4: the longest episode of own has 3 rows: set it to that at most'
    )
    assert 'with `episode` or `timeout`' in str(caught.value)
    with pytest.raises(UserError, match='the agent reads next_action of single rows'):
        chunked(add_columns(short, ('next_action',), 0.5), 2, 0.5)
