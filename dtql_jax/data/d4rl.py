"""D4RL's own hdf5 files (arXiv 2004.07219): flat arrays, one row a step, read without d4rl.

How rows become transitions:

* A terminal ends the return (mask 0). A time-out ends the episode only: mask 1.
* The successor of a row is `next_observations` where the file has them, else the next row. Without
  them two kinds of rows have no successor and are dropped with their rewards: the last row of an
  episode that a time-out ended, and the last row of the file unless it is terminal.
  (`d4rl.qlearning_dataset` ignores `next_observations` and always drops those rows; this reader
  keeps one more per episode at most.)
* Without `timeouts` an episode ends at a terminal, and where `next_observations` differ from the
  next row by more than 1e-6 in any entry, as IQL's code finds it. Without both it ends at a
  terminal and at the task's horizon, as D4RL counts; a note says so. `timeouts` that mark no row
  count as absent where they cannot be true: see `flat.timeouts`.

Antmazes keep the recorded rewards and terminals (`goal='recorded'`): D4RL wrote them against the
goal of its evaluation, and the file lacks what another treatment of the goal needs. The ant walks
on at the goal and each row there is terminal, so that a run of terminals ends one episode. In the
v0 files the time-outs are out of step with the episodes (Farama-Foundation/D4RL issue 77): a note
counts the transitions that leap through the maze. The v2 files are mended.
"""

import math
from pathlib import Path

import h5py
import numpy as np

from dtql_jax.data import flat, memory, success, validate
from dtql_jax.data.boxes import simulator
from dtql_jax.data.episodes import Episodes
from dtql_jax.data.hdf5 import incomplete, values
from dtql_jax.data.rounding import Rounding
from dtql_jax.tasks.mazes import CELL
from dtql_jax.tasks.success import SUCCESS
from dtql_jax.tasks.task import Task
from dtql_jax.tasks.unreadable import explained
from dtql_jax.types import UserError, outside

NEEDED = ('observations', 'actions', 'rewards', 'terminals')
OPTIONAL = ('timeouts', 'next_observations')


def read(path: str, task: Task) -> Episodes:
    """Reads a D4RL file; the task's environment bounds the actions.

    Raises:
        UserError: the file is damaged, its data fail a check, or it does not fit the task. The text
            names file, field and cure.
    """
    _check_task(path, task)
    arrays, told = _arrays(path)
    arrays = validate.check_flat(path, arrays)
    terminal, rounding = arrays['terminals'], Rounding()
    with simulator(task) as (_, bound, limit):
        timeout, notes = flat.timeouts(arrays, terminal, limit)
    rounding.fields(arrays)
    end = timeout | terminal
    if task.goal != 'none':
        end = timeout | (terminal & ~np.append(terminal[1:], False))
    end[-1] = True
    reached = terminal & (task.goal != 'none')
    if task.goal == 'none' and task.scored == 'success':
        reached = success.told_flat(told, len(terminal))
    episodes = flat.assemble(path, bound, arrays, flat.Ends(terminal, timeout, end, reached))
    if task.family == 'd4rl-antmaze':
        notes = (*_leap_notes(episodes), *notes)
    return episodes._replace(notes=(*notes, *episodes.notes, *rounding.notes()))


def _check_task(path: str, task: Task) -> None:
    """Raises UserError for a task that a D4RL file cannot serve."""
    if task.family == 'pointmaze':
        raise UserError(
            f"{path}: D4RL's maze2d files do not fit {task.name} (another simulator, with other "
            'coordinates): leave out `dataset_path` and the data are collected'
        )
    if task.family == 'antmaze':
        raise UserError(
            f"{path}: D4RL's ant is weaker than that of {task.name}, in a maze with other "
            f'coordinates; name the task of these files: `env`={task.name}-v2, or -v0'
        )
    if task.goal not in ('none', 'recorded') or (task.goal != 'none' and not task.success_ends):
        raise UserError(
            f"{path}: D4RL's files hold no goal per episode, and do not tell what follows the "
            f'goal; leave out `goal`={task.goal} and `success_ends`=false'
        )


def _arrays(path: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The file's fields that this reader uses, and what its `infos` tell of success."""
    with explained(path), h5py.File(path, 'r') as file:
        used = {n: _opened(path, file, n) for n in (*NEEDED, *OPTIONAL) if n in set(file)}
        stored = {name: item for name, item in used.items() if isinstance(item, h5py.Dataset)}
        other = [n for n in file if isinstance(file.get(n, getlink=True), h5py.HardLink)]
        arrays = [n for n in other if isinstance(file[n], h5py.Dataset)]
        flat.need(path, NEEDED, {*stored, *arrays})
        for name, array in stored.items():
            _check_written(path, name, array)
        memory.need(path, sum(math.prod(x.shape or ()) * x.dtype.itemsize for x in stored.values()))
        told = {key: file.get(f'infos/{key}', file.get(key)) for key in SUCCESS}
        return (
            {name: _array(array) for name, array in stored.items()},
            {key: values(x) for key, x in told.items() if isinstance(x, h5py.Dataset)},
        )


def _opened(path: str, file: h5py.File, name: str) -> h5py.Dataset | h5py.Group:
    """What a field's name leads to."""
    link = file.get(name, getlink=True)
    if isinstance(link, h5py.HardLink):
        return file[name]
    target = f'{getattr(link, "filename", "")}{link.path}'
    cure = 'put the file there, or write the numbers themselves'
    with outside(f'{path}: the field {name} is a link to {target}, which cannot be opened', cure):
        return file[name]


def _check_written(path: str, name: str, stored: h5py.Dataset) -> None:
    """Raises UserError where hdf5 would give zeros for numbers that are not there."""
    if stored.is_virtual:
        for source in stored.virtual_sources():
            places = (Path(source.file_name), Path(path).parent / source.file_name)
            if '%' not in source.file_name and not any(place.exists() for place in places):
                raise UserError(
                    f'{path}: the field {name} lies in {source.file_name}, which is absent; put '
                    'the file there, or write the numbers themselves'
                )
    elif lack := incomplete(stored, whole=name in validate.TABLES):
        raise UserError(f'{path}: the field {name} {lack}; write the file again')


def _array(stored: h5py.Dataset) -> np.ndarray:
    """A stored array; numbers go to memory that jax uses without a copy."""
    if stored.dtype.kind not in 'fiub' or not stored.size:
        return values(stored)
    array = memory.empty(stored.shape, stored.dtype)
    stored.read_direct(array)
    return array


def _leap_notes(episodes: Episodes) -> tuple[str, ...]:
    """A note where transitions leap over more than a cell of the maze."""
    step = np.linalg.norm(episodes.next_obs[:, :2] - episodes.obs[:, :2], axis=1)
    count = int((step[~episodes.terminated] > CELL['d4rl-antmaze']).sum())
    if not count:
        return ()
    return (
        f'{count:,} transitions leap over more than a cell: the time-outs are out of step with '
        'the episodes, as in the v0 files; those of v2 are mended',
    )
