"""Collections: a behaviour's episodes, played in the real simulator, as an ordinary Minari set.

The work is cut into shards (`behaviours.shards`), kept in a hidden folder beside the set until all
are there: a collection that was stopped or killed goes on where it stood, and ends with the same
arrays. The set itself appears whole or not at all.
"""

import contextlib
import dataclasses
import fcntl
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import minari
import numpy as np
from gymnasium.envs.registration import EnvSpec
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_dataset import parse_dataset_id
from minari.dataset.minari_storage import MinariStorage
from minari.namespace import create_namespace, list_local_namespaces
from minari.storage import get_dataset_path

from dtql_jax.collect.base import Behaviour, Episode, evaluation_spec
from dtql_jax.collect.shards import Progress, Shards, fill, shard_size
from dtql_jax.collect.wander import Wander
from dtql_jax.data.digest import DIGEST_KEY, file_digest
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError

STEPS = {'pointmaze-umaze': 90_000, 'pointmaze-medium': 180_000, 'pointmaze-large': 320_000}
VERSIONS = ('gymnasium', 'gymnasium-robotics', 'mujoco', 'numpy')  # these may move the numbers


@dataclasses.dataclass(frozen=True)
class Collected:
    """A finished set; `success`: the share of episodes that reached a goal, None without goals."""

    dataset: str
    path: Path
    steps: int
    episodes: int
    mean_return: float
    success: float | None
    seconds: float

    def __str__(self) -> str:
        return (
            f'collected {self.dataset}: {self.steps:,} steps, {self.episodes} episodes, in '
            f'{self.seconds:.1f} s ({self.steps / self.seconds:,.0f} steps/s), into {self.path}'
        )


def default_steps(task: Task) -> int:
    """Steps of a collection where nobody says how many."""
    return STEPS.get(task.name, 100_000)


def default_dataset(behaviour: Behaviour) -> str:
    """Id of a collection: the task's own set where it is this behaviour's, else a new name."""
    task = behaviour.task
    if task.collect is not None and isinstance(behaviour, Wander):
        return task.datasets[0]
    name = re.sub(r'[^\w.-]+', '-', task.name.removeprefix('minari:')).strip('-')
    return f'dtql/{name}-collected-v0'


def collect_missing(task: Task, dataset: str) -> bool:
    """Collects an absent `dataset` where the task says who collects it; returns whether it did.

    In this process.

    Raises:
        UserError: the set cannot be written.
    """
    if task.collect is None:
        return False
    result = collect(COLLECTORS[task.collect](task), dataset, default_steps(task))
    if result is not None:
        print(result, flush=True)
    return True


COLLECTORS: dict[str, Callable[[Task], Behaviour]] = {'pointmaze': Wander}


def collect(
    behaviour: Behaviour,
    dataset: str,
    steps: int,
    seed: int = 0,
    *,
    workers: int = 0,
    progress: Progress = lambda done: None,
) -> Collected | None:
    """Collect at least `steps` steps, in whole episodes, as the Minari set `dataset`.

    The arrays are a function of `behaviour`, `steps` and `seed`; the number of `workers` (0: this
    process) sets the speed alone. Goes on with what an earlier call has left. An existing set is
    never overwritten: None is returned. Raises UserError where an earlier call left a part of other
    settings, and where the set cannot be written.
    """
    began = time.perf_counter()
    evaluation = evaluation_spec(behaviour.task)
    horizon = evaluation.max_episode_steps
    size = shard_size(steps, horizon)
    settings = {
        'env': behaviour.task.name,
        'steps': steps,
        'seed': seed,
        'noise': behaviour.noise,
        'horizon': horizon,
        **behaviour.settings(),
        'shard': size,
        **{name: metadata.version(name) for name in VERSIONS},
    }
    final = dataset_folder(dataset)
    if final.exists():
        return None
    with _alone(dataset) as hidden:
        if final.exists():  # another process made it meanwhile
            return None
        _settle(hidden, dataset, settings)
        shards = Shards(hidden, steps, horizon, size)
        fill(behaviour, shards, seed, workers, progress)
        returns, lengths, success = _write(hidden, dataset, shards, behaviour, evaluation)
        shutil.rmtree(hidden, ignore_errors=True)
    return Collected(
        dataset,
        final,
        sum(lengths),
        len(lengths),
        float(np.mean(returns)),
        float(np.mean(success)) if behaviour.task.goal != 'none' else None,
        time.perf_counter() - began,
    )


