"""The rows that each lane adds to the data while it goes on in the environment.

All lanes share the data `[N, ...]`. A lane's own rows stand behind them, as if both were one array:
index `N + i` is the lane's row i. A batch is uniform over all of them, so the share of new rows
grows as `n / (N + n)`. There is room for every row of the run. None is overwritten.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.training.update import index_key
from dtql_jax.types import Transition


def empty(data: Transition, lanes: int, capacity: int) -> Transition:
    """Room for `capacity` rows of each lane, `[S, capacity, ...]`, in the shapes of `data`."""
    return jax.tree.map(lambda x: jnp.zeros((lanes, capacity, *x.shape[1:]), x.dtype), data)


def insert(
    buffer: Transition,
    at: jax.Array,
    made: jax.Array,
    row: Transition,
    joined: Mapping[str, jax.Array],
) -> Transition:
    """Writes a row of each lane.

    A further column holds the action that follows. It is not known yet: the row gets its own action
    there, and the row before it gets this action.

    Args:
        buffer: the rows so far, `[S, capacity, ...]`.
        at: the number of rows that each lane has, `[S]`.
        made: the lanes that have a row to write, `[S]`.
        row: their rows, `[S, ...]`.
        joined: for each further column, whether this action follows the row before, `[S]`.
    """
    lanes, (_, capacity) = jnp.arange(len(at)), buffer.reward.shape
    place = jnp.where(made, at, capacity)  # there is no such row: nothing is written
    row = row._replace(extra=dict.fromkeys(buffer.extra, row.action))
    buffer = jax.tree.map(lambda x, new: x.at[lanes, place].set(new, mode='drop'), buffer, row)
    extra = {}
    for name, column in buffer.extra.items():
        before = jnp.where(made & joined[name] & (at > 0), at - 1, capacity)
        extra[name] = column.at[lanes, before].set(row.action, mode='drop')
    return buffer._replace(extra=extra)


def sample(
    key: jax.Array,
    step: jax.Array,
    data: Transition,
    buffer: Transition,
    lane: jax.Array,
    rows: jax.Array,
    batch_size: int,
) -> Transition:
    """A batch of one lane, drawn with replacement, uniformly over the data and its own rows.

    Args:
        key: the key of the lane's run.
        step: its update.
        data: the data, `[N, ...]`.
        buffer: the rows of all lanes, `[S, capacity, ...]`.
        lane: the lane's place in the buffer.
        rows: the number of its rows.
        batch_size: the rows of the batch.
    """
    size = data.reward.shape[0]
    index = jax.random.randint(index_key(key, step), (batch_size,), 0, size + rows)
    old, own = jnp.minimum(index, size - 1), jnp.maximum(index - size, 0)

    def pick(x: jax.Array, y: jax.Array) -> jax.Array:
        is_old = (index < size).reshape(-1, *[1] * (x.ndim - 1))
        return jnp.where(is_old, x[old], y[lane, own])

    return jax.tree.map(pick, data, buffer)


def filled(buffer: Transition, rows: int) -> Transition:
    """The first `rows` rows of each lane, in host memory."""
    return jax.tree.map(lambda x: np.ascontiguousarray(jax.device_get(x)[:, :rows]), buffer)


def refilled(found: Transition, capacity: int) -> Transition:
    """Room for `capacity` rows of each lane, the first of which are those `found`."""

    def widen(x: jax.Array) -> np.ndarray:
        wide = np.zeros((len(x), capacity, *x.shape[2:]), x.dtype)
        wide[:, : x.shape[1]] = x
        return wide

    return jax.tree.map(widen, found)
