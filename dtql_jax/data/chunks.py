"""Chunks of actions (Li, Zhou & Levine, NeurIPS 2025, arXiv 2507.07969): h rows of the data as one.

With the setting `horizon_length` h above 1 a policy chooses h actions at once, which are played in
a row: one step of the agent is h of the simulator. To the agent a window of h rows is one row:

| column | of the window that begins in row t |
|---|---|
| `obs` | `obs_t` |
| `action` | `a_t` to `a_{t+h-1}`, one after the other: `[h A]` |
| `reward` | `sum_k discount^k r_{t+k}`, up to the row where the return ends |
| `mask` | 0 if the return ends in the window, else `discount^(h-1)`: agents multiply once more |
| `next_obs` | `next_obs_{t+h-1}` |

**The end of an episode.** A row begins a window if its episode has h rows from there on, or if the
return ends in those that it has. Then no later action matters to the target, and the last one is
repeated. Before a time-out, what h actions earn is not known: its last h - 1 rows begin none.

The released code (ColinQiyangLi/qc, 48283b4) draws windows from all rows and across the ends of
episodes. Those that go on after an end count for no critic, also where the return ends there, and
only their actions before the end for the clone. Where the return ends within an episode, as in
OGBench's mazes, it adds the rewards of the rows after that.
"""

import dataclasses
from typing import Any

import numpy as np

from dtql_jax.data import memory
from dtql_jax.data.load import Dataset
from dtql_jax.types import Transition, UserError


def chunked(dataset: Dataset, horizon_length: int, discount: float) -> Dataset:
    """A dataset whose rows are the windows of another one, read-only; that one itself with h = 1.

    Its `spec` is that of the agent. Its card stays that of the single rows. The windows are written
    out: with a million rows and h = 5, eight numbers an action take 128 MB more than single rows.

    Args:
        dataset: the single rows.
        horizon_length: h.
        discount: that of the agent.

    Raises:
        UserError: no episode has h rows, or the rows have further columns.
    """
    h, rows, where = horizon_length, dataset.transitions, f'`horizon_length`={horizon_length}'
    if h == 1:
        return dataset
    if rows.extra:
        raise UserError(
            f'{where}: the agent reads {", ".join(rows.extra)} of single rows, which windows do '
            'not have: set it to 1, or choose another agent'
        )
    if h > (longest := int(dataset.length.max())):
        raise UserError(
            f'{where}: the longest episode of {dataset.task.name} has {longest:,} rows: set it to '
            'that at most; if the episodes are longer, the data do not tell: give the rows in '
            'their order, with `episode` or `timeout`'
        )
    with memory.enough(dataset.task.name):
        last = np.repeat(np.cumsum(dataset.length) - 1, dataset.length)  # of each row's episode
        first = np.arange(len(last))
        reward, mask = (x.astype(np.float64) for x in (rows.reward, rows.mask))
        for k in range(1, h):
            row = np.minimum(first + k, last)
            reward += discount**k * mask * rows.reward[row]
            mask *= rows.mask[row]
        first = np.flatnonzero((first + h - 1 <= last) | (mask == 0))
        row = np.minimum(first[:, None] + np.arange(h), last[first, None])  # [M, h]
        columns: list[Any] = [
            _take(rows.obs, first),
            _take(rows.action, row.ravel()).reshape(len(row), -1),
            _take(reward, first),
            _take(discount ** (h - 1) * mask, first),
            _take(rows.next_obs, row[:, -1]),
        ]
    for array in columns:
        array.flags.writeable = False
    spec = dataclasses.replace(
        dataset.spec,
        action_dim=h * dataset.spec.action_dim,
        action_low=h * dataset.spec.action_low,
        action_high=h * dataset.spec.action_high,
        horizon_length=h,
    )
    length = np.unique(last[first], return_counts=True)[1]
    return dataclasses.replace(dataset, transitions=Transition(*columns), spec=spec, length=length)


def _take(array: Any, row: np.ndarray) -> np.ndarray:
    """`array[row]` in float32, where jax's CPU device uses it without a copy."""
    taken = memory.empty((len(row), *array.shape[1:]), np.float32)
    taken[...] = array[row]
    return taken