def dataset_folder(dataset: str) -> Path:
    """The folder of the set. Raises UserError for a name that is no dataset id."""
    try:
        parse_dataset_id(dataset)
    except (ValueError, TypeError) as error:
        raise UserError(f'{dataset!r} is no dataset id: write it like me/my-data-v0') from error
    with _writable(dataset):
        return get_dataset_path(dataset)


@contextlib.contextmanager
def _writable(dataset: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f'cannot write dataset {dataset} ({error}); point to a folder of yours: '
            'export MINARI_DATASETS_PATH=/path/to/datasets'
        ) from error


@contextlib.contextmanager
def _alone(dataset: str) -> Iterator[Path]:
    """The hidden folder, which no other process uses meanwhile."""
    final = dataset_folder(dataset)
    hidden = final.parent / f'.collecting-{final.name}'
    with _writable(dataset):
        hidden.mkdir(parents=True, exist_ok=True)
        lock = (hidden / 'lock').open('w')
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f'waiting for another process that collects {dataset} ...', flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield hidden


def _settle(hidden: Path, dataset: str, settings: dict[str, Any]) -> None:
    """Records the settings of a new collection; UserError where those of an old one differ."""
    path = hidden / 'settings.json'
    if not path.exists():
        new = hidden / 'settings.new'
        new.write_text(json.dumps(settings, indent=2) + '\n')
        new.rename(path)
        return
    try:
        begun = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f'{path} is damaged ({error}): remove {hidden} to start anew') from error
    different = [
        f'{name}: begun with {begun.get(name)!r}, asked for {settings.get(name)!r}'
        for name in settings | begun
        if settings.get(name) != begun.get(name)
    ]
    if different:
        raise UserError(
            f'{dataset} was begun with other settings: {"; ".join(different)}. Ask for the same to '
            f'go on, choose another name with `dataset`, or remove {hidden} to start anew'
        )


def _write(
    hidden: Path, dataset: str, shards: Shards, behaviour: Behaviour, evaluation: EnvSpec
) -> tuple[list[float], list[int], list[bool]]:
    """Makes the set of the shards, beside them, and moves it to its place.

    Returns each episode's return, length and success.
    """
    new, final = hidden / 'set', get_dataset_path(dataset)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    returns, lengths, success = [], [], []

    def buffers() -> Iterator[EpisodeBuffer]:
        for episode in shards.episodes():
            returns.append(episode['rewards'].sum())
            lengths.append(len(episode['rewards']))
            success.append(episode.pop('success'))
            yield _buffer(episode)

    storage = MinariStorage.new(new / 'data', env_spec=behaviour.env_spec())
    storage.update_episodes(buffers())
    storage.update_metadata(
        {
            'dataset_id': dataset,
            'eval_env_spec': evaluation.to_json(),
            'algorithm_name': behaviour.algorithm,
            'author': {'dtql_jax'},
            'description': behaviour.description,
            'minari_version': minari.__version__,
            'collected': json.loads((hidden / 'settings.json').read_text()),
            DIGEST_KEY: file_digest(new / 'data' / 'main_data.hdf5'),
        }
    )
    namespace = dataset.rpartition('/')[0]
    if namespace and namespace not in list_local_namespaces():
        create_namespace(namespace)
    try:
        new.rename(final)
    except OSError as error:
        raise UserError(f'cannot move the collected {dataset} to {final}: {error}') from error
    return returns, lengths, success


def _buffer(episode: Episode) -> EpisodeBuffer:
    """The episode as Minari takes it, with nested observations."""
    observations: Any = {}
    for name in [name for name in episode if name.startswith('observations')]:
        _, *path = name.split('/')
        values = episode.pop(name)
        if not path:
            observations = values
            continue
        inner = observations
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = values
    return EpisodeBuffer(observations=observations, infos={}, **episode)
