"""OGBench's npz files (arXiv 2410.20092): flat arrays, one row a step.

`terminals` mark the last row of each trajectory, which a time limit ended: that row has no
successor and is dropped, and no terminal cuts the return. The sets carry no rewards. A single task
gets them from the file (`rewards` and `masks`, the mask 0 at success), or OGBench's own package
computes them from the state before the action and the goal of the task's environment:

    reward = -(parts of the goal that do not hold),  mask = 0 where all hold, else 1

A maze has one part, so that reward = success - 1. The environment must be one of OGBench's single
tasks, which has the robot, the coordinates and the goal of the data. Pickled arrays are never read.
"""

import contextlib

import gymnasium as gym
import numpy as np

from dtql_jax.data import flat, validate
from dtql_jax.data.boxes import flat_bound
from dtql_jax.data.episodes import Episodes
from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError

NEEDED = ('observations', 'actions', 'terminals')
OPTIONAL = ('rewards', 'masks', 'qpos', 'button_states')
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
    arrays = validate.check_flat(path, _arrays(path))
    with contextlib.closing(make_env(task)) as env:
        bound = flat_bound(task, env)
        reward, terminated = _rewards(path, arrays, env)
    end = arrays['terminals'].copy()
    # Each field is removed as it is converted: a large file would not fit twice.
    obs, action = (flat.float32(arrays.pop(name)) for name in ('observations', 'actions'))
    end[-1] = True
    rows = Episodes(
        path,
        bound,
        obs,
        action,
        reward,
        flat.next_rows(obs, end),
        terminated,
        arrays['terminals'],
        terminated & (task.scored == 'success'),
        length=np.zeros(0, int),
    )
    return flat.cut(rows, end, ~end)


def _arrays(path: str) -> dict[str, np.ndarray]:
    """The file's fields that this reader uses."""
    arrays = {}
    with flat.explained(path), open(path, 'rb') as stream:
        if stream.read(2) != b'PK':  # numpy would take it for a single array, or a pickle
            raise UserError(f'{path}: this is no npz archive; fetch or write it again')
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as file:
            flat.need(path, NEEDED, file.files)
            for name in (*NEEDED, *OPTIONAL):
                if name in file.files:
                    arrays[name] = _array(path, name, file)
    return arrays


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
    path: str, arrays: dict[str, np.ndarray], env: gym.Env
) -> tuple[np.ndarray, np.ndarray]:
    """Rewards `[N]` and ends of the return `[N]` bool, of the file or of the task's goal."""
    if 'rewards' in arrays:
        flat.need(path, ('masks',), arrays)
        return arrays['rewards'].astype(np.float64), ~arrays['masks']
    name = env.spec.id if env.spec else str(env)
    if getattr(env.unwrapped, '_reward_task_id', None) is None:
        raise UserError(
            f'{path}: the field rewards is missing, and {name} is no single task of '
            f"OGBench, which gives them: take one of OGBench's ({OWN_TASK}), or write rewards and "
            'masks (0 at success) into the file'
        )
    flat.need(path, ('qpos',), arrays)
    from ogbench.relabel_utils import relabel_dataset  # it is installed: it made env

    env.reset(seed=0)  # seeds the reset in `relabel_dataset`
    with flat.explained(path):
        relabel_dataset(name, env, arrays)
    return arrays['rewards'].astype(np.float64), arrays['masks'] == 0
