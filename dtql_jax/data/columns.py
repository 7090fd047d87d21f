"""Further columns of a dataset, for the agents that ask for them with `Agent.columns`."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from dtql_jax.data.load import Dataset
from dtql_jax.data.memory import empty
from dtql_jax.types import UserError


def next_action(dataset: Dataset, discount: float) -> np.ndarray:
    """The action of the next row, `[N, A]`; at the last row of an episode its own action.

    Where `mask` is 0 nothing after the row counts; after a time-out the next action is not known.
    """
    del discount
    action = dataset.transitions.action
    after = empty(action.shape, action.dtype)
    after[:-1], after[-1] = action[1:], action[-1]
    ends = np.cumsum(dataset.length) - 1
    after[ends] = action[ends]
    return after


def return_to_go(dataset: Dataset, discount: float) -> np.ndarray:
    """`G_t = r_t + discount * mask_t * G_{t+1}` within an episode, `[N]`, of transformed rewards.

    `G` is 0 beyond an episode's last row, a time-out included.
    """
    reward, mask = dataset.transitions.reward, dataset.transitions.mask
    result, following = np.zeros(len(reward)), 0.0
    last = set((np.cumsum(dataset.length) - 1).tolist())
    for row in reversed(range(len(reward))):
        following = 0.0 if row in last else following
        following = float(reward[row]) + discount * float(mask[row]) * following
        result[row] = following
    column = empty(result.shape, np.dtype(np.float32))
    column[...] = result
    return column


COLUMNS: dict[str, Callable[[Dataset, float], np.ndarray]] = {
    'next_action': next_action,
    'return_to_go': return_to_go,
}


def add_columns(dataset: Dataset, names: Sequence[str], discount: float) -> Dataset:
    """The dataset with the columns `names` of `COLUMNS` in `transitions.extra`.

    Raises:
        UserError: there is no column of that name.
    """
    for name in names:
        if name not in COLUMNS:
            known = ', '.join(COLUMNS)
            raise UserError(f'an agent asks for the column {name!r}; there are: {known}')
    extra = {name: COLUMNS[name](dataset, discount) for name in names}
    for array in extra.values():
        array.flags.writeable = False
    return dataclasses.replace(dataset, transitions=dataset.transitions._replace(extra=extra))
