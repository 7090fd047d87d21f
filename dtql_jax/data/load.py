"""`load`: from a task to the arrays that training uses.

Transforms of rewards, named as in the released codes (r: reward, R: undiscounted episode return):

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

from dtql_jax.data import boxes, cache, flat, made, memory, validate
from dtql_jax.data import d4rl as d4rl_reader
from dtql_jax.data import minari as minari_reader
from dtql_jax.data import ogbench as ogbench_reader
from dtql_jax.data.arrays import read_arrays
from dtql_jax.data.card import make_card
from dtql_jax.data.download import local_file
from dtql_jax.data.episodes import ROWS, Episodes
from dtql_jax.data.rounding import Rounding
from dtql_jax.tasks.minari_sets import is_folder, minari_folder
from dtql_jax.tasks.task import MADE, Task
from dtql_jax.tasks.unreadable import explained
from dtql_jax.types import Spec, Transition, UserError

# Suffix -> reader of one file. A name without one of these suffixes is a Minari set.
FILES = {'.hdf5': d4rl_reader.read, '.npz': ogbench_reader.read}

Collect = Callable[[Task, str], bool]
Transform = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Transitions as read-only float32 numpy arrays `[N, ...]`, and what describes them."""

    transitions: Transition
    spec: Spec
    card: dict[str, Any]
    task: Task  # as loaded
    length: np.ndarray  # [E] int, rows of each episode, in order


def _normalize(reward: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """`(r - mean) / std`."""
    deviation = reward.std(ddof=1) if reward.size > 1 else 0.0
    if not deviation:
        raise UserError("reward 'normalize': all rewards are equal; use another transform")
    return (reward - reward.mean()) / deviation


def _iql_locomotion(reward: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """`1000 r / (max R - min R)`."""
    span = returns.max() - returns.min()
    if not span:
        raise UserError("reward 'iql_locomotion': all returns are equal; use another transform")
    return reward * (1000 / span)


# name -> function of the rewards [N] and the undiscounted episode returns [E], both float64
REWARDS: dict[str, Transform] = {
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
    collect: Collect | None = None,
    download: bool = True,
) -> Dataset:
    """Reads and checks the task's datasets and joins them, in order, as one set of transitions.

    Args:
        task: names the datasets, the layout of observations, and the treatment of the goal.
        reward: the transform of rewards, a key of `REWARDS`.
        arrays: transitions that replace the task's datasets, see `dtql_jax.data.arrays`.
        collect: `collect(task, dataset)` may make an absent Minari set; it returns whether it did.
        download: whether an absent dataset may be fetched.

    Raises:
        UserError: the data are absent, damaged or wrong. The text names dataset, episode, row,
            field and cure.
    """
    transform = _transform(reward)
    with memory.enough(task.name):
        if arrays is not None:
            episodes = boxes.to_simulator(read_arrays(arrays, task), task)
            task = dataclasses.replace(task, datasets=('arrays',), source='arrays')
        else:
            parts = [_read(name, task, collect, download) for name in _datasets(task)]
            episodes = _join([boxes.to_simulator(part, task) for part in parts])
        episodes, rewards = _rewards(episodes, transform, reward)
        transitions = _transitions(episodes, task, rewards)
        spec = Spec(episodes.obs.shape[1], episodes.action.shape[1], episodes.max_action)
        card = make_card(task, episodes, transitions, reward)
    return Dataset(transitions, spec, card, task, episodes.length)


def with_dataset(task: Task, path: str | Path) -> Task:
    """The task with the dataset at `path` in place of its own.

    Raises:
        UserError: `path` is no Minari folder, no D4RL hdf5 and no OGBench npz file.
    """
    path = Path(path)
    with explained(str(path)):
        readable = path.is_file() if path.suffix in FILES else (path / 'data').is_dir()
    if not readable:
        raise UserError(
            f'{path} is no Minari dataset: give the folder that contains data/, or a file of '
            "D4RL's (.hdf5) or OGBench's (.npz) that is there"
        )
    return dataclasses.replace(task, datasets=(str(path.resolve()),), source='given')


def _transform(reward: str) -> Transform:
    """The function of a key of `REWARDS`."""
    if reward not in REWARDS:
        near = difflib.get_close_matches(reward, REWARDS, n=1) or ['none']
        raise UserError(
            f'unknown reward transform {reward!r}, nearest: {near[0]} (of {", ".join(REWARDS)})'
        )
    return REWARDS[reward]


def _datasets(task: Task) -> tuple[str, ...]:
    """The task's datasets. Raises UserError where there are none."""
    if not task.datasets:
        raise UserError(
            f'{task.name}: the task names no dataset; give arrays as `data`, or a folder or file '
            'as `dataset_path`'
        )
    return task.datasets


def _read(name: str, task: Task, collect: Collect | None, download: bool) -> Episodes:
    """One dataset, by the reader for its kind."""
    if task.source == MADE:
        return made.read(name, task)
    if '://' in name:
        name = str(local_file(name, download=download))
    if reader := FILES.get(Path(name).suffix):
        return cache.cached(name, Path(name), task, reader)
    absent = not is_folder(minari_folder(name) / 'data')
    if absent and not (collect and collect(task, name)):
        minari_reader.fetch(name, download)
    return cache.cached(name, minari_folder(name) / 'data', task, minari_reader.read)


def _join(parts: list[Episodes]) -> Episodes:
    """Datasets one after the other."""
    if len(parts) == 1:
        return parts[0]
    validate.check_same_layout(parts)
    columns: dict[str, Any] = {}
    for field in (*ROWS, 'length'):
        arrays = [getattr(part, field) for part in parts]
        shape = (sum(map(len, arrays)), *arrays[0].shape[1:])
        columns[field] = np.concatenate(arrays, out=memory.empty(shape, np.result_type(*arrays)))
    notes = tuple(f'{part.name}: {note}' for part in parts for note in part.notes)
    name = ' + '.join(part.name for part in parts)
    return parts[0]._replace(name=name, notes=notes, **columns)


def _rewards(episodes: Episodes, transform: Transform, name: str) -> tuple[Episodes, np.ndarray]:
    """The episodes, with a note where rewards collapse, and the transformed rewards `[N]`."""
    validate.check_rewards(episodes, flat.float32(episodes.reward), 'none')
    starts = np.cumsum(episodes.length) - episodes.length
    exact = transform(episodes.reward, np.add.reduceat(episodes.reward, starts))
    rewards, rounding = flat.float32(exact), Rounding()
    validate.check_rewards(episodes, rewards, name)
    rounding.add('rewards', exact)
    return episodes._replace(notes=(*episodes.notes, *rounding.notes())), rewards


def _transitions(episodes: Episodes, task: Task, rewards: np.ndarray) -> Transition:
    """The five columns, read-only."""
    columns: dict[str, Any] = {
        'obs': episodes.obs,
        'action': episodes.action,
        'reward': rewards,
        'mask': (1 - _ends(episodes, task)).astype(np.float32),
        'next_obs': episodes.next_obs,
    }
    for array in columns.values():  # jax's CPU device may alias them
        array.flags.writeable = False
    return Transition(**columns)


def _ends(episodes: Episodes, task: Task) -> np.ndarray:
    """Whether the return ends, `[N]` bool. A time-out never ends it.

    A recorded termination in a maze means that the episode reached its own goal. `relabel` sets
    another goal, so that only `reached` counts.
    """
    if task.goal == 'none':
        return episodes.terminated
    return (episodes.reached == 1) & task.success_ends
