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
| `next_obs` | `next_observations` | `[N, O]` | may be left out with `timeout` or `episode` |
| `timeout` | `timeouts` | `[N]` | 1 where the episode ends and the return does not |
| `success` | `is_success` | `[N]` | 1 where the task succeeds; NaN where that is not known |
| `episode` | `episode_index` | `[N]` | a number or name, which changes where an episode ends |

A `Transition` has the five columns that share its names.

Episodes end at a terminal, at a time-out and where `episode` changes. Without `timeout` and
`episode` they also end where `next_obs` is not the next row. Where there is no `next_obs` and no
row is a time-out, they end at the limit of the task's environment, with a note (`flat.timeouts`).
Without `next_obs` the successor is the next row, and a row that ends an episode without being
terminal is dropped, as `dtql_jax.data.d4rl` does.

The task needs no `datasets`. One without an environment (`env_id`) is trained and not evaluated.
Where it is scored by success, and no field tells it, a row of mask 0 is a success; without such a
row the success is not known. Mazes with a goal are refused, since arrays do not tell the goals.
"""

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np

from dtql_jax.data import flat, memory, success, validate
from dtql_jax.data.boxes import simulator
from dtql_jax.data.episodes import Episodes
from dtql_jax.data.rounding import Rounding
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
    'episode': 'episode_index',
}
CURES = validate.Cures(
    numbers='convert it to numbers',
    shape='give it one row a step',
    empty='give it one row a step',
    rows='give every field one row a step',
    sizes='give both the same size',
    flags='give 0 or 1 in each row',
)


def read_arrays(data: Transition | Mapping[str, Any], task: Task, name: str = 'data') -> Episodes:
    """Reads transitions from arrays, which are neither changed nor kept.

    Args:
        data: a `Transition`, or a dict as in this module's table.
        task: its environment, if it has one, bounds the actions.
        name: names the data in messages.

    Raises:
        UserError: a field is missing, unknown, given twice, of a wrong type, shape or length, or
            holds a NaN; or the task has a goal. The text names the field and the cure.
    """
    _check_task(task)
    given = _fields(data)
    spelled = check_fields(name, given)
    arrays = {field: _array(name, given[called], called) for field, called in spelled.items()}
    told, episode = arrays.pop('is_success', None), arrays.pop('episode_index', None)
    arrays = validate.check_flat(name, arrays, spelled, CURES)
    rows = len(arrays['rewards'])
    if told is not None:
        told = success.column(f'{name}: the field {spelled["is_success"]}', told, rows)
    if episode is not None:
        last = _last_rows(f'{name}: the field {spelled["episode_index"]}', episode, rows)
        terminal = arrays['terminals'] if 'terminals' in arrays else ~arrays['masks']
        arrays['timeouts'] = (last & ~terminal) | arrays.get('timeouts', False)
    rounding = Rounding()
    rounding.fields(arrays)
    copied = [
        field for field in ('observations', 'actions', 'next_observations') if field in arrays
    ]
    memory.need(name, sum(arrays[field].size * 4 for field in copied))  # as float32
    for field in copied:
        arrays[field] = flat.copy_float32(arrays[field])
    with simulator(task) as (_, bound, limit):
        ends, notes = _ends(arrays, task, told, limit)
    episodes = flat.assemble(name, bound, arrays, ends)
    return episodes._replace(notes=(*notes, *episodes.notes, *rounding.notes(spelled)))


def _check_task(task: Task) -> None:
    """Raises UserError for a task that arrays cannot serve."""
    if task.goal != 'none':
        raise UserError(
            f'{task.name}: arrays do not tell the goals of a maze; register a task without a goal: '
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


def check_fields(name: str, given: Mapping[str, Any], ends: bool = True) -> dict[str, str]:
    """The name of each field in `given`, by D4RL's name.

    Args:
        name: names the data in messages.
        given: the fields.
        ends: whether one of them must tell where episodes end.

    Raises:
        UserError: a field is missing, unknown or given twice.
    """
    spelled: dict[str, str] = {}
    for ours, theirs in NAMES.items():
        if ours in given and theirs in given:
            raise UserError(f'{name}: {ours} and {theirs} are the same field; give one of them')
        if ours in given or theirs in given:
            spelled[theirs] = ours if ours in given else theirs
    for field in given:
        if field not in spelled.values():
            _refuse(name, field)
    if 'terminals' in spelled and 'masks' in spelled:
        raise UserError(
            f'{name}: {spelled["masks"]} and {spelled["terminals"]} both tell where the return '
            f"ends; give one of them (OGBench's terminals only end episodes: give them as timeouts)"
        )
    there = [ours for ours, theirs in NAMES.items() if theirs in spelled]
    flat.need(name, ('obs', 'action', 'reward'), there, 'add it, one row a step')
    if 'terminals' not in spelled and 'masks' not in spelled:
        flat.need(name, ('mask',), there, 'add it, or terminal: they tell where the return ends')
    if ends and not {'timeouts', 'episode_index'} & spelled.keys():
        cure = 'add it, or timeout (0 where no episode is cut): they tell where episodes end'
        flat.need(name, ('next_obs',), there, cure)
    return spelled


def _refuse(where: str, name: Any) -> None:
    """Raises UserError for a field that is not in `NAMES`."""
    names = (*NAMES, *NAMES.values())
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    nearest = f'nearest: {near[0]}' if near else f'there are {", ".join(NAMES)}'
    raise UserError(f'{where}: unknown field {name!r}, {nearest}; rename it or leave it out')


def _array(where: str, values: Any, called: str) -> np.ndarray:
    """A field as an array, unchecked."""
    if np.ma.is_masked(values):
        raise UserError(
            f'{where}: the field {called} hides some numbers (a mask); fill or drop them'
        )
    try:
        return np.asarray(values)
    except MemoryError:
        raise
    except Exception as error:  # a ragged list, or an array of a library that refuses
        what = ' '.join(str(error).split())
        raise UserError(
            f'{where}: the field {called} is no array ({what}); give it one row a step'
        ) from error


def _last_rows(field: str, episode: np.ndarray, rows: int) -> np.ndarray:
    """Whether a row is the last of its episode, `[N]` bool, from the episode of each row."""
    episode = episode[:, 0] if episode.shape[1:] == (1,) else episode
    if episode.shape != (rows,) or episode.dtype.kind not in 'fiubSU':
        raise UserError(
            f'{field} has type {episode.dtype} and shape {episode.shape}; give the number or name '
            f'of the episode of each of the {rows:,} rows'
        )
    return np.append(episode[1:] != episode[:-1], True)


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
