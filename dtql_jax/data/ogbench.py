"""OGBench's npz files (arXiv 2410.20092): flat arrays, one row a step.

`terminals` mark the last row of each trajectory, which a time limit ended: that row has no
successor and is dropped, and no terminal cuts the return. A file of what
`ogbench.make_env_and_datasets` returns tells more: `next_observations`, with which every row is
kept, or `valids`, 0 in the rows without a successor. The sets carry no rewards. A single task gets
them from the file (`rewards` and `masks`, the mask 0 at success), or OGBench's own package computes
them from the state before the action and the goal of the task's environment:

    reward = -(parts of the goal that do not hold),  mask = 0 where all hold, else 1

A maze has one part, so that reward = success - 1. The environment must be one of OGBench's single
tasks, which has the robot, the coordinates and the goal of the data. Pickled arrays are never read.

Success is what a field `success` or `is_success` tells, also in a row that is dropped, else a mask
of 0.
"""

import math
import zipfile

import gymnasium as gym
import numpy as np

from dtql_jax.data import flat, memory, success, validate
from dtql_jax.data.boxes import simulator
from dtql_jax.data.episodes import Episodes
from dtql_jax.data.rounding import Rounding
from dtql_jax.tasks.success import SUCCESS
from dtql_jax.tasks.task import Task
from dtql_jax.tasks.unreadable import explained
from dtql_jax.types import UserError

NEEDED = ('observations', 'actions', 'terminals')
OPTIONAL = ('rewards', 'masks', 'next_observations', 'valids', 'qpos', 'button_states', *SUCCESS)
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
OWN_TASK = '`env`=antmaze-large-navigate-singletask-task1-v0'


def read(path: str, task: Task) -> Episodes:
    """Reads an OGBench file; the task's environment bounds the actions and may give the goal.

    Raises:
        UserError: the file is damaged, its data fail a check, or it does not fit the task. The text
            names file, field and cure.
    """
    if task.goal != 'none':
        raise UserError(
            f'{path}: {task.name} is played in another simulator than OGBench, with other '
            f"coordinates and another robot; take a task of OGBench's: {OWN_TASK}"
        )
    arrays = _arrays(path)
    told = {key: arrays.pop(key) for key in SUCCESS if key in arrays}
    arrays = validate.check_flat(path, arrays)
    if not told and {'rewards', 'masks'} <= arrays.keys():
        told = {'is_success': ~arrays['masks']}
    with simulator(task) as (env, bound, limit):
        reward, terminated = _rewards(path, arrays, env)
    end, rounding = _ends(path, arrays, limit), Rounding()
    rounding.fields(arrays)
    # Each field is removed as it is converted: a large file would not fit twice.
    obs, action = (flat.float32(arrays.pop(name)) for name in ('observations', 'actions'))
    recorded = arrays.pop('next_observations', None)
    next_obs = flat.next_rows(obs, end) if recorded is None else flat.float32(recorded)
    keep = ~end if recorded is None else np.ones(len(obs), bool)
    reached = terminated & (task.scored == 'success')
    if told and task.scored == 'success':
        reached = success.carried(success.told_flat(told, len(obs)), ~keep, end)
    timeout = arrays['terminals'] & (end if recorded is None else ~terminated)
    rows = Episodes(
        path,
        bound,
        obs,
        action,
        reward,
        next_obs,
        terminated,
        timeout,
        reached,
        length=np.zeros(0, int),
    )
    episodes = flat.cut(rows, end, keep)
    return episodes._replace(notes=(*episodes.notes, *rounding.notes()))


def _ends(path: str, arrays: dict[str, np.ndarray], limit: int | None) -> np.ndarray:
    """Whether a row is the last of its trajectory, `[N]` bool.

    Raises:
        UserError: nothing tells it, and one trajectory of all rows is longer than an episode.
    """
    end = ~arrays['valids'] if 'valids' in arrays else arrays['terminals'].copy()
    if 'next_observations' in arrays and not end.any():
        end = flat.leaps(arrays['observations'], arrays['next_observations'])
    elif not end.any() and limit is not None and len(end) > limit + 1:
        raise UserError(
            f'{path}: the field terminals marks no row, and {len(end):,} rows are more than an '
            f'episode of {limit:,} steps; mark the last row of each trajectory'
        )
    end[-1] = True
    return end


def _arrays(path: str) -> dict[str, np.ndarray]:
    """The file's fields that this reader uses."""
    arrays = {}
    with explained(path), open(path, 'rb') as stream:
        if stream.read(2) != b'PK':  # numpy would take it for a single array, or a pickle
            raise UserError(f'{path}: this is no npz archive; fetch or write it again')
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as file:
            flat.need(path, NEEDED, file.files)
            used = [name for name in (*NEEDED, *OPTIONAL) if name in file.files]
            memory.need(path, sum(_size(path, name, file.zip) for name in used))
            for name in used:
                arrays[name] = _array(path, name, file)
    return arrays


def _size(path: str, name: str, archive: zipfile.ZipFile) -> int:
    """The bytes of a field, which must be as many as its shape promises."""
    with archive.open(f'{name}.npy') as member:
        version = np.lib.format.read_magic(member)
        if version not in HEADERS:
            return 0
        shape, _, dtype = HEADERS[version](member)
        holds = archive.getinfo(f'{name}.npy').file_size - member.tell()
    size = math.prod(shape) * dtype.itemsize
    if size != holds and not dtype.hasobject:
        raise UserError(
            f'{path}: the field {name} has shape {shape}, which takes {size:,} bytes, and holds '
            f'{holds:,}; fetch or write it again'
        )
    return size


def _array(path: str, name: str, file: np.lib.npyio.NpzFile) -> np.ndarray:
    """A field of the archive, which must not be pickled."""
    try:
        return file[name]
    except ValueError as error:
        if 'allow_pickle' not in str(error):
            raise
        raise UserError(
            f'{path}: the field {name} holds pickled objects, which could run code and are not '
            'read; write it again as numbers'
        ) from error


def _rewards(
    path: str, arrays: dict[str, np.ndarray], env: gym.Env | None
) -> tuple[np.ndarray, np.ndarray]:
    """Rewards `[N]` and ends of the return `[N]` bool, of the file or of the task's goal."""
    if 'rewards' in arrays:
        flat.need(path, ('masks',), arrays)
        return arrays['rewards'].astype(np.float64), ~arrays['masks']
    name = env.spec.id if env and env.spec else 'the environment'
    if env is None or getattr(env.unwrapped, '_reward_task_id', None) is None:
        raise UserError(
            f'{path}: the field rewards is missing, and {name} is no single task of '
            f"OGBench, which gives them: take one of OGBench's ({OWN_TASK}), or write rewards and "
            'masks (0 at success) into the file'
        )
    flat.need(path, ('qpos',), arrays)
    from ogbench.relabel_utils import relabel_dataset  # it is installed: it made env

    env.reset(seed=0)  # seeds the reset in `relabel_dataset`
    with explained(path):
        relabel_dataset(name, env, arrays)
    return arrays['rewards'].astype(np.float64), arrays['masks'] == 0
