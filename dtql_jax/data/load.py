"""`load`: from a task to the arrays that training sees.

Reward transforms as the released codes name them (r: reward, R: undiscounted episode return):

| name | formula | used by |
|---|---|---|
| `none`, `no` | r | DTQL, everywhere but antmaze |
| `normalize` | (r - mean) / std, unbiased std | Diffusion-QL on pen |
| `iql_antmaze` | r - 1 | DTQL, IQL, IDQL, SRPO on antmaze |
| `cql_antmaze` | 4 (r - 0.5) | Diffusion-QL on antmaze |
| `antmaze` | 2 (r - 0.25) | nowhere by default |
| `iql_locomotion` | 1000 r / (max R - min R) | IQL, IDQL and SRPO on locomotion |
"""

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dtql_jax.data import cache, memory, validate
from dtql_jax.data import d4rl as d4rl_source
from dtql_jax.data import ogbench as ogbench_source
from dtql_jax.data.arrays import read_arrays
from dtql_jax.data.card import make_card
from dtql_jax.data.download import local_file
from dtql_jax.data.episodes import ROWS, Episodes
from dtql_jax.data.minari import provide, read
from dtql_jax.tasks.env import minari_folder
from dtql_jax.tasks.task import Task
from dtql_jax.types import Spec, Transition, UserError

# suffix -> reader of one file; all else is a Minari set
FILES = {'.hdf5': d4rl_source.read, '.npz': ogbench_source.read}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Transitions as float32 numpy arrays `[N, ...]`, what they tell an agent, and their card.

    `task` is the task as loaded. `length` `[E]` are the numbers of rows of the episodes, in order.
    """

    transitions: Transition
    spec: Spec
    card: dict[str, Any]
    task: Task
    length: np.ndarray


def _normalize(reward: np.ndarray, returns: np.ndarray) -> np.ndarray:
    deviation = reward.std(ddof=1) if reward.size > 1 else 0.0
    if not deviation:
        raise UserError("reward 'normalize': all rewards are equal; use another transform")
    return (reward - reward.mean()) / deviation


def _iql_locomotion(reward: np.ndarray, returns: np.ndarray) -> np.ndarray:
    span = returns.max() - returns.min()
    if not span:
        raise UserError("reward 'iql_locomotion': all returns are equal; use another transform")
    return reward * (1000 / span)


# name -> function of the rewards [N] and the undiscounted episode returns [E], both float64
REWARDS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    'none': lambda reward, returns: reward,
    'no': lambda reward, returns: reward,
    'normalize': _normalize,
    'iql_antmaze': lambda reward, returns: reward - 1,
    'cql_antmaze': lambda reward, returns: 4 * (reward - 0.5),
    'antmaze': lambda reward, returns: 2 * (reward - 0.25),
    'iql_locomotion': _iql_locomotion,
}


def load(
    task: Task,
    *,
    reward: str = 'none',
    arrays: Transition | Mapping[str, Any] | None = None,
    collect: Callable[[Task, str], bool] | None = None,
    download: bool = True,
) -> Dataset:
    """Reads and checks the task's datasets, in their order, as one set of transitions.

    Args:
        task: names the datasets; their layout and the treatment of the goal follow it.
        reward: the transform of rewards, a key of `REWARDS`.
        arrays: the data themselves, in place of the task's datasets (`dtql_jax.data.arrays`).
        collect: called with the task and an absent dataset; returns whether it has made it.
        download: whether an absent dataset may be fetched.

    Raises:
        UserError: something is wrong; the text names dataset, episode, row, field and cure.
    """
    if reward not in REWARDS:
        near = difflib.get_close_matches(reward, REWARDS, n=1) or ['none']
        raise UserError(
            f'unknown reward transform {reward!r}, nearest: {near[0]} (of {", ".join(REWARDS)})'
        )
    if arrays is not None:
        task = dataclasses.replace(task, datasets=('arrays',), source='arrays')
        episodes = read_arrays(arrays, task)
    else:
        parts = [_read(name, task, collect, download) for name in task.datasets]
        episodes = _join(parts)
    mask = 1 - _ends(episodes, task)
    starts = np.cumsum(episodes.length) - episodes.length
    returns = np.add.reduceat(episodes.reward, starts)
    transitions = Transition(
        obs=episodes.obs,
        action=episodes.action,
        reward=REWARDS[reward](episodes.reward, returns).astype(np.float32),
        mask=mask.astype(np.float32),
        next_obs=episodes.next_obs,
    )
    for array in transitions[:5]:  # the device may use them as they are, without a copy
        array.flags.writeable = False
    spec = Spec(episodes.obs.shape[1], episodes.action.shape[1], episodes.max_action)
    card = make_card(task, episodes, transitions, reward)
    return Dataset(transitions, spec, card, task, episodes.length)


def with_dataset(task: Task, path: str | Path) -> Task:
    """The task with the dataset at `path` in place of its own.

    Raises:
        UserError: there is no Minari folder, D4RL hdf5 or OGBench npz file.
    """
    path = Path(path)
    readable = path.is_file() if path.suffix in FILES else (path / 'data').is_dir()
    if not readable:
        raise UserError(
            f'{path} is no Minari dataset: give the folder that contains data/, or a file of '
            f"D4RL's (.hdf5) or OGBench's (.npz) that is there"
        )
    return dataclasses.replace(task, datasets=(str(path.resolve()),), source='given')


def _read(
    name: str, task: Task, collect: Callable[[Task, str], bool] | None, download: bool
) -> Episodes:
    """Columns of one dataset by the reader for its kind: the suffix of a file tells it."""
    if '://' in name:
        name = str(local_file(name, download=download))
    if reader := FILES.get(Path(name).suffix):
        return cache.kept(name, Path(name), task, lambda: reader(name, task))
    absent = not (minari_folder(name) / 'data').is_dir()
    if absent and not (collect and collect(task, name)):
        provide(name, download)
    return cache.kept(name, minari_folder(name) / 'data', task, lambda: read(name, task))


def _join(parts: list[Episodes]) -> Episodes:
    if len(parts) == 1:
        return parts[0]
    validate.same_layout(parts)
    columns = {}
    for field in (*ROWS, 'length'):
        arrays = [getattr(part, field) for part in parts]
        shape = (sum(map(len, arrays)), *arrays[0].shape[1:])
        columns[field] = np.concatenate(arrays, out=memory.empty(shape, arrays[0].dtype))
    notes = tuple(f'{part.name}: {note}' for part in parts for note in part.notes)
    name = ' + '.join(part.name for part in parts)
    return parts[0]._replace(name=name, notes=notes, **columns)


def _ends(episodes: Episodes, task: Task) -> np.ndarray:
    """1 where the return ends, `[N]`: time-outs never count.

    In a maze a recorded termination can only mean the episode's own goal, which under `relabel` is
    another one: there `reached` decides alone.
    """
    if task.goal == 'none':
        return episodes.terminated
    return episodes.reached & task.success_ends
