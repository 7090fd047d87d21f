"""Runs simulators side by side: `EnvPool` steps any subset of them, in this process or in workers.

Why not gymnasium's `AsyncVectorEnv`: it starts one process per environment, whatever the number of
cores, and it steps every environment at every call, finished ones too. Evaluation needs few
processes with many environments each, and steps only the episodes that still run.

Worker processes load this module, so it imports no jax.
"""

import atexit
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import NamedTuple, Self

import gymnasium
import numpy as np

from dtql_jax.rollout.worker import Worker, answering, reaches_workers

MakeEnv = Callable[[], gymnasium.Env]

# A worker is worth its cost where it simulates this long between two messages. A round trip with
# two workers costs 0.3 ms of processor time and as much again in waking up; starting a worker costs
# about a second.
WORTH_A_WORKER_S = 2.5e-3


class Steps(NamedTuple):
    """The results of one step in `n` environments. `success` is the step's `info['success']`."""

    obs: np.ndarray  # [n, O] float32
    reward: np.ndarray  # [n] float64
    terminated: np.ndarray  # [n] bool
    truncated: np.ndarray  # [n] bool
    success: np.ndarray  # [n] bool, False where the environment reports no success


class EnvPool:
    """Holds `num_envs` environments in slots `0 .. num_envs - 1`. Close it, or use it in a `with`.

    The number of workers changes the speed and no result. An error closes the pool.

    Args:
        make_env: makes one environment. Workers need one that can be pickled.
        num_envs: the number of environments.
        workers: 0 runs the environments in this process. Otherwise so many spawned processes (fork
            deadlocks with jax) hold a contiguous share of the slots each.

    Raises:
        RuntimeError: an environment failed, with its own message, or a worker died. All methods
            may raise it.
    """

    def __init__(self, make_env: MakeEnv, num_envs: int, workers: int = 0):
        self.num_envs = num_envs
        shares = np.array_split(np.arange(num_envs), max(1, min(workers, num_envs)))
        self._owner = np.repeat(np.arange(len(shares)), [len(share) for share in shares])
        start = _Worker if workers else _Here
        self._holders: list[_Worker | _Here] = []
        # At exit multiprocessing sends SIGTERM to its children and waits. Workers ignore it.
        atexit.register(self.close)
        with self._closing_on_error():
            for share in shares:
                self._holders.append(start(make_env, share.tolist()))
            for holder in self._holders:
                holder.answer()

    def reset(self, slots: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
        """Starts a new episode in each of `slots` by its seed; returns obs `[len(slots), O]`."""
        return self._ask('reset', slots, np.asarray(seeds))[0]

    def step(self, slots: Sequence[int], actions: np.ndarray) -> Steps:
        """Steps the environments in `slots` by `actions` `[len(slots), A]`."""
        return Steps(*self._ask('step', slots, actions))

    def close(self) -> None:
        """Closes the environments and ends the workers. Closing twice does no harm."""
        atexit.unregister(self.close)
        while self._holders:
            self._holders.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, method: str, slots: Sequence[int], values: np.ndarray) -> tuple[np.ndarray, ...]:
        """Sends each holder its share of the work; returns the answers in the order of `slots`."""
        if not self._holders:
            raise RuntimeError('this EnvPool is closed')
        chosen = np.asarray(slots)
        owner = self._owner[chosen]
        rows = {int(i): np.flatnonzero(owner == i) for i in np.unique(owner)}
        with self._closing_on_error():
            for i, share in rows.items():
                self._holders[i].ask(method, chosen[share], values[share])
            answers = [self._holders[i].answer() for i in rows]
        order = np.argsort(np.concatenate(list(rows.values())))
        return tuple(np.concatenate(parts)[order] for parts in zip(*answers, strict=True))

    @contextlib.contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        """Closes the pool on any error: a later call would read answers that are still queued."""
        try:
            yield
        except BaseException:
            self.close()
            raise


