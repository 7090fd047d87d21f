"""Simulators side by side: `EnvPool` steps any subset of its environments, in this process or in
workers.

Why not gymnasium's `AsyncVectorEnv`: it starts one process per environment, whatever the number of
cores, and it steps every environment at every call, finished ones too. Evaluation needs few
processes with many environments each, and to step only the episodes that still run.

This module imports no jax: worker processes load it.
"""

import atexit
import contextlib
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import NamedTuple, Self

import gymnasium
import numpy as np

MakeEnv = Callable[[], gymnasium.Env]

# What a worker should have to simulate between two round trips. One with two workers costs 0.3 ms
# of processor time and as much again in waking up; starting a worker costs a second or so.
WORTH_A_WORKER_S = 2.5e-3


class Steps(NamedTuple):
    """What one step of `n` environments gave. `success` is the step's `info['success']`."""

    obs: np.ndarray  # [n, O] float32
    reward: np.ndarray  # [n] float64
    terminated: np.ndarray  # [n] bool
    truncated: np.ndarray  # [n] bool
    success: np.ndarray  # [n] bool, False where the environment does not tell


class EnvPool:
    """`num_envs` environments in slots `0 .. num_envs - 1`; close it, or use it in a `with`.

    `workers=0` runs them in this process; otherwise that many spawned processes (fork deadlocks
    with jax) hold a contiguous share of the slots each, and `make_env` must be picklable. The
    results are the same. Raises RuntimeError with the environment's own message where one fails
    or a worker dies; the pool is closed then.
    """

    def __init__(self, make_env: MakeEnv, num_envs: int, workers: int = 0):
        self.num_envs = num_envs
        shares = np.array_split(np.arange(num_envs), max(1, min(workers, num_envs)))
        self._owner = np.repeat(np.arange(len(shares)), [len(share) for share in shares])
        start = _Worker if workers else _Here
        self._holders: list[_Worker | _Here] = []
        # Without this, multiprocessing would wait at exit for workers that ignore its SIGTERM.
        atexit.register(self.close)
        with self._closing_on_error(), signals_blocked() if workers else contextlib.nullcontext():
            for share in shares:
                self._holders.append(start(make_env, share.tolist()))
            for holder in self._holders:
                holder.answer()

    def reset(self, slots: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
        """Starts a new episode in each of `slots` from its seed; returns obs `[len(slots), O]`."""
        return self._ask('reset', slots, np.asarray(seeds))[0]

    def step(self, slots: Sequence[int], actions: np.ndarray) -> Steps:
        """Steps only `slots`, by `actions` `[len(slots), A]`."""
        return Steps(*self._ask('step', slots, actions))

    def close(self) -> None:
        """Closes the environments and ends the workers; may be called twice."""
        atexit.unregister(self.close)
        while self._holders:
            self._holders.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, method: str, slots: Sequence[int], values: np.ndarray) -> tuple[np.ndarray, ...]:
        """Sends each holder its share of the work; puts the answers in the order of `slots`."""
        if not self._holders:
            raise RuntimeError('this EnvPool is closed')
        slots = np.asarray(slots)
        owner = self._owner[slots]
        rows = {int(i): np.flatnonzero(owner == i) for i in np.unique(owner)}
        with self._closing_on_error():
            for i, share in rows.items():
                self._holders[i].ask(method, slots[share], values[share])
            answers = [self._holders[i].answer() for i in rows]
        order = np.argsort(np.concatenate(list(rows.values())))
        return tuple(np.concatenate(parts)[order] for parts in zip(*answers, strict=True))

    @contextlib.contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        """Closes the pool on any error, since answers that nobody read would come up later."""
        try:
            yield
        except BaseException:
            self.close()
            raise


class _Here:
    """A share of the environments in this process, with the interface of `_Worker`."""

    def __init__(self, make_env: MakeEnv, slots: list[int]):
        self._envs: dict[int, gymnasium.Env] = {}
        self._answer: tuple[np.ndarray, ...] = ()
        for slot in slots:
            with _naming('making', slot):
                self._envs[slot] = make_env()

    def ask(self, method: str, slots: np.ndarray, values: np.ndarray) -> None:
        run = {'reset': self._reset, 'step': self._step}[method]
        rows = [run(int(slot), value) for slot, value in zip(slots, values, strict=True)]
        self._answer = tuple(np.array(column) for column in zip(*rows, strict=True))

    def answer(self) -> tuple[np.ndarray, ...]:
        return self._answer

    def close(self) -> None:
        for env in self._envs.values():
            env.close()

    def _reset(self, slot: int, seed: int) -> tuple[np.ndarray]:
        with _naming('reset of', slot):
            return (np.asarray(self._envs[slot].reset(seed=int(seed))[0], np.float32),)

    def _step(self, slot: int, action: np.ndarray) -> tuple:
        with _naming('step of', slot):
            obs, reward, terminated, truncated, info = self._envs[slot].step(action)
        success = bool(info.get('success', False))
        obs = np.asarray(obs, np.float32)
        return obs, float(reward), bool(terminated), bool(truncated), success


class _Worker:
    """A share of the environments in a spawned process at the other end of a pipe.

    The process lives exactly as long as this end of the pipe is open, so none is left behind even
    where this process is killed.
    """

    def __init__(self, make_env: MakeEnv, slots: list[int]):
        spawn = multiprocessing.get_context('spawn')
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, make_env, slots), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, method: str, slots: np.ndarray, values: np.ndarray) -> None:
        # A dead worker is reported by `answer`, which finds the pipe closed.
        with contextlib.suppress(OSError):
            self._pipe.send((method, slots, values))

    def answer(self) -> tuple[np.ndarray, ...]:
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(timeout=5)
            raise RuntimeError(
                f'an environment worker died (exit code {self._process.exitcode}): see above for '
                "its output; a script that starts workers needs `if __name__ == '__main__':`"
            ) from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self._pipe.close()
        self._process.join(timeout=2)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(pipe: Connection, make_env: MakeEnv, slots: list[int]) -> None:
    """The life of a worker: answers requests until the pipe closes or an environment fails."""
    with contextlib.suppress(EOFError, OSError):
        try:
            here = _Here(make_env, slots)
            pipe.send(here.answer())
            while True:
                here.ask(*pipe.recv())
                pipe.send(here.answer())
        except RuntimeError as error:
            error.add_note(f'In the worker: {"".join(traceback.format_exception(error))}')
            pipe.send(error)


@contextlib.contextmanager
def _naming(what: str, slot: int) -> Iterator[None]:
    """Turns any failure of an environment into one RuntimeError with its message and the slot."""
    try:
        yield
    except Exception as error:
        text = f'{what} the environment in slot {slot} failed: {type(error).__name__}: {error}'
        raise RuntimeError(text) from error


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Processes started here never see Ctrl-C or SIGTERM, which go to a whole process group.

    The parent alone decides what a signal means, and ends its workers by closing their pipes. A
    blocked signal stays blocked in a child from its first instruction on; one that arrives here
    meanwhile is delivered afterwards.
    """
    resource_tracker.ensure_running()  # started later, inside, it would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, 'sched_getaffinity', None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def choose_workers(make_env: MakeEnv, num_envs: int, *, steps: int = 50) -> int:
    """How many workers an `EnvPool` of `num_envs` is best given; 0 is to run in this process.

    Times `steps` random steps of one environment: one worker per `WORTH_A_WORKER_S` that a step of
    all environments takes, and at most one per core; a single one would gain nothing. The answer
    depends on the machine; results of an `EnvPool` do not depend on the answer.
    """
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
