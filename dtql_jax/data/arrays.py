"""Arrays as data: `run(request, data=...)`, `load(task, arrays=...)`.

A dict has one row a step, in the order of the episodes, under this package's names or D4RL's.
The values are NumPy arrays, jax arrays or lists. They are copied.

| ours | D4RL's | shape | meaning |
|---|---|---|---|
| `obs` | `observations` | `[N, O]` | |
| `action` | `actions` | `[N, A]` | inside the box of the task's environment |
| `reward` | `rewards` | `[N]` | |
| `mask` | `masks` | `[N]` | 0 where the return ends, else 1 |
| `terminal` | `terminals` | `[N]` | 1 - mask; give one of the two |
| `next_obs` | `next_observations` | `[N, O]` | may be left out where there are time-outs |
| `timeout` | `timeouts` | `[N]` | 1 where the episode ends and the return does not |
| `success` | `is_success` | `[N]` | 1 where the task succeeds; NaN where that is not known |

A `Transition` has the five columns that share its names.

Episodes end at a terminal and at a time-out. Without `timeout` they also end where `next_obs` is
not the next row. Where there is no `next_obs` and no row is a time-out, they end at the limit of
the task's environment, with a note (`flat.timeouts`). Without `next_obs` the successor is the next
row, and a row that ends an episode without being terminal is dropped, as `dtql_jax.data.d4rl` does.

The task needs an environment (`env_id`) and no `datasets`. Where it is scored by success, and no
field tells it, a row of mask 0 is a success; without such a row the success is not known. Mazes
with a goal are refused, since arrays do not tell the goals.
"""

import contextlib
import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np

from dtql_jax.data import flat, memory, success, validate
from dtql_jax.data.boxes import flat_bound
from dtql_jax.data.episodes import Episodes
from dtql_jax.data.rounding import Rounding
from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.task import Task
from dtql_jax.types import Transition, UserError

NAMES = {  # ours -> D4RL's
    'obs': 'observations',
    'action': 'actions',
    'reward': 'rewards',
    'mask': 'masks',
    'terminal': 'terminals',
    'next_obs': 'next_observations',
    'timeout': 'timeouts',
    'success': 'is_success',
}
CURES = validate.Cures(
    numbers='convert it to numbers',
    shape='give it one row a step',
    empty='give it one row a step',
    rows='give every field one row a step',
    sizes='give both the same size',
    flags='give 0 or 1 in each row',
)


def read_arrays(data: Transition | Mapping[str, Any], task: Task) -> Episodes:
    """Reads transitions from arrays, which are neither changed nor kept.

    Args:
        data: a `Transition`, or a dict as in this module's table.
        task: its environment bounds the actions.

    Raises:
        UserError: a field is missing, unknown, given twice, of a wrong type, shape or length, or
            holds a NaN, or an action exceeds the box; or the task has a goal or no environment. The
            text names the field and the cure.
    """
    _check_task(task)
    given = _fields(data)
    spelled = _spellings(given)
    arrays = {name: _array(given[called], called) for name, called in spelled.items()}
    told = arrays.pop('is_success', None)
    arrays = validate.check_flat('data', arrays, spelled, CURES)
    if told is not None:
        told = success.column(
            f'data: the field {spelled["is_success"]}', told, len(arrays['rewards'])
        )
    rounding = Rounding()
    rounding.fields(arrays)
    copied = [name for name in ('observations', 'actions', 'next_observations') if name in arrays]
    memory.need('data', sum(arrays[name].size * 4 for name in copied))  # as float32
    for name in copied:
        arrays[name] = flat.copy_float32(arrays[name])
    with contextlib.closing(make_env(task)) as env:
        bound, limit = flat_bound(task, env), env.spec.max_episode_steps if env.spec else None
    ends, notes = _ends(arrays, task, told, limit)
    episodes = flat.assemble('data', bound, arrays, ends)
    return episodes._replace(notes=(*notes, *episodes.notes, *rounding.notes(spelled)))


