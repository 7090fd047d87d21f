"""`load`: from a task to the arrays that training uses."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtql_jax.data import boxes, cache, flat, made, memory, own_files, validate
from dtql_jax.data import d4rl as d4rl_reader
from dtql_jax.data import minari as minari_reader
from dtql_jax.data import ogbench as ogbench_reader
from dtql_jax.data.arrays import read_arrays
from dtql_jax.data.card import make_card
from dtql_jax.data.download import local_file
from dtql_jax.data.episodes import ROWS, Episodes
from dtql_jax.data.rewards import Map, Transform, parse_reward, transform_rewards
from dtql_jax.data.rounding import Rounding
from dtql_jax.tasks.minari_sets import is_folder, minari_folder
from dtql_jax.tasks.own_files import SUFFIXES, files_in, is_own
from dtql_jax.tasks.task import MADE, Task
from dtql_jax.tasks.unreadable import explained
from dtql_jax.types import Spec, Transition, UserError

# Suffix -> the usual reader of a file.
FILES = {'.hdf5': d4rl_reader.read, '.npz': ogbench_reader.read}

Collect = Callable[[Task, str], bool]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Transitions as read-only float32 numpy arrays `[N, ...]`, and what describes them.

    `reward` makes the rewards of the simulator those that agents see.
    """

    transitions: Transition
    spec: Spec
    card: dict[str, Any]
    task: Task  # as loaded
    length: np.ndarray  # [E] int, rows of each episode, in order
    reward: Map


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
        reward: the transform of rewards, see `dtql_jax.data.rewards`.
        arrays: transitions that replace the task's datasets, see `dtql_jax.data.arrays`.
        collect: `collect(task, dataset)` may make an absent Minari set; it returns whether it did.
        download: whether an absent dataset may be fetched.

    Raises:
        UserError: the data are absent, damaged or wrong. The text names dataset, episode, row,
            field and cure.
    """
    transforms = parse_reward(reward)
    with memory.enough(task.name):
        if arrays is not None:
            episodes = _in_box(read_arrays(arrays, task), task)
            task = dataclasses.replace(task, datasets=('arrays',), source='arrays')
        else:
            parts = [_read(name, task, collect, download) for name in _datasets(task)]
            episodes = _join([_in_box(part, task) for part in parts])
            if not task.has_env:
                task = dataclasses.replace(task, source='files')
        seen = {'min': float(episodes.action.min()), 'max': float(episodes.action.max())}
        episodes, units = boxes.to_own_box(episodes, task)
        episodes, rewards, new_reward = _rewards(episodes, transforms, reward)
        transitions = _transitions(episodes, task, rewards)
        card = make_card(task, episodes, transitions, reward)
        if units:  # the agent's differ from those of the user
            card['action_range'] = seen
        if task.normalize_obs:  # after the card, which tells of the data as they are
            units |= _normalize(transitions)
    columns: Sequence[Any] = transitions[:5]
    for array in columns:  # jax's CPU device may alias them
        array.flags.writeable = False
    spec = Spec(episodes.obs.shape[1], episodes.action.shape[1], episodes.max_action, **units)
    return Dataset(transitions, spec, card, task, episodes.length, new_reward)


def with_dataset(task: Task, path: str | Path) -> Task:
    """The task with the dataset at `path` in place of its own.

    Raises:
        UserError: `path` is no Minari folder, no file with data and no folder of such files.
    """
    path = Path(path)
    with explained(str(path)):
        readable = path.is_file() if path.suffix in SUFFIXES else (path / 'data').is_dir()
    if not (readable or files_in(str(path))):
        raise UserError(
            f'{path} is no Minari dataset: give the folder that contains data/, or a file '
            f'({", ".join(SUFFIXES)}) that is there, or a folder of such files'
        )
    return dataclasses.replace(task, datasets=(str(path.resolve()),), source='given')


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
    if is_own(name):
        ours = own_files.is_ours(Path(name), task)
        reader = own_files.read if ours else FILES[Path(name).suffix]
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


def _in_box(part: Episodes, task: Task) -> Episodes:
    """A dataset with its actions in their box, which becomes the simulator's."""
    return boxes.to_simulator(boxes.inside(part, task), task)


def _normalize(transitions: Transition) -> dict[str, Any]:
    """Brings observations, in place, to mean 0 and deviation 1; returns how, as `Spec` has it.

    The deviation is that of TD3+BC's code, which adds 1e-3. A number that never changes keeps its
    scale.
    """
    obs = np.asarray(transitions.obs)
    mean = np.array([column.mean(dtype=np.float64) for column in obs.T])
    std = np.array([column.std(dtype=np.float64) for column in obs.T])
    std = np.where(obs.min(0) == obs.max(0), 1.0, std + 1e-3)
    for array in (obs, np.asarray(transitions.next_obs)):
        array -= mean.astype(np.float32)
        array /= std.astype(np.float32)
    return {'obs_mean': tuple(mean.tolist()), 'obs_std': tuple(std.tolist())}


def _rewards(
    episodes: Episodes, transforms: list[Transform], name: str
) -> tuple[Episodes, np.ndarray, Map]:
    """The episodes with a note where rewards collapse, their new rewards `[N]`, and the map."""
    validate.check_rewards(episodes, flat.float32(episodes.reward), 'none')
    starts = np.cumsum(episodes.length) - episodes.length
    exact, new_reward = transform_rewards(transforms, episodes.reward, starts)
    rewards, rounding = flat.float32(exact), Rounding()
    validate.check_rewards(episodes, rewards, name)
    rounding.add('rewards', exact)
    return episodes._replace(notes=(*episodes.notes, *rounding.notes())), rewards, new_reward


def _transitions(episodes: Episodes, task: Task, rewards: np.ndarray) -> Transition:
    """The five columns."""
    columns: dict[str, Any] = {
        'obs': episodes.obs,
        'action': episodes.action,
        'reward': rewards,
        'mask': (1 - _ends(episodes, task)).astype(np.float32),
        'next_obs': episodes.next_obs,
    }
    return Transition(**columns)


def _ends(episodes: Episodes, task: Task) -> np.ndarray:
    """Whether the return ends, `[N]` bool. A time-out never ends it.

    A recorded termination in a maze means that the episode reached its own goal. `relabel` sets
    another goal, so that only `reached` counts.
    """
    if task.goal == 'none':
        return episodes.terminated
    return (episodes.reached == 1) & task.success_ends
