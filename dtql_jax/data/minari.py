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
from typing import Any

import minari
import numpy as np
from minari.dataset.minari_dataset import parse_dataset_id
from minari.dataset.minari_storage import MinariStorage

from dtql_jax.data import memory, success, validate
from dtql_jax.data import minari_files as files
from dtql_jax.data.boxes import clipped, recorded_bound, to_bound
from dtql_jax.data.digest import DIGEST_KEY, file_digest
from dtql_jax.data.episodes import ROWS, Episodes
from dtql_jax.data.rounding import Rounding
from dtql_jax.data.validate import Field
from dtql_jax.tasks.mazes import REACHED
from dtql_jax.tasks.minari_sets import minari_folder
from dtql_jax.tasks.recorded import other_simulator
from dtql_jax.tasks.spaces import leaf_paths, pick
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError

# Goal -> how many of the keys `achieved_goal` and `desired_goal` it needs.
GOAL_KEYS = {'none': 0, 'relabel': 1, 'observe': 2}


def read(name: str, task: Task) -> Episodes:
    """Reads the Minari set `name` (id or folder) under the task's layout and goal.

    Raises:
        UserError: the set cannot be read, or its data fail a check.
    """
    storage = files.open_set(name)
    folder = minari_folder(name)
    total, steps = (
        files.count(name, storage, field) for field in ('total_episodes', 'total_steps')
    )
    bound = recorded_bound(storage.action_space, name, task)
    scale = partial(to_bound, space=storage.action_space, bound=bound)
    with _named(name):
        fields = _fields(storage, task)
    if not total:
        raise UserError(f'{name}: the dataset has no episodes; record it again')
    _check_digest(storage, folder)
    length: list[int] = []  # of the episodes read so far
    rounding = Rounding()
    parts = (
        _steps(
            rounding.fields(validate.check_episode(f'{name}, episode {index}', episode, fields)),
            episode,
            task,
            scale,
        )
        for index, episode in enumerate(files.episodes(name, storage, fields, total))
    )
    columns = _columns(name, steps, parts, length)
    rows: dict[str, Any] = dict(zip(ROWS, columns, strict=True))
    notes = (*files.surplus(storage, total), *other_simulator(name, task), *rounding.notes())
    episodes = Episodes(name, bound, length=np.array(length), notes=notes, **rows)
    episodes = clipped(episodes, storage.action_space)
    validate.check_values(episodes)
    return episodes


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Puts the set's name before a message that lacks it."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error) if name in str(error) else f'{name}: {error}') from error


def _check_digest(storage: MinariStorage, folder: Path) -> None:
    """Raises UserError where the file differs from the seal that a set collected here has."""
    expected, path = storage.metadata.get(DIGEST_KEY), folder / 'data' / files.FILE
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


def _fields(storage: MinariStorage, task: Task) -> dict[str, Field]:
    """The fields to read, by name: observations in flattening order, then the rest."""
    if task.goal == 'recorded':
        raise UserError(
            f"{task.name}: the episodes of a Minari set have a goal each, {task.name}'s rewards "
            'mean one for all: set `goal`=relabel or `goal`=observe'
        )
    space = storage.observation_space
    fields = {
        '/'.join(('observations', *path)): Field('observations', path, pick(space, path).shape)
        for path in leaf_paths(space, task.observed_keys)
    }
    for key in ('achieved_goal', 'desired_goal')[: GOAL_KEYS[task.goal]]:
        (path,) = leaf_paths(space, (key,))
        fields[key] = Field('observations', path, space[key].shape)
    fields['actions'] = Field('actions', (), storage.action_space.shape)
    return fields | {
        name: Field(name, (), ()) for name in ('rewards', 'terminations', 'truncations')
    }


def _steps(
    arrays: Mapping[str, np.ndarray],
    episode: Any,
    task: Task,
    scale: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, ...]:
    """The columns of an episode, in the order of `ROWS`."""
    leaves = [leaf for name, leaf in arrays.items() if name.startswith('observations')]
    with np.errstate(over='ignore'):  # `check_values` reports what float32 cannot hold
        obs = np.concatenate(
            [leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1, dtype=np.float32
        )
    reward = arrays['rewards'].astype(np.float64)
    reached = np.zeros(len(reward), np.int8)
    if task.scored == 'success':
        reached = success.told(episode.infos or {}, len(reward))
    if task.goal != 'none':
        # The goal beside the next observation is the one that the step was rewarded for: a
        # simulator that draws a new goal on success shows it one step later.
        goal = task.fixed_goal if task.goal == 'relabel' else arrays['desired_goal'][1:]
        reached = np.linalg.norm(arrays['achieved_goal'][1:] - goal, axis=1) <= REACHED[task.family]
    if task.goal == 'relabel':
        reward = reached.astype(np.float64)
    ends = (arrays['terminations'].astype(bool), arrays['truncations'].astype(bool))
    return obs[:-1], scale(arrays['actions']), reward, obs[1:], *ends, reached


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
