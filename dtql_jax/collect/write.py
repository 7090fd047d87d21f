"""Collections: the episodes of a behaviour, played in its simulator and written as a Minari set.

The episodes are recorded in shards (`collect.shards`), which lie in a hidden folder beside the set
until all are finished. A collection that was stopped or killed continues with its finished shards
and ends with the same arrays. The set appears whole or not at all.
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
from minari.dataset.minari_dataset import parse_dataset_id

from dtql_jax.collect.base import Behaviour, Episode, evaluation_spec
from dtql_jax.collect.minari_set import publish, write_set
from dtql_jax.collect.shards import OnSteps, Shards, fill, shard_size
from dtql_jax.collect.wander import Wander
from dtql_jax.tasks.minari_sets import minari_root
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError

# Default steps of a collection, by task; 100,000 for others.
STEPS = {'pointmaze-umaze': 90_000, 'pointmaze-medium': 180_000, 'pointmaze-large': 320_000}
VERSIONS = ('gymnasium', 'gymnasium-robotics', 'mujoco', 'numpy')  # may change the numbers


@dataclasses.dataclass(frozen=True)
class Collected:
    """A finished set.

    `success` is the share of episodes that succeeded; None where that is not told.
    """

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
    """The number of steps of a collection for which nobody gives one."""
    return STEPS.get(task.name, 100_000)


def default_dataset(behaviour: Behaviour) -> str:
    """The id of a collection for which nobody gives one.

    It is the task's own set if this behaviour is the one that makes it, else a new id.
    """
    task = behaviour.task
    if task.collect is not None and task.datasets and isinstance(behaviour, Wander):
        return task.datasets[0]
    name = re.sub(r'[^\w.-]+', '-', task.name.removeprefix('minari:')).strip('-')
    return f'dtql/{name}-collected-v0'


def collect_missing(task: Task, dataset: str) -> bool:
    """Collects an absent dataset in this process, if the task names a collector for it.

    Args:
        task: the task; `task.collect` is a key of `COLLECTORS`, or None.
        dataset: the Minari id.

    Returns:
        Whether the task names a collector.

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
    progress: OnSteps = lambda done: None,
) -> Collected | None:
    """Collects at least `steps` steps, in whole episodes, as the Minari set `dataset`.

    The arrays are a function of `behaviour`, `steps` and `seed`. An earlier call that was stopped
    is continued. An existing set is never overwritten.

    Args:
        behaviour: plays the episodes.
        dataset: the Minari id.
        steps: the least number of steps.
        seed: decides every episode.
        workers: the number of processes, which sets only the speed; 0 records in this process.
        progress: called at the start and after each episode with the steps recorded so far.

    Returns:
        What was collected; None if the set exists.

    Raises:
        UserError: the set cannot be written, or an earlier call began it with other settings.
    """
    began = time.perf_counter()
    evaluation = evaluation_spec(behaviour.task)
    horizon = evaluation.max_episode_steps
    assert horizon is not None  # `evaluation_spec` has set it
    final = dataset_folder(dataset)
    if final.exists():
        return None
    with _alone(dataset) as hidden:
        if final.exists():  # another process made it meanwhile
            return None
        shards = Shards(hidden, steps, horizon, shard_size(steps, horizon))
        settings = _settings(behaviour, shards, seed)
        _begin(hidden, dataset, settings)
        fill(behaviour, shards, seed, workers, progress)
        tally = _Tally()
        about = _about(behaviour, dataset, evaluation, settings)
        write_set(hidden / 'set', behaviour.env_spec(), tally.count(shards.episodes()), about)
        publish(hidden / 'set', dataset)
        shutil.rmtree(hidden, ignore_errors=True)
    return Collected(
        dataset,
        final,
        sum(tally.lengths),
        len(tally.lengths),
        float(np.mean(tally.returns)),
        float(np.mean(tally.success)) if behaviour.task.tells_success and tally.success else None,
        time.perf_counter() - began,
    )


def dataset_folder(dataset: str) -> Path:
    """The folder of a Minari id. It may not exist.

    Raises:
        UserError: the name is no Minari id, or the root of the datasets cannot be written.
    """
    try:
        parse_dataset_id(dataset)
    except (ValueError, TypeError) as error:
        raise UserError(f'{dataset!r} is no dataset id: write it like me/my-data-v0') from error
    with _writable(dataset):
        return minari_root() / dataset


class _Tally:
    """Return, length and success of each episode that passes through `count`."""

    def __init__(self) -> None:
        self.returns: list[float] = []
        self.lengths: list[int] = []
        self.success: list[int] = []  # of episodes that tell

    def count(self, episodes: Iterator[Episode]) -> Iterator[Episode]:
        for episode in episodes:
            self.returns.append(episode['rewards'].sum())
            self.lengths.append(len(episode['rewards']))
            if episode['success'] >= 0:
                self.success.append(int(episode['success']))
            yield episode


@contextlib.contextmanager
def _writable(dataset: str) -> Iterator[None]:
    """Turns OSError into a UserError that says where to write."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f'cannot write dataset {dataset} ({error}); point to a folder of yours: '
            'export MINARI_DATASETS_PATH=/path/to/datasets'
        ) from error


@contextlib.contextmanager
def _alone(dataset: str) -> Iterator[Path]:
    """The hidden folder, locked against other processes."""
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


def _settings(behaviour: Behaviour, shards: Shards, seed: int) -> dict[str, Any]:
    """Everything that decides the arrays of a collection."""
    return {
        'env': behaviour.task.name,
        'steps': shards.steps,
        'seed': seed,
        'noise': behaviour.noise,
        'horizon': shards.horizon,
        **behaviour.settings(),
        'shard': shards.size,
        **{name: metadata.version(name) for name in VERSIONS},
    }


def _begin(hidden: Path, dataset: str, settings: dict[str, Any]) -> None:
    """Records the settings of a new collection; raises UserError if those of an old one differ."""
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


def _about(
    behaviour: Behaviour, dataset: str, evaluation: EnvSpec, settings: dict[str, Any]
) -> dict[str, Any]:
    """The set's metadata, without its digest."""
    return {
        'dataset_id': dataset,
        'eval_env_spec': evaluation.to_json(),
        'algorithm_name': behaviour.algorithm,
        'author': {'dtql_jax'},
        'description': behaviour.description,
        'minari_version': minari.__version__,
        'collected': settings,
    }
