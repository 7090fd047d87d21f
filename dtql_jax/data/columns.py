"""Further columns of a dataset, for the agents that ask for them with `Agent.columns`.

| name | row t holds |
|---|---|
| `next_action` | the action after `next_obs`: that of row t+1 of the same episode |
| `next_row_action` | the action of row t+1, of whatever episode |
| `return_to_go` | the discounted sum of the rewards from row t to the end of its episode |

Loading computes them, so that any dataset has them. The fingerprint covers the five columns of
`Transition` alone: an agent that asks for more trains on the same data.

**The end of an episode.** The data hold no action after an episode's last row. Where that row's
`mask` is 0 the choice does not matter, since everything after it is multiplied by the mask. After a
time-out the mask is 1, and `next_action` is the row's own action: one row per episode. The released
codes of ReBRAC differ in this row. seohongpark/fql takes the next row of its array, the first
action of another episode; this is `next_row_action`. tinkoff-ai/ReBRAC takes the action of the
time-out's own row and drops the row; `dtql_jax.data.d4rl` drops it with its action.
"""

import dataclasses
import difflib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dtql_jax.data.load import Dataset
from dtql_jax.data.memory import empty
from dtql_jax.tasks.task import Task
from dtql_jax.types import Spec, Transition, UserError


def next_action(dataset: Dataset, discount: float) -> np.ndarray:
    """`a_{t+1}`, or `a_t` in the last row of an episode; float32 `[N, A]`."""
    del discount
    action = dataset.transitions.action
    following, last = empty(action.shape, np.float32), _last_rows(dataset)
    following[:-1] = action[1:]
    following[last] = action[last]
    return following


def next_row_action(dataset: Dataset, discount: float) -> np.ndarray:
    """`a_{t+1}` across the ends of episodes, or `a_t` in the last row of all; float32 `[N, A]`."""
    del discount
    action = dataset.transitions.action
    following = empty(action.shape, np.float32)
    following[:-1], following[-1] = action[1:], action[-1]
    return following


def return_to_go(dataset: Dataset, discount: float) -> np.ndarray:
    """`G_t = r_t + discount * mask_t * G_{t+1}`, `G = 0` after an episode; float32 `[N]`.

    Rewards are those after the transform. A time-out cuts the sum as a termination does.
    """
    total = dataset.transitions.reward.astype(np.float64)
    weight = discount * dataset.transitions.mask.astype(np.float64)
    weight[_last_rows(dataset)] = 0
    # G_t = total_t + weight_t * G_{t+span}: each pass doubles the span, until no weight is left.
    span = 1
    while weight.any():
        total[:-span] += weight[:-span] * total[span:]
        weight[:-span] *= weight[span:]
        span *= 2
    column = empty(total.shape, np.float32)
    column[...] = total
    return column


def _last_rows(dataset: Dataset) -> np.ndarray:
    """The last row of each episode `[E]`."""
    return np.cumsum(dataset.length) - 1


COLUMNS: dict[str, Callable[[Dataset, float], np.ndarray]] = {
    'next_action': next_action,
    'next_row_action': next_row_action,
    'return_to_go': return_to_go,
}
# Those that the next action completes, for rows that a run adds in the environment. The value tells
# whether the first action of the next episode counts too.
ONLINE = {'next_action': False, 'next_row_action': True}


def one_row(spec: Spec, names: Sequence[str]) -> Transition:
    """A transition `[1, ...]` of zeros with the columns `names`: the shapes that an agent sees."""
    sizes = [(1, spec.obs_dim), (1, spec.action_dim), (1,), (1,), (1, spec.obs_dim)]
    arrays: list[Any] = [np.zeros(size, np.float32) for size in sizes]
    blank = Dataset(Transition(*arrays), spec, {}, Task('blank'), np.ones(1, int), lambda r: r)
    return add_columns(blank, names, 1.0).transitions


def add_columns(dataset: Dataset, names: Sequence[str], discount: float) -> Dataset:
    """A dataset whose `transitions.extra` holds the columns `names`, read-only `[N, ...]`.

    Args:
        dataset: its other arrays and its card are kept as they are.
        names: keys of `COLUMNS`.
        discount: that of `return_to_go`.

    Raises:
        UserError: there is no column of that name.
    """
    for name in names:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, n=1, cutoff=0) or list(COLUMNS)
            raise UserError(
                f'unknown column {name!r}, nearest: {near[0]} (of {", ".join(COLUMNS)}); '
                'mend Agent.columns'
            )
    extra: dict[str, Any] = {name: COLUMNS[name](dataset, discount) for name in names}
    for array in extra.values():
        array.flags.writeable = False
    return dataclasses.replace(dataset, transitions=dataset.transitions._replace(extra=extra))
