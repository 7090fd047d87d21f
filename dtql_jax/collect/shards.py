"""Shards: files that each hold a few episodes of a collection, recorded by one process.

A shard is whole or absent. Its arrays are a function of the behaviour, the seed and the shard's
number, so a collection that was killed, or recorded by several processes, has the same shards.
"""

import contextlib
import dataclasses
import os
import zipfile
from collections.abc import Callable, Collection, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

from dtql_jax.collect.base import Behaviour, Episode, record
from dtql_jax.rollout.worker import Worker, answering
from dtql_jax.types import UserError

SHARD_STEPS = 5000  # about the most steps in a shard, which a process that is killed loses

OnSteps = Callable[[int], None]  # called with a number of steps


def shard_size(steps: int, horizon: int) -> int:
    """The number of episodes in each shard of a collection.

    It keeps shards near `SHARD_STEPS` and the last one nearly full, if no episode ends early.
    """
    episodes = -(-steps // horizon)
    shards = -(-episodes // max(1, SHARD_STEPS // horizon))
    return -(-episodes // shards)


@dataclasses.dataclass(frozen=True)
class Shards:
    """The files of a collection of at least `steps` steps, in `folder`, with `size` episodes each.

    `horizon` is the most steps of an episode.
    """

    folder: Path
    steps: int
    horizon: int
    size: int

    def path(self, number: int) -> Path:
        """The file of a shard, by its number."""
        return self.folder / f'shard-{number:06d}.npz'

    def save(self, number: int, episodes: list[Episode]) -> int:
        """Writes a shard, whole or not at all; returns its steps.

        Raises:
            UserError: the file cannot be written.
        """
        arrays: dict[str, Any] = {
            name: np.concatenate([np.atleast_1d(episode[name]) for episode in episodes])
            for name in episodes[0]
        }
        arrays['length'] = np.array([len(e['actions']) for e in episodes])
        new = self.folder / f'.{self.path(number).name}.{os.getpid()}'
        try:
            with new.open('wb') as file:
                np.savez(file, **arrays)
            new.rename(self.path(number))
        except OSError as error:
            raise UserError(f'{self.path(number)} cannot be written: {error}') from error
        return int(arrays['length'].sum())

    def load(self, number: int) -> Iterator[Episode]:
        """Reads the episodes of a shard."""
        with np.load(self.path(number), allow_pickle=False) as file:
            arrays = dict(file)
        lengths = arrays.pop('length')
        ends = np.cumsum(lengths)
        for index, (first, last) in enumerate(zip(ends - lengths, ends, strict=True)):
            episode = {name: values[first:last] for name, values in arrays.items()}
            for name in arrays:
                if name.startswith('observations'):  # one more than actions
                    episode[name] = arrays[name][first + index : last + index + 1]
            yield episode | {'success': arrays['success'][index]}

    def finished(self) -> dict[int, int]:
        """The steps of each finished shard, by number. Removes damaged and unfinished files."""
        found = {}
        for path in self.folder.glob('.shard-*'):
            path.unlink(missing_ok=True)
        for path in sorted(self.folder.glob('shard-*.npz')):
            number = int(path.stem.removeprefix('shard-'))
            try:
                found[number] = sum(len(episode['actions']) for episode in self.load(number))
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                path.unlink()
        return found

    def missing(self, finished: dict[int, int], running: Collection[int] = ()) -> int | None:
        """The number of the next shard to record; None once enough shards are finished or running.

        A running shard counts as if none of its episodes ended early.

        Args:
            finished: steps of the finished shards, by number.
            running: numbers of the shards that are being recorded.
        """
        total = number = 0
        while total < self.steps:
            if number not in finished and number not in running:
                return number
            total += finished.get(number, self.size * self.horizon)
            number += 1
        return None

    def episodes(self) -> Iterator[Episode]:
        """The episodes of the collection: the first ones, in order, that reach `steps` steps."""
        total = number = 0
        while total < self.steps:
            for episode in self.load(number):
                if total < self.steps:
                    total += len(episode['actions'])
                    yield episode
            number += 1


class _Recorder:
    """Records shards in this process."""

    def __init__(self, behaviour: Behaviour, shards: Shards, seed: int):
        self._env, self._controller = behaviour.open()
        self._noise, self._shards, self._seed = behaviour.noise, shards, seed

    def record_shard(self, number: int, on_steps: OnSteps) -> int:
        """Records and saves a shard; returns its steps. Each episode's go to `on_steps`."""
        size, horizon = self._shards.size, self._shards.horizon
        episodes = []
        for episode in range(number * size, (number + 1) * size):
            episodes.append(
                record(self._env, self._controller, horizon, self._noise, self._seed, episode)
            )
            on_steps(len(episodes[-1]['actions']))
        return self._shards.save(number, episodes)

    def close(self) -> None:
        self._env.close()


def fill(behaviour: Behaviour, shards: Shards, seed: int, workers: int, progress: OnSteps) -> None:
    """Records the missing shards.

    Args:
        behaviour: plays the episodes.
        shards: the files.
        seed: of the collection.
        workers: the number of processes; 0 records in this process.
        progress: called at the start and after each episode with the steps recorded so far.

    Raises:
        RuntimeError: a worker died, or a number is not finite.
        Exception: what an environment or a behaviour raises.
    """
    finished = shards.finished()
    done = sum(finished.values())
    progress(done)

    def count(steps: int) -> None:
        nonlocal done
        done += steps
        progress(done)

    if workers:
        with contextlib.closing(_Team(behaviour, shards, seed, workers)) as team:
            team.fill(finished, count)
    elif shards.missing(finished) is not None:
        with contextlib.closing(_Recorder(behaviour, shards, seed)) as recorder:
            while (number := shards.missing(finished)) is not None:
                finished[number] = recorder.record_shard(number, count)


class _Team:
    """Worker processes that record shards, each started when there is a shard for it."""

    def __init__(self, behaviour: Behaviour, shards: Shards, seed: int, size: int):
        self._work = (behaviour, shards, seed)
        self._shards, self._size = shards, size
        self._workers: dict[Any, Worker] = {}  # by their pipes

    def fill(self, finished: dict[int, int], count: OnSteps) -> None:
        """Records the missing shards and adds their steps to `finished`."""
        running: dict[Any, int] = {}
        while True:
            while len(running) < self._size:
                number = self._shards.missing(finished, running.values())
                if number is None:
                    break
                idle = (pipe for pipe in self._workers if pipe not in running)
                pipe = next(idle, None) or self._start()
                self._workers[pipe].send(number)
                running[pipe] = number
            if not running:
                return
            for pipe in wait(list(running)):
                shard_done, steps = self._workers[pipe].receive()
                if shard_done:
                    finished[running.pop(pipe)] = steps
                else:
                    count(steps)

    def _start(self) -> Any:
        """Starts a worker; returns its pipe."""
        cure = 'the same command goes on with the finished shards'
        worker = Worker(_serve, *self._work, name='a worker', cure=cure)
        self._workers[worker.pipe] = worker
        return worker.pipe

    def close(self) -> None:
        """Ends the workers at once. The shards that they are recording are lost, and no others."""
        for worker in self._workers.values():
            worker.close()


def _serve(pipe: Connection, behaviour: Behaviour, shards: Shards, seed: int) -> None:
    """Runs in a worker: records the shards whose numbers it receives.

    It answers `(False, steps)` after each episode, and `(True, steps)` after the shard.
    """
    with answering(pipe), contextlib.closing(_Recorder(behaviour, shards, seed)) as recorder:
        while True:
            number = pipe.recv()
            steps = recorder.record_shard(number, lambda steps: pipe.send((False, steps)))
            pipe.send((True, steps))
