"""The rows that lanes add: where they are written, and how batches are drawn from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.training import buffer as buffers
from dtql_jax.training.update import sample
from dtql_jax.types import Transition
from tests.helpers import toy

ROWS, LANES, ROOM = 8, 2, 5


def data(rows=ROWS, columns=()):
    """Transitions whose rewards are 0, 1, ..."""
    plain = toy.data(rows)
    return plain._replace(extra=dict.fromkeys(columns, plain.action))


def row(value, columns=()):
    """A row of each lane with the reward `value`; lane 1 has 100 more."""
    lane = np.float32([value, value + 100])
    obs, action = (np.repeat(lane[:, None], n, axis=1) for n in (3, 2))
    return Transition(obs, action, lane, np.ones(2, np.float32), obs)


def written(rows, columns=(), joined=None):
    """A buffer with rows of the rewards 0, 1, ..."""
    buffer = buffers.empty(data(columns=columns), LANES, ROOM)
    every = np.ones(LANES, bool)
    for i in range(rows):
        flags = {name: every & (joined or [True] * rows)[i] for name in columns}
        buffer = buffers.insert(buffer, jnp.full(LANES, i), every, row(i), flags)
    return buffer


def test_insert__writes_the_rows_of_those_that_made_one():
    buffer = written(2)
    at, made = jnp.array([2, 1]), jnp.array([True, False])
    after = jax.device_get(buffers.insert(buffer, at, made, row(7), {}))
    assert after.reward.tolist() == [[0, 1, 7, 0, 0], [100, 101, 0, 0, 0]]
    assert after.next_obs[0, 2].tolist() == [7, 7, 7]


def test_insert__no_row_leaves_its_room():
    full = written(ROOM)
    at = jnp.full(LANES, ROOM)
    after = buffers.insert(full, at, jnp.zeros(LANES, bool), row(7), {})
    assert toy.equal(after, full)


@pytest.mark.parametrize(
    ('joined', 'expected'),
    [([False, True, True], [1, 2, 2]), ([True, False, True], [0, 2, 2])],
)
def test_insert__a_column_holds_the_action_that_follows(joined, expected):
    """A row whose successor does not follow it keeps its own; so does the newest one."""
    after = jax.device_get(written(3, ('next_action',), joined))
    assert after.extra['next_action'][0, :3, 0].tolist() == expected
    assert after.extra['next_action'][1, :3, 1].tolist() == [100 + x for x in expected]
    assert not after.extra['next_action'][:, 3:].any()


def rewards(rows, lane, size=20_000):
    """The rewards of a batch: those of the data are negative."""
    old = data()
    old = old._replace(reward=-1 - old.reward)
    batch = buffers.sample(
        jax.random.key(0), jnp.int32(3), old, written(rows), lane, jnp.int32(rows), size
    )
    assert batch.obs.shape == (size, 3)
    return np.asarray(batch.reward)


@pytest.mark.parametrize('rows', [1, 3, ROOM])
@pytest.mark.parametrize('lane', [0, 1])
def test_sample__is_uniform_over_the_data_and_the_rows_of_the_lane(rows, lane):
    found, counts = np.unique(rewards(rows, lane), return_counts=True)
    assert found.tolist() == [*range(-ROWS, 0), *(100 * lane + i for i in range(rows))]
    share = counts / counts.sum()
    deviation = np.sqrt(1 / (ROWS + rows) / counts.sum())
    np.testing.assert_allclose(share, 1 / (ROWS + rows), atol=5 * deviation)


def test_sample__without_rows_is_the_batch_of_the_part_on_data():
    state = toy.Toy(toy.Spec(3, 2), toy.Config()).init(jax.random.key(1))
    ours = buffers.sample(state.key, state.step, data(), written(0), 0, jnp.int32(0), 16)
    assert toy.equal(ours, sample(state, data(), 16))


def test_filled__and_refilled_keep_the_rows():
    buffer = written(3, ('next_action',))
    found = buffers.filled(buffer, 3)
    assert found.obs.shape == (LANES, 3, 3)
    assert toy.equal(buffers.refilled(found, ROOM), buffer)
    assert buffers.refilled(found, 9).extra['next_action'].shape == (LANES, 9, 2)
