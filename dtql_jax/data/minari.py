"""Minari datasets: downloaded where absent, and read into flat float32 columns.

In this module `minari` is Farama's package.
"""

import contextlib
import io
import os
import socket
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import minari
import numpy as np
from minari.dataset.minari_dataset import parse_dataset_id
from minari.dataset.minari_storage import is_image_space

from dtql_jax.data import memory, validate
from dtql_jax.data.boxes import recorded_bound, to_bound
from dtql_jax.data.digest import DIGEST_KEY, file_digest
from dtql_jax.data.episodes import ROWS, Episodes
from dtql_jax.data.rounding import Rounding
from dtql_jax.data.validate import Field
from dtql_jax.tasks.env import minari_folder
from dtql_jax.tasks.mazes import REACHED
from dtql_jax.tasks.spaces import leaf_paths, pick
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError

# Goal -> how many of the keys `achieved_goal` and `desired_goal` it needs.
GOAL_KEYS = {'none': 0, 'relabel': 1, 'observe': 2}
FILE = 'main_data.hdf5'
PARTS = ('observations', 'actions', 'rewards', 'terminations', 'truncations')


def read(name: str, task: Task) -> Episodes:
    """Reads the Minari set `name` (id or folder) under the task's layout and goal.

    Raises:
        UserError: the set is damaged, or its data fail a check.
    """
    length: list[int] = []  # of the episodes read so far
    with _explained(name, length):
        dataset = minari.MinariDataset(minari_folder(name) / 'data')
        bound = recorded_bound(dataset.action_space, name, task)
        scale = partial(to_bound, space=dataset.action_space, bound=bound)
        fields = _fields(dataset, task)
        if not dataset.total_episodes:
            raise UserError(f'{name}: the dataset has no episodes; record it again')
        _check_digest(dataset, minari_folder(name))
        rounding = Rounding()
        checked = (
            rounding.fields(validate.check_episode(f'{name}, episode {index}', episode, fields))
            for index, episode in enumerate(_episodes(dataset, fields))
        )
        steps = (_steps(arrays, task, scale) for arrays in checked)
        columns = _columns(name, dataset.total_steps, steps, length)
        notes = (*_other_simulator(dataset, task), *rounding.notes())
    rows: dict[str, Any] = dict(zip(ROWS, columns, strict=True))
    episodes = Episodes(name, bound, length=np.array(length), notes=notes, **rows)
    validate.check_values(episodes)
    return episodes


def _other_simulator(dataset: minari.MinariDataset, task: Task) -> tuple[str, ...]:
    """A note where the set was recorded in another simulator than the task is played in."""
    recorded, played = dataset.env_spec, (task.env_id or '').rpartition(':')[2]
    if recorded is None or not played or recorded.id == played:
        return ()
    return (
        f'recorded in {recorded.id}, played in {played}: another simulator may be another task '
        '(docs/data.md)',
    )


def _check_digest(dataset: minari.MinariDataset, folder: Path) -> None:
    """Raises UserError where the file differs from the seal that a set collected here has."""
    expected, path = dataset.storage.metadata.get(DIGEST_KEY), folder / 'data' / FILE
    if expected is not None and file_digest(path) != expected:
        raise UserError(
            f'{path}: the contents differ from what was collected (their SHA-256 is not the '
            f'{DIGEST_KEY} of metadata.json); remove {folder} and collect again'
        )


def _columns(
    name: str, total: int, steps: Iterable[tuple[np.ndarray, ...]], length: list[int]
) -> list[np.ndarray]:
    """The columns of `ROWS` from the `steps` of each episode, whose lengths go to `length`.

    `total` is the number of steps that the set promises: the columns are allocated once.
    """
    columns: list[np.ndarray] = []
    start = 0
    for episode in steps:
        if not columns:
            memory.need(name, total * sum(x[:1].nbytes for x in episode))
            columns = [memory.empty((total, *x.shape[1:]), x.dtype) for x in episode]
        length.append(len(episode[0]))
        start += length[-1]
        if start > total:
            break
        for column, part in zip(columns, episode, strict=True):
            column[start - length[-1] : start] = part
    if start != total:
        raise UserError(
            f'{name}: metadata.json promises {total:,} steps, the first {len(length):,} episodes '
            f'have {start:,}; the set is incomplete, fetch or record it again'
        )
    return columns


