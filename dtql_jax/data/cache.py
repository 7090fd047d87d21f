"""A cache of datasets: the checked columns of `Episodes` on disk, kept between runs.

Entries are folders under `~/.cache/dtql_jax/data`, or under the folder that `DTQL_DATA_CACHE`
names; an empty `DTQL_DATA_CACHE` switches the cache off. An entry belongs to one source under one
layout of the task. It holds the columns of `Episodes` as `.npy` files, and `entry.json`: the other
fields, the SHA-256 of each file, and the state of the source (`dtql_jax.data.source`). The source's
contents are not hashed: 210 MB take 0.16 s (0.6 s on a processor without instructions for it), but
published sets are several times as large as the columns read from them, and disks may be slow.

A source is read again if it has changed, or if any bit of its entry differs from what was written.
The new entry replaces the old one. A source that is spread over other files, by links inside of an
hdf5 file or linked folders, is not cached: their changes would go unnoticed. A failure of the cache
never stops a run: one line reports it.

Writing an entry removes those whose source no longer exists. The folder may hold other things: only
what provably was written here is removed, file by file, and links are never followed. An entry
proves it by its index, which is sealed and holds the key that its name is the digest of. A hidden
folder that a killed process left proves it by the file `MARK`.
"""

import contextlib
import dataclasses
import errno
import hashlib
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from dtql_jax.data import memory
from dtql_jax.data.episodes import ROWS, Episodes
from dtql_jax.data.source import elsewhere, state_of
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError

VARIABLE = 'DTQL_DATA_CACHE'
VERSION = 3  # add one when a reader's result changes
INDEX = 'entry.json'
HIDDEN, MARK = '.dtql_jax-', 'written-by-dtql_jax'  # an entry that is being written
# Fields of a task that no reader uses except in messages.
NO_LAYOUT = (
    'name', 'datasets', 'success_timing', 'score_range', 'eval_episodes', 'collect', 'source',
    'group', 'caveat', 'actions', 'action_box', 'normalize_obs',
)  # fmt: skip
COLUMNS = (*ROWS, 'length')
FILES = frozenset((*(f'{field}.npy' for field in COLUMNS), INDEX))
ABANDONED_S = 86_400  # a hidden folder of this age was left by a killed process

# What reading a damaged entry raises: a file may be missing, cut short or hold anything.
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError, RecursionError)


def cached(name: str, source: Path, task: Task, read: Callable[[str, Task], Episodes]) -> Episodes:
    """Returns `read(name, task)`, cached while the source is unchanged, with the same bits.

    Args:
        name: the dataset's own.
        source: its file or folder.
        task: its layout belongs to the entry.
        read: the reader; what it raises is raised.
    """
    state, folder = _state(source), None
    with contextlib.suppress(RuntimeError, TypeError):  # no home, or arguments unknown to JSON
        key, folder = _key(source, task), _folder()

    def whole() -> Episodes:
        episodes = read(name, task)
        if _state(source) != state:
            raise UserError(
                f'{name}: {source} changed while it was read: wait until nothing writes it, then '
                'repeat the command'
            )
        return episodes

    if state is None or folder is None:
        return whole()
    entry = folder / _name(key)
    try:
        found = _load(entry, name, state)
    except DAMAGE as error:
        print(f'{name}: cached in {entry}, but {_line(error)}; reading the source', flush=True)
        found = None
    if found is not None:
        return found
    episodes = whole()
    try:
        if link := elsewhere(source):
            why = f'changes behind {link} would go unnoticed'
            print(f'{name}: not cached for the next time ({why})', flush=True)
        else:
            _store(entry, key, state, episodes)
    except OSError as error:
        cure = f'export {VARIABLE}=/path/to/a/folder'
        print(f'{name}: not cached for the next time ({_line(error)}); {cure}', flush=True)
    return episodes


def _state(source: Path) -> dict[str, Any] | None:
    """The state of a source that an entry must have; None without a source."""
    try:
        return {'version': VERSION, **state_of(source)}
    except (OSError, RuntimeError):
        return None


def _line(error: BaseException) -> str:
    """An error in one line."""
    return ' '.join(str(error).split()) or type(error).__name__


def _folder() -> Path | None:
    """The folder of the entries; None where the cache is off."""
    root = os.environ.get(VARIABLE)
    if root == '':
        return None
    return Path(root).expanduser() if root else Path.home() / '.cache' / 'dtql_jax' / 'data'


def _key(source: Path, task: Task) -> str:
    """What an entry belongs to, as JSON: a source, the layout of the task, and its simulator."""
    layout = {k: v for k, v in dataclasses.asdict(task).items() if k not in NO_LAYOUT}
    # Another simulator may be registered under this name, but for packages that register late.
    spec = gym.registry.get(task.env_id or '')
    if spec is not None and not str(spec.entry_point).startswith(('gymnasium_robotics', 'ogbench')):
        layout['limit'] = spec.max_episode_steps
        layout['arguments'] = json.dumps(spec.kwargs, default=lambda value: type(value).__name__)
    return json.dumps([str(source.resolve()), layout], sort_keys=True)


