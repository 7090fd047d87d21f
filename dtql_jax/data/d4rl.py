"""D4RL's own hdf5 files (arXiv 2004.07219): flat arrays, one row a step, read without d4rl.

What `read` makes of them:

* A terminal ends the return (mask 0). A time-out ends the episode only: mask 1.
* The successor of a row is `next_observations` where the file has them, else the next row. Then the
  last row of an episode that ended by a time-out has none and is dropped, its reward with it, and
  so is the last row of the file unless it is terminal. (`d4rl.qlearning_dataset` does not look at
  `next_observations` and drops those rows always: at most one in an episode is more here.)
* Without `timeouts` an episode ends at a terminal, and where `next_observations` differ from the
  next row by more than 1e-6 in any entry, as IQL's code finds it. Without both it also ends at the
  task's horizon, as D4RL counts.

Antmazes. Rewards and terminals are kept as recorded (`goal='recorded'`), since D4RL wrote them
against the goal of its evaluation; other ways to treat the goal would need more than the file
tells. The ant walks on at the goal and each row there is terminal, so that a run of terminals ends
one episode. In the v0 files the time-outs are out of step with the episodes (Farama-Foundation/D4RL
issue 77): a note tells of transitions that leap through the maze; v2 is mended.
"""

import contextlib

import h5py
import numpy as np

from dtql_jax.data import flat, memory, validate
from dtql_jax.data.episodes import Episodes
from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.mazes import CELL
from dtql_jax.tasks.spaces import action_bound
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError

NEEDED = ('observations', 'actions', 'rewards', 'terminals')
OPTIONAL = ('timeouts', 'next_observations')
LEAP = 1e-6  # a next observation that differs more from the next row begins another episode


def read(path: str, task: Task) -> Episodes:
    """Columns of a D4RL file under the task's layout; the task's environment bounds the actions.

    Raises UserError, which names file, field and cure, for a damaged file, data that fail a check
    and a task that such a file cannot serve.
    """
    _check_task(path, task)
    arrays = validate.columns(path, _arrays(path))
    with contextlib.closing(make_env(task)) as env:
        bound, horizon = action_bound(env.action_space, task.name), env.spec.max_episode_steps
    terminal, timeout = arrays['terminals'], _timeouts(arrays, horizon)
    # Each field goes when it is converted: a large file would not fit twice.
    obs, action = (flat.float32(arrays.pop(name)) for name in ('observations', 'actions'))
    end = timeout | terminal
    if task.goal != 'none':
        end = timeout | (terminal & ~np.append(terminal[1:], False))
    end[-1] = True
    if 'next_observations' in arrays:
        next_obs, keep = flat.float32(arrays.pop('next_observations')), np.ones(len(end), bool)
    else:
        next_obs, keep = flat.next_rows(obs, end), terminal | ~end
    rows = Episodes(
        path,
        bound,
        obs,
        action,
        arrays['rewards'].astype(np.float64),
        next_obs,
        terminal,
        timeout,
        terminal & (task.goal != 'none'),
        length=np.zeros(0, int),
    )
    episodes = flat.cut(rows, end, keep)
    if task.family != 'd4rl-antmaze':
        return episodes
    return episodes._replace(notes=(*_leaps(episodes), *episodes.notes))


def _check_task(path: str, task: Task) -> None:
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
            f'goal; leave out goal={task.goal} and success_ends=false'
        )


def _arrays(path: str) -> dict[str, np.ndarray]:
    with flat.explained(path), h5py.File(path, 'r') as file:
        there = {name for name in file if isinstance(file[name], h5py.Dataset)}
        flat.need(path, NEEDED, there)
        return {name: _array(file[name]) for name in (*NEEDED, *OPTIONAL) if name in there}


def _array(stored: h5py.Dataset) -> np.ndarray:
    if stored.dtype.kind not in 'fiub' or not stored.size:
        return np.asarray(stored[()])
    array = memory.empty(stored.shape, stored.dtype)
    stored.read_direct(array)
    return array


def _timeouts(arrays: dict[str, np.ndarray], horizon: int) -> np.ndarray:
    """Where an episode ends without a terminal, `[N]` bool: as recorded, or else found."""
    if 'timeouts' in arrays:
        return arrays['timeouts']
    obs, terminal = arrays['observations'], arrays['terminals']
    if 'next_observations' in arrays:
        leap = np.zeros(len(obs), bool)
        for column, after in zip(obs.T, arrays['next_observations'].T, strict=True):
            leap[:-1] |= np.abs(after[:-1] - column[1:]) > LEAP
        return leap & ~terminal
    row = np.arange(len(terminal))
    start = np.maximum.accumulate(np.where(np.append(True, terminal[:-1]), row, 0))
    return ((row - start + 1) % horizon == 0) & ~terminal


def _leaps(episodes: Episodes) -> tuple[str, ...]:
    step = np.linalg.norm(episodes.next_obs[:, :2] - episodes.obs[:, :2], axis=1)
    leaps = int((step[~episodes.terminated] > CELL['d4rl-antmaze']).sum())
    if not leaps:
        return ()
    return (
        f'{leaps:,} transitions leap over more than a cell: the time-outs are out of step with '
        'the episodes, as in the v0 files; those of v2 are mended',
    )
