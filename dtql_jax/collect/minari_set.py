"""Episodes written as an ordinary Minari set."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gymnasium.envs.registration import EnvSpec
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from minari.namespace import create_namespace, list_local_namespaces
from minari.storage import get_dataset_path

from dtql_jax.collect.base import Episode
from dtql_jax.data.digest import DIGEST_KEY, file_digest
from dtql_jax.types import UserError


def write_set(
    folder: Path, env_spec: EnvSpec, episodes: Iterator[Episode], about: dict[str, Any]
) -> None:
    """Writes a set of episodes.

    Args:
        folder: the set's folder; an unfinished one is removed first.
        env_spec: of the environment in which the episodes were recorded.
        episodes: the episodes.
        about: the set's metadata, to which the digest of its arrays is added.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    storage = MinariStorage.new(folder / 'data', env_spec=env_spec)
    storage.update_episodes(_buffer(episode) for episode in episodes)
    digest = file_digest(folder / 'data' / 'main_data.hdf5')
    storage.update_metadata({**about, DIGEST_KEY: digest})


def publish(folder: Path, dataset: str) -> None:
    """Moves a written set to the folder of its id, where Minari finds it.

    Raises:
        UserError: it cannot be moved.
    """
    namespace = dataset.rpartition('/')[0]
    if namespace and namespace not in list_local_namespaces():
        create_namespace(namespace)
    final = get_dataset_path(dataset)
    try:
        folder.rename(final)
    except OSError as error:
        raise UserError(f'cannot move the collected {dataset} to {final}: {error}') from error


def _buffer(episode: Episode) -> EpisodeBuffer:
    """The episode in Minari's form, with nested observations."""
    observations: Any = {}
    fields = {}
    for name, values in episode.items():
        first, *path = name.split('/')
        if first != 'observations':
            fields[name] = values
        elif not path:
            observations = values
        else:
            inner = observations
            for key in path[:-1]:
                inner = inner.setdefault(key, {})
            inner[path[-1]] = values
    success = fields.pop('success')
    infos = {'success': success[None] == 1} if success >= 0 else {}  # of the whole episode
    return EpisodeBuffer(observations=observations, infos=infos, **fields)