def _name(key: str) -> str:
    """The name of the entry of a key."""
    return _digest(key.encode())[:32]


def _load(entry: Path, name: str, state: dict[str, Any]) -> Episodes | None:
    """The entry's columns; None without an entry of this state. Raises one of `DAMAGE`."""
    if not entry.is_dir():
        return None
    content = _index(entry)
    if content['state'] != state:
        return None
    columns = {field: _column(entry / f'{field}.npy', *content[field]) for field in COLUMNS}
    return Episodes(name, content['max_action'], notes=tuple(content['notes']), **columns)


def _index(entry: Path) -> dict[str, Any]:
    """The content of `entry.json`, checked."""
    record = json.loads((entry / INDEX).read_text())
    if _digest(json.dumps(record['content']).encode()) != record['sha256']:
        raise ValueError(f'{INDEX} is damaged')
    return record['content']


def _column(path: Path, dtype: str, shape: list[int], digest: str) -> np.ndarray:
    """A column from its file, checked."""
    array = memory.empty(tuple(shape), dtype)
    with open(path, 'rb', buffering=0) as file:
        head = os.fstat(file.fileno()).st_size - array.nbytes
        header = file.read(head) if head > 0 else b''
        size = _fill(file, array)
    if size != array.nbytes or _digest(header, array.data) != digest:
        raise ValueError(f'{path.name} is damaged')
    return array


def _fill(file: io.RawIOBase, array: np.ndarray) -> int:
    """Fills `array` from the file; returns the number of bytes read."""
    view, done = array.reshape(-1).view(np.uint8), 0
    while count := file.readinto(view[done:].data):
        done += count
    return done


def _store(entry: Path, key: str, state: dict[str, Any], episodes: Episodes) -> None:
    """Writes a hidden folder, which then replaces the entry."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    _tidy(entry.parent)
    if entry.is_symlink() or (entry.exists() and not _known(entry, FILES)):
        raise OSError(errno.EEXIST, f'{entry} holds other files')
    hidden = Path(tempfile.mkdtemp(prefix=HIDDEN, dir=entry.parent))
    try:
        (hidden / MARK).touch()
        new = hidden / 'new'
        new.mkdir()
        content: dict[str, Any] = {
            field: _save(new / f'{field}.npy', getattr(episodes, field)) for field in COLUMNS
        }
        content |= {'key': key, 'state': state}
        content |= {'max_action': episodes.max_action, 'notes': episodes.notes}
        text = json.dumps(content)
        record = {'sha256': _digest(text.encode()), 'content': content}
        (new / INDEX).write_text(json.dumps(record) + '\n')
        with contextlib.suppress(FileNotFoundError):
            os.rename(entry, hidden / 'old')
        try:
            os.rename(new, entry)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise  # else another process was faster with the same
    finally:
        _remove_hidden(hidden)


def _save(path: Path, array: np.ndarray) -> tuple[str, tuple[int, ...], str]:
    """Writes an array as `numpy.save` does; returns its type and shape, and the file's digest."""
    array, head = np.ascontiguousarray(array), io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    with open(path, 'wb') as file:
        file.write(head.getvalue())
        file.write(array.data)
    return array.dtype.str, array.shape, _digest(head.getvalue(), array.data)


def _digest(*parts: bytes | memoryview) -> str:
    """SHA-256 of all bytes, in hex."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _tidy(folder: Path) -> None:
    """Removes entries whose source is gone, and what killed processes left."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.is_symlink() or not path.is_dir():
                continue
            if path.name.startswith(HIDDEN):
                if path.stat().st_mtime < time.time() - ABANDONED_S and _is_hidden(path):
                    _remove_hidden(path)
            elif _is_orphan(path):
                _remove(path, FILES)


def _is_orphan(path: Path) -> bool:
    """Whether a folder is an entry that this module wrote, and its source is gone."""
    try:
        content = _index(path)
        ours = _name(content['key']) == path.name and _known(path, FILES)
        if ours:
            os.lstat(content['state']['source'])
    except FileNotFoundError as error:
        return error.filename != str(path / INDEX)
    except DAMAGE:
        pass
    return False


def _is_hidden(path: Path) -> bool:
    """Whether a hidden folder holds the mark, and nothing but what `_store` writes."""
    parts = [path / 'new', path / 'old']
    there = {item.name for item in path.iterdir()}
    return (
        MARK in there
        and there <= {MARK, 'new', 'old'}
        and not (path / MARK).is_symlink()
        and all(_known(part, FILES) for part in parts if part.name in there)
    )


def _known(folder: Path, names: Iterable[str]) -> bool:
    """Whether this is a folder of plain files of these `names`, and of nothing else."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    with os.scandir(folder) as items:
        return all(item.name in names and item.is_file(follow_symlinks=False) for item in items)


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Removes the files of these `names` and their folder. Where it holds others, it stays."""
    with contextlib.suppress(OSError):
        for name in names:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _remove_hidden(hidden: Path) -> None:
    """Removes a folder that `_store` made."""
    for part in ('new', 'old'):
        _remove(hidden / part, FILES)
    _remove(hidden, (MARK,))
