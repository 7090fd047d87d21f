"""A collection's episodes, cut into shards, each a file that a process plays on its own.

A shard is whole or absent, and its arrays are a function of the behaviour, the seed and the
shard's number. Whatever was killed, and however many processes play, the shards are the same.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import traceback
import zipfile
from collections.abc import Callable, Collection, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np

from dtql_jax.collect.base import Behaviour, Episode, record
from dtql_jax.rollout.env_pool import signals_blocked
from dtql_jax.types import UserError

SHARD_STEPS = 5000  # about so many steps are lost, at most, with each process that is killed

Progress = Callable[[int], None]  # is told how many steps there are by now


def shard_size(steps: int, horizon: int) -> int:
    """Episodes in each shard; together hardly more than `steps` need if none ends early."""
    episodes = -(-steps // horizon)
    shards = -(-episodes // max(1, SHARD_STEPS // horizon))
    return -(-episodes // shards)


@dataclasses.dataclass(frozen=True)
class Shards:
    """The files of one collection of at least `steps` steps: `size` episodes each, in `folder`."""

    folder: Path
    steps: int
    horizon: int
    size: int

    def path(self, number: int) -> Path:
        return self.folder / f'shard-{number:06d}.npz'

    def save(self, number: int, episodes: list[Episode]) -> int:
        """Writes a shard, at once or not at all; returns its steps. UserError where it cannot."""
        arrays = {name: np.concatenate([np.atleast_1d(e[name]) for e in episodes])
                  for name in episodes[0]}  # fmt: skip
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
        """The episodes of a shard."""
        with np.load(self.path(number), allow_pickle=False) as file:
            arrays = dict(file)
        lengths = arrays.pop('length')
        ends = np.cumsum(lengths)
        for index, (first, last) in enumerate(zip(ends - lengths, ends, strict=True)):
            episode = {name: values[first:last] for name, values in arrays.items()}
            for name in arrays:
                if name.startswith('observations'):  # one more in each episode
                    episode[name] = arrays[name][first + index : last + index + 1]
            yield episode | {'success': arrays['success'][index]}

    def finished(self) -> dict[int, int]:
        """The steps of each shard that there is. Damaged ones, and parts of one, are removed."""
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
        """The first shard to play next; None where those that there are will do.

        What is not finished counts as if none of its episodes ended early.
        """
        total = number = 0
        while total < self.steps:
            if number not in finished and number not in running:
                return number
            total += finished.get(number, self.size * self.horizon)
            number += 1
        return None

    def episodes(self) -> Iterator[Episode]:
        """The collection: the first episodes, in order, that make up `steps` steps."""
        total = number = 0
        while total < self.steps:
            for episode in self.load(number):
                if total < self.steps:
                    total += len(episode['actions'])
                    yield episode
            number += 1


class _Player:
    """Plays shards in this process."""

    def __init__(self, behaviour: Behaviour, shards: Shards, seed: int):
        self._env, self._policy = behaviour.open()
        self._noise, self._shards, self._seed = behaviour.noise, shards, seed

    def play(self, number: int, told: Progress) -> int:
        """Plays and saves a shard; `told` gets each episode's steps. Returns the shard's steps."""
        size, horizon = self._shards.size, self._shards.horizon
        episodes = []
        for episode in range(number * size, (number + 1) * size):
            episodes.append(
                record(self._env, self._policy, horizon, self._noise, self._seed, episode)
            )
            told(len(episodes[-1]['actions']))
        return self._shards.save(number, episodes)

    def close(self) -> None:
        self._env.close()


def fill(behaviour: Behaviour, shards: Shards, seed: int, workers: int, progress: Progress) -> None:
    """Plays what is missing, in `workers` processes, or in this one where there are none.

    Raises RuntimeError, with the cause, where an environment or a worker fails.
    """
    finished = shards.finished()
    done = sum(finished.values())
    progress(done)

    def told(steps: int) -> None:
        nonlocal done
        done += steps
        progress(done)

    if workers:
        with contextlib.closing(_Team(behaviour, shards, seed, workers)) as team:
            team.fill(finished, told)
    elif shards.missing(finished) is not None:
        with contextlib.closing(_Player(behaviour, shards, seed)) as player:
            while (number := shards.missing(finished)) is not None:
                finished[number] = player.play(number, told)


class _Team:
    """Worker processes that play shards. They are started as they are needed.

    A worker lives as long as this end of its pipe is open, so none is left behind for longer than
    an episode even where this process is killed.
    """

    def __init__(self, behaviour: Behaviour, shards: Shards, seed: int, workers: int):
        self._work = (behaviour, shards, seed)
        self._shards, self._workers = shards, workers
        self._processes: dict[Connection, multiprocessing.Process] = {}

    def fill(self, finished: dict[int, int], told: Progress) -> None:
        running: dict[Connection, int] = {}
        while True:
            while len(running) < self._workers:
                number = self._shards.missing(finished, running.values())
                if number is None:
                    break
                pipe = next((p for p in self._processes if p not in running), None)
                pipe = pipe or self._start()
                with contextlib.suppress(OSError):  # it died: told by what is received below
                    pipe.send(number)
                running[pipe] = number
            if not running:
                return
            for pipe in wait(list(running)):
                shard_done, steps = self._receive(pipe)
                if shard_done:
                    finished[running.pop(pipe)] = steps
                else:
                    told(steps)

    def _start(self) -> Connection:
        spawn = multiprocessing.get_context('spawn')
        with signals_blocked():
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=_serve, args=(theirs, *self._work), daemon=True)
            process.start()
        self._processes[ours] = process
        theirs.close()
        return ours

    def _receive(self, pipe: Connection) -> tuple[bool, int]:
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            self._processes[pipe].join(timeout=5)
            raise RuntimeError(
                f'a worker died (exit code {self._processes[pipe].exitcode}): see above for its '
                'output; the same command goes on with the shards that are finished'
            ) from None
        if isinstance(message, Exception):
            raise message
        return message

    def close(self) -> None:
        """Ends the workers at once: a shard under way is lost, and no other."""
        for pipe, process in self._processes.items():
            pipe.close()
            process.kill()
            process.join()


def _serve(pipe: Connection, behaviour: Behaviour, shards: Shards, seed: int) -> None:
    """The life of a worker: plays what it is sent until the pipe closes or something fails."""
    with contextlib.suppress(EOFError, OSError):
        try:
            with contextlib.closing(_Player(behaviour, shards, seed)) as player:
                while True:
                    number = pipe.recv()
                    steps = player.play(number, lambda steps: pipe.send((False, steps)))
                    pipe.send((True, steps))
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:
            error.add_note(f'In the worker: {"".join(traceback.format_exception(error))}')
            pipe.send(error)