def _episodes(dataset: minari.MinariDataset, fields: dict[str, Field]) -> Iterable[Any]:
    """Episodes in order, with the attributes of Minari's.

    An hdf5 file is read here, and only the parts that are needed: Minari would also read `infos`,
    which may be larger than the rest. Minari reads sets with images, since it decodes them.
    """
    spaces = (
        pick(dataset.observation_space, field.path) for field in fields.values() if field.path
    )
    plain = not any(map(is_image_space, (dataset.observation_space, *spaces)))
    if dataset.storage.FORMAT != 'hdf5' or not plain:
        yield from dataset.iterate_episodes()
        return
    with h5py.File(dataset.storage.data_path / FILE, 'r') as file:
        for index in dataset.episode_indices:
            group = file[f'episode_{index}']
            yield SimpleNamespace(**{part: group[part] for part in PARTS})


def _fields(dataset: minari.MinariDataset, task: Task) -> dict[str, Field]:
    """The fields to read, by name: observations in flattening order, then the rest."""
    if task.goal == 'recorded':
        raise UserError(
            f"{task.name}: the episodes of a Minari set have a goal each, {task.name}'s rewards "
            'mean one for all: set `goal`=relabel or `goal`=observe'
        )
    space = dataset.observation_space
    fields = {
        '/'.join(('observations', *path)): Field('observations', path, pick(space, path).shape)
        for path in leaf_paths(space, task.observed_keys)
    }
    for key in ('achieved_goal', 'desired_goal')[: GOAL_KEYS[task.goal]]:
        (path,) = leaf_paths(space, (key,))
        fields[key] = Field('observations', path, space[key].shape)
    fields['actions'] = Field('actions', (), dataset.action_space.shape)
    return fields | {
        name: Field(name, (), ()) for name in ('rewards', 'terminations', 'truncations')
    }


def _steps(
    arrays: Mapping[str, np.ndarray], task: Task, scale: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, ...]:
    """The columns of an episode, in the order of `ROWS`."""
    leaves = [leaf for name, leaf in arrays.items() if name.startswith('observations')]
    with np.errstate(over='ignore'):  # `check_values` reports what float32 cannot hold
        obs = np.concatenate(
            [leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1, dtype=np.float32
        )
    reward = arrays['rewards'].astype(np.float64)
    reached = np.zeros(len(reward), bool)
    if task.goal != 'none':
        # The goal beside the next observation is the one that the step was rewarded for: a
        # simulator that draws a new goal on success shows it one step later.
        goal = task.fixed_goal if task.goal == 'relabel' else arrays['desired_goal'][1:]
        reached = np.linalg.norm(arrays['achieved_goal'][1:] - goal, axis=1) <= REACHED[task.family]
    if task.goal == 'relabel':
        reward = reached.astype(np.float64)
    ends = (arrays['terminations'].astype(bool), arrays['truncations'].astype(bool))
    return obs[:-1], scale(arrays['actions']), reward, obs[1:], *ends, reached


@contextlib.contextmanager
def _explained(name: str, length: list[int]) -> Iterator[None]:
    """Turns what the storage layers raise for damaged files into one line."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error) if name in str(error) else f'{name}: {error}') from error
    except (OSError, KeyError, ValueError, AssertionError) as error:
        what = ' '.join(str(error).split())
        raise UserError(
            f'{name}, episode {len(length)}: cannot be read, a file is truncated or a field is '
            f'missing ({what}); remove {minari_folder(name)} and fetch or record it again'
        ) from error


def fetch(name: str, download: bool) -> None:
    """Downloads the absent set `name`.

    Raises:
        UserError: that fails, or `download` forbids it. The text names the command.
    """
    try:
        parse_dataset_id(name)
    except (ValueError, TypeError) as error:
        raise UserError(
            f'{name!r} is neither a Minari dataset id (like me/my-data-v0) nor its folder'
        ) from error
    reason = _download(name) if download else 'downloads are switched off'
    if reason is None:
        return
    raise UserError(
        f'dataset {name} is not in {minari_folder("")} and {reason}; with a network run: '
        f'pip install "minari[hf]" && minari download {name} ; or point to a folder that has it: '
        'export MINARI_DATASETS_PATH=/path/to/datasets'
    )


def _download(name: str) -> str | None:
    """Downloads a set; returns the reason in words where that fails."""
    if not _online():
        return 'there is no connection to download it'
    print(f'downloading {name} with Minari ...', flush=True)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            minari.download_dataset(name)
    except Exception as error:  # each remote has its own family of errors
        return f'the download failed ({" ".join(str(error).split())[:200]})'
    return None


def _online() -> bool:
    """Whether the dataset host answers. Without this check Minari retries for half a minute."""
    if urllib.request.getproxies() or 'MINARI_REMOTE' in os.environ:
        return True  # only an attempt can tell whether a proxy or another remote answers
    url = urllib.parse.urlsplit(os.environ.get('HF_ENDPOINT', 'https://huggingface.co'))
    try:
        socket.create_connection((url.hostname, url.port or 443), timeout=3).close()
    except OSError:
        return False
    return True
