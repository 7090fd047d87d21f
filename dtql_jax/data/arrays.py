"""Arrays as data: `run(request, data=...)`.

A dict has one row a step, in the order of the episodes, under this package's names or D4RL's:

    obs | observations              [N, O]
    action | actions                [N, A]
    reward | rewards                [N]
    mask | masks, or terminal | terminals    [N]: the return ends at a row of mask 0 or terminal 1
    next_obs | next_observations    [N, O]
    timeout | timeouts              [N], optional: the episode ends here, the return does not

A `Transition` has the first five. The task's environment bounds the actions.
"""

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from dtql_jax.data import flat, validate
from dtql_jax.data.episodes import Episodes
from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.spaces import action_bound
from dtql_jax.tasks.task import Task
from dtql_jax.types import Transition, UserError

NAMES = {  # D4RL's name -> ours
    'observations': 'obs',
    'actions': 'action',
    'rewards': 'reward',
    'next_observations': 'next_obs',
    'terminals': 'terminal',
    'masks': 'mask',
    'timeouts': 'timeout',
}
NEEDED = ('observations', 'actions', 'rewards', 'next_observations')


def read_arrays(data: Transition | Mapping[str, Any], task: Task) -> Episodes:
    """Columns of arrays.

    Raises:
        UserError: a field is missing, unknown, of another length, or holds no finite numbers; or
            the task is a maze, whose goals arrays do not tell.
    """
    if task.goal != 'none':
        raise UserError(
            f'{task.name}: arrays do not tell the goals of a maze; register a Task without a goal, '
            'with the environment that you evaluate in'
        )
    arrays = validate.columns('data', _named(data))
    with contextlib.closing(make_env(task)) as env:
        bound = action_bound(env.action_space, task.name)
    terminal = arrays['terminals'] if 'terminals' in arrays else ~arrays['masks']
    timeout = arrays.get('timeouts', np.zeros(len(terminal), bool))
    end = terminal | timeout
    end[-1] = True
    rows = Episodes(
        'data',
        bound,
        _copied(arrays['observations']),
        _copied(arrays['actions']),
        arrays['rewards'].astype(np.float64),
        _copied(arrays['next_observations']),
        terminal,
        timeout,
        np.zeros(len(terminal), bool),
        length=np.zeros(0, int),
    )
    return flat.cut(rows, end, np.ones(len(end), bool))


def _named(data: Transition | Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays under D4RL's names."""
    given = data._asdict() if isinstance(data, Transition) else dict(data)
    given.pop('extra', None)
    arrays = {}
    for name, short in NAMES.items():
        if name in given and short in given:
            raise UserError(f'data: {name} and {short} are the same field; give one of them')
        for spelling in (name, short):
            if spelling in given:
                arrays[name] = np.asarray(given.pop(spelling))
    if given:
        known = ', '.join(f'{short} or {name}' for name, short in NAMES.items())
        raise UserError(f'data: unknown field {next(iter(given))!r}; there are: {known}')
    flat.need('data', NEEDED, arrays)
    if ('terminals' in arrays) == ('masks' in arrays):
        raise UserError('data: give either terminals (1 where the return ends) or masks (0 there)')
    return arrays


def _copied(array: np.ndarray) -> np.ndarray:
    """A float32 copy of its own: the caller may go on writing to the original."""
    return flat.float32(np.array(array, np.float64)) if array.dtype != np.float32 else array.copy()