class _Here:
    """Holds a share of the environments in this process. It has the interface of `_Worker`."""

    def __init__(self, make_env: MakeEnv, slots: list[int]):
        self._envs: dict[int, gymnasium.Env] = {}
        self._answer: tuple[np.ndarray, ...] = ()
        for slot in slots:
            with _naming('making', slot):
                self._envs[slot] = make_env()

    def ask(self, method: str, slots: np.ndarray, values: np.ndarray) -> None:
        """Resets or steps the environments in `slots`, one value (seed or action) for each."""
        run = self._reset if method == 'reset' else self._step
        rows = [run(int(slot), value) for slot, value in zip(slots, values, strict=True)]
        self._answer = tuple(np.array(column) for column in zip(*rows, strict=True))

    def answer(self) -> tuple[np.ndarray, ...]:
        """The results of the last `ask`, one array for each part."""
        return self._answer

    def close(self) -> None:
        """Closes the environments."""
        for env in self._envs.values():
            env.close()

    def _reset(self, slot: int, seed: int) -> tuple:
        with _naming('reset of', slot):
            return (np.asarray(self._envs[slot].reset(seed=int(seed))[0], np.float32),)

    def _step(self, slot: int, action: np.ndarray) -> tuple:
        with _naming('step of', slot):
            obs, reward, terminated, truncated, info = self._envs[slot].step(action)
        success = bool(info.get('success', False))
        obs = np.asarray(obs, np.float32)
        return obs, float(reward), bool(terminated), bool(truncated), success


class _Worker:
    """Holds a share of the environments in a worker process."""

    def __init__(self, make_env: MakeEnv, slots: list[int]):
        cure = "a script that starts workers needs `if __name__ == '__main__':`"
        self._worker = Worker(_serve, make_env, slots, name='an environment worker', cure=cure)

    def ask(self, method: str, slots: np.ndarray, values: np.ndarray) -> None:
        """Sends the request, and does not wait."""
        self._worker.send((method, slots, values))

    def answer(self) -> tuple[np.ndarray, ...]:
        """Waits for the results; raises RuntimeError where the environment or the worker failed."""
        return self._worker.receive()

    def close(self) -> None:
        """Ends the process, by force after two seconds."""
        self._worker.close(patience_s=2)


def _serve(pipe: Connection, make_env: MakeEnv, slots: list[int]) -> None:
    """Runs in a worker: answers requests until the pipe closes or an environment fails."""
    with answering(pipe):
        here = _Here(make_env, slots)
        pipe.send(here.answer())
        while True:
            here.ask(*pipe.recv())
            pipe.send(here.answer())


@contextlib.contextmanager
def _naming(what: str, slot: int) -> Iterator[None]:
    """Turns any error of an environment into a RuntimeError with its message and the slot."""
    try:
        yield
    except Exception as error:
        text = f'{what} the environment in slot {slot} failed: {type(error).__name__}: {error}'
        raise RuntimeError(text) from error


def cores() -> int:
    """Returns the number of cores that this process may use."""
    affinity = getattr(os, 'sched_getaffinity', None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def choose_workers(make_env: MakeEnv, num_envs: int, *, steps: int = 50) -> int:
    """Returns the number of workers that runs an `EnvPool` fastest; 0 means in this process.

    It times random steps of one environment. There is one worker for each `WORTH_A_WORKER_S` that
    a step of all environments takes, and at most one per core. A single worker would gain nothing.
    The number depends on the machine, and no result of an `EnvPool` depends on the number.

    Args:
        make_env: makes one environment. One that no other process can load runs in this one.
        num_envs: the number of environments.
        steps: the steps to time.
    """
    if not reaches_workers(make_env):
        return 0
    with contextlib.closing(make_env()) as env:
        env.action_space.seed(0)
        env.reset(seed=0)
        begin = time.perf_counter()
        for _ in range(steps):
            *_, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                env.reset()
        seconds = (time.perf_counter() - begin) / steps
    workers = min(cores(), num_envs, int(num_envs * seconds / WORTH_A_WORKER_S))
    return workers if workers > 1 else 0