def _check_task(task: Task) -> None:
    """Raises UserError for a task that arrays cannot serve."""
    if task.goal != 'none':
        raise UserError(
            f'{task.name}: arrays do not tell the goals of a maze; register a task without a goal: '
            'register_task(Task(..., env_id=...))'
        )
    if task.env_id is None and not task.datasets:
        raise UserError(
            f'{task.name}: arrays record no environment; name one: '
            'register_task(Task(..., env_id=...))'
        )


def _fields(data: Transition | Mapping[str, Any]) -> dict[str, Any]:
    """The fields as given."""
    if isinstance(data, Transition):
        fields = data._asdict()
        if fields.pop('extra'):
            raise UserError(
                'data: the field extra is made by loading, from Agent.columns; '
                'leave it out: data._replace(extra={})'
            )
        return fields
    if isinstance(data, Mapping):
        return dict(data)
    raise UserError(
        f'data: {type(data).__name__} holds no named arrays; give a Transition or a dict of arrays'
    )


def _spellings(given: Mapping[str, Any]) -> dict[str, str]:
    """The name of each field in `given`, by D4RL's name."""
    spelled: dict[str, str] = {}
    for ours, theirs in NAMES.items():
        if ours in given and theirs in given:
            raise UserError(f'data: {ours} and {theirs} are the same field; give one of them')
        if ours in given or theirs in given:
            spelled[theirs] = ours if ours in given else theirs
    for name in given:
        if name not in spelled.values():
            _refuse(name)
    if 'terminals' in spelled and 'masks' in spelled:
        raise UserError(
            f'data: {spelled["masks"]} and {spelled["terminals"]} both tell where the return ends; '
            f"give one of them (OGBench's terminals only end episodes: give them as timeouts)"
        )
    there = [ours for ours, theirs in NAMES.items() if theirs in spelled]
    flat.need('data', ('obs', 'action', 'reward'), there, 'add it, one row a step')
    if 'terminals' not in spelled and 'masks' not in spelled:
        flat.need('data', ('mask',), there, 'add it, or terminal: they tell where the return ends')
    if 'timeouts' not in spelled:
        cure = 'add it, or timeout (0 where no episode is cut): they tell where episodes end'
        flat.need('data', ('next_obs',), there, cure)
    return spelled


def _refuse(name: Any) -> None:
    """Raises UserError for a field that is not in `NAMES`."""
    names = (*NAMES, *NAMES.values())
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    nearest = f'nearest: {near[0]}' if near else f'there are {", ".join(NAMES)}'
    raise UserError(f'data: unknown field {name!r}, {nearest}; rename it or leave it out')


def _array(values: Any, called: str) -> np.ndarray:
    """A field as an array, unchecked."""
    if np.ma.is_masked(values):
        raise UserError(f'data: the field {called} hides some numbers (a mask); fill or drop them')
    try:
        return np.asarray(values)
    except MemoryError:
        raise
    except Exception as error:  # a ragged list, or an array of a library that refuses
        what = ' '.join(str(error).split())
        raise UserError(
            f'data: the field {called} is no array ({what}); give it one row a step'
        ) from error


def _ends(
    arrays: dict[str, np.ndarray], task: Task, told: np.ndarray | None, limit: int | None
) -> tuple[flat.Ends, tuple[str, ...]]:
    """Where the return and the episodes end, the successes as `told` or as found, and notes."""
    terminal = arrays['terminals'] if 'terminals' in arrays else ~arrays['masks']
    timeout, notes = flat.timeouts(arrays, terminal, limit)
    end = terminal | timeout
    end[-1] = True
    if told is None and task.scored == 'success' and not terminal.any():
        told = np.full(len(terminal), success.UNKNOWN, np.int8)
    if told is None:
        told = terminal & (task.scored == 'success')
    return flat.Ends(terminal, timeout, end, reached=told), notes
