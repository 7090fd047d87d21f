"""The files of a Minari set: opened with reasons where that fails, and read by episode.

In this module `minari` is Farama's package.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import minari
from minari.dataset._storages import get_minari_storage, get_storage_keys
from minari.dataset.minari_storage import MinariStorage, is_image_space
from minari.serialization import deserialize_space

from dtql_jax.data.hdf5 import incomplete, values
from dtql_jax.data.validate import Field
from dtql_jax.tasks.minari_sets import damaged, minari_folder, read_metadata
from dtql_jax.tasks.recorded import recover
from dtql_jax.tasks.spaces import pick
from dtql_jax.tasks.success import SUCCESS
from dtql_jax.tasks.task import Task
from dtql_jax.tasks.unreadable import explained
from dtql_jax.types import UserError

FILE = 'main_data.hdf5'
PARTS = ('observations', 'actions', 'rewards', 'terminations', 'truncations')


def open_set(name: str) -> MinariStorage:
    """Opens a set with Minari, without the environments that it records.

    Raises:
        UserError: it cannot be read. The text says whether it is locked, forbidden, of another
            version, damaged, or needs a package.
    """
    metadata, folder = read_metadata(name), minari_folder(name)
    _check_version(name, metadata)
    with explained(str(folder), damaged(name)):
        spaces = [
            deserialize_space(metadata[field]) if field in metadata else None
            for field in ('observation_space', 'action_space')
        ]
        kind = get_minari_storage(metadata.get('data_format', 'hdf5'))
    if None in spaces:  # sets of Minari 0.4 may leave them to the environment
        with contextlib.closing(recover(Task(name, (name,)), {})) as env:
            found = (env.observation_space, env.action_space)
        spaces = [space or other for space, other in zip(spaces, found, strict=True)]
    with explained(str(folder), damaged(name)):
        return kind(folder / 'data', *spaces, jpeg_encoding=bool(metadata.get('jpeg_encoding', 1)))


def _check_version(name: str, metadata: dict[str, Any]) -> None:
    """Raises UserError for a set that another version of Minari wrote than this one reads."""
    version, kind = metadata.get('minari_version'), metadata.get('data_format', 'hdf5')
    if version is not None and str(version) not in minari.supported_dataset_versions:
        raise UserError(
            f'{name}: it was written by Minari {version}, which the installed Minari '
            f'{minari.__version__} does not read; pip install -U minari, or: '
            f'pip install "minari=={version}"'
        )
    if kind not in get_storage_keys():
        raise UserError(
            f'{name}: it is stored as {kind}, the installed Minari {minari.__version__} reads '
            f'{", ".join(get_storage_keys())}; pip install -U minari'
        )


def count(name: str, storage: MinariStorage, field: str) -> int:
    """A number of `metadata.json`."""
    number = storage.metadata.get(field)
    if type(number) is not int or number < 0:
        raise UserError(
            f'{name}: metadata.json has {field}={number!r}, not a number of them; {damaged(name)}'
        )
    return number


def episodes(
    name: str, storage: MinariStorage, fields: dict[str, Field], total: int
) -> Iterator[Any]:
    """Episodes in order, with the attributes of Minari's.

    An hdf5 file is read here, and only the parts that are needed: Minari would also read all
    `infos`, which may be larger than the rest. Minari reads sets with images, since it decodes
    them, and other formats.
    """
    spaces = (
        pick(storage.observation_space, field.path) for field in fields.values() if field.path
    )
    plain = not any(map(is_image_space, (storage.observation_space, *spaces)))
    if storage.FORMAT == 'hdf5' and plain:
        found = _stored(storage.data_path / FILE, {f.path for f in fields.values()}, total)
    else:
        found = (SimpleNamespace(**episode) for episode in storage.get_episodes(range(total)))
    for index in range(total):
        with explained(f'{name}, episode {index}', damaged(name)):
            episode = next(found)
        yield episode


def _stored(path: Path, leaves: set[tuple[str, ...]], total: int) -> Iterator[SimpleNamespace]:
    """Episodes of an hdf5 file: the arrays at `leaves`, and the successes of `infos`."""
    with h5py.File(path, 'r') as file:
        for index in range(total):
            group = file[f'episode_{index}']
            parts = {part: _arrays(group[part], leaves) for part in PARTS}
            told = {k: group.get(f'infos/{k}') for k in SUCCESS}
            told = {k: values(v) for k, v in told.items() if isinstance(v, h5py.Dataset)}
            yield SimpleNamespace(**parts, infos=told)


def surplus(storage: MinariStorage, total: int) -> tuple[str, ...]:
    """A note where the file holds more episodes than its metadata name."""
    if storage.FORMAT != 'hdf5':
        return ()
    with explained(str(storage.data_path / FILE)), h5py.File(storage.data_path / FILE, 'r') as file:
        there = sum(key.startswith('episode_') for key in file)
    if there <= total:
        return ()
    return (f'{FILE} has {there:,} episodes, metadata.json names {total:,}: the rest is left out',)


def _arrays(node: Any, leaves: set[tuple[str, ...]]) -> Any:
    """A stored array, or those of a group that are among `leaves` by key; None for the others."""
    if not isinstance(node, h5py.Group):
        if lack := incomplete(node):
            raise ValueError(f'{node.name} {lack}')
        return values(node)
    below = {key: {path[1:] for path in leaves if path[:1] == (key,)} for key in node}
    return {key: _arrays(node[key], paths) if paths else None for key, paths in below.items()}
