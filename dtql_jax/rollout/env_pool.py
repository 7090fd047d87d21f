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
from typing import Self

import numpy as np
from absl import logging

from dtql_jax.rollout.patience import ENDLESS, Patience
from dtql_jax.rollout.simulators import API, SUCCESS_KEYS, MakeEnv, Simulators, Steps, serve
from dtql_jax.rollout.thread import Thread
from dtql_jax.rollout.worker import Worker, reaches_workers
from dtql_jax.types import UserError

# A worker is worth its cost where it simulates this long between two messages. A round trip with
# two workers costs 0.3 ms of processor time and as much again in waking up; starting a worker costs
# about a second.
WORTH_A_WORKER_S = 2.5e-3

REPEATED = 5  # steps of the episode that is played twice
NO_REPEAT = (
    'the simulator gives other observations or rewards when an episode is repeated with the same '
    'seed and actions: results cannot be repeated, and depend on how many simulators run. Let '
    'reset(seed=...) decide all that is random and clear all that earlier episodes left, or '
    'register it with nondeterministic=True if this is meant'
)
NO_SUCCESS = (
    f'its success is scored, and the simulator reports neither {SUCCESS_KEYS} in an episode: let '
    "it report one of them in each episode, failed ones too, or score the return (scored='return')"
)


class EnvPool:
    """Holds `num_envs` environments in slots `0 .. num_envs - 1`. Close it, or use it in a `with`.

    The number of workers changes the speed and no result. An environment that fails gives a row
    that tells why. Any error that is raised closes the pool; `restart` opens it again.

    Args:
        make_env: makes one environment. Workers need one that can be pickled.
        num_envs: the number of environments.
        workers: 0 runs the environments in a thread of this process. Otherwise so many spawned
            processes (fork deadlocks with jax) hold a contiguous share of the slots each.
        patience: how long one step or reset of all environments may take.

    Raises:
        UserError: an environment cannot be made, or one in this process hangs.
        WorkerLost: a worker died or hangs. All methods may raise it.
    """

    def __init__(
        self,
        make_env: MakeEnv,
        num_envs: int,
        workers: int = 0,
        patience: Patience = ENDLESS,
    ):
        self.num_envs = num_envs
        self._make_env, self._workers, self._patience = make_env, workers, patience
        self._shares = np.array_split(np.arange(num_envs), max(1, min(workers, num_envs)))
        self._owner = np.repeat(
            np.arange(len(self._shares)), [len(share) for share in self._shares]
        )
        self._holders: list[Worker | Thread] = []
        self.restart()

    def restart(self) -> None:
        """Closes the environments and makes new ones."""
        self.close()
        # At exit multiprocessing sends SIGTERM to its children and waits. Workers ignore it.
        atexit.register(self.close)
        with self._closing_on_error():
            for share in self._shares:
                self._holders.append(self._start(share.tolist()))
            for holder in self._holders:
                holder.receive(self._patience.for_making())

    def _start(self, slots: list[int]) -> Worker | Thread:
        """Starts what holds a share of the environments."""
        if not self._workers:
            return Thread(serve, self._make_env, slots, name='a simulator')
        cure = "a script that starts workers needs `if __name__ == '__main__':`"
        return Worker(serve, self._make_env, slots, name='an environment worker', cure=cure)

    def reset(self, slots: Sequence[int], seeds: Sequence[int]) -> Steps:
        """Starts a new episode in each of `slots` by its seed; of the result `obs` counts."""
        return self._ask('reset', slots, np.asarray(seeds))

    def step(self, slots: Sequence[int], actions: np.ndarray) -> Steps:
        """Steps the environments in `slots` by `actions` `[len(slots), A]`."""
        return self._ask('step', slots, actions)

    def close(self) -> None:
        """Closes the environments and ends the workers. Closing twice does no harm."""
        atexit.unregister(self.close)
        while self._holders:
            self._holders.pop().close(patience_s=2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, method: str, slots: Sequence[int], values: np.ndarray) -> Steps:
        """Sends each holder its share of the work; returns the answers in the order of `slots`."""
        if not self._holders:
            raise RuntimeError('this EnvPool is closed')
        chosen = np.asarray(slots)
        owner = self._owner[chosen]
        rows = {int(i): np.flatnonzero(owner == i) for i in np.unique(owner)}
        with self._closing_on_error():
            for i, share in rows.items():
                self._holders[i].send((method, chosen[share], values[share]))
            answers = [self._holders[i].receive(self._patience) for i in rows]
        order = np.argsort(np.concatenate(list(rows.values())))
        return Steps(*(np.concatenate(parts)[order] for parts in zip(*answers, strict=True)))

    @contextlib.contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        """Closes the pool on any error: a later call would read answers that are still queued."""
        try:
            yield
        except BaseException:
            self.close()
            raise


def cores() -> int:
    """Returns the number of cores that this process may use."""
    affinity = getattr(os, 'sched_getaffinity', None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def choose_workers(
    make_env: MakeEnv,
    num_envs: int,
    *,
    steps: int = 50,
    success: bool = False,
    warn: Callable[[str], None] = logging.warning,
) -> int:
    """Returns the number of workers that runs an `EnvPool` fastest; 0 means in this process.

    It tries and times random steps of one environment. There is one worker for each
    `WORTH_A_WORKER_S` that a step of all environments takes, and at most one per core. A single
    worker would gain nothing. The number depends on the machine, and no result of an `EnvPool`
    depends on the number.

    Args:
        make_env: makes one environment. One that no other process can load runs in this one.
        num_envs: the number of environments.
        steps: the steps to time.
        success: whether its episodes must report success.
        warn: is called where its episodes do not repeat.

    Raises:
        UserError: the environment cannot be made, reset or stepped, or reports no success.
    """
    reached = reaches_workers(make_env)
    with contextlib.closing(Simulators(make_env, [0])) as one:
        seconds = _try_out(one, steps, success)
        if not one.random_by_intent(0) and _first_steps(one) != _first_steps(one):
            warn(NO_REPEAT)
    workers = min(cores(), num_envs, int(num_envs * seconds / WORTH_A_WORKER_S))
    return workers if reached and workers > 1 else 0


def _try_out(one: Simulators, steps: int, success: bool) -> float:
    """The seconds of a random step of the environment in slot 0."""
    _, space = one.spaces(0)
    space.seed(0)
    start, count, told = np.zeros(1, np.int64), 0, not success
    _require(one.answer('reset', [0], start))
    begin = time.perf_counter()
    while count < steps or not told:
        row = one.answer('step', [0], space.sample()[None])
        count += 1
        if count == 1:
            _require(row)
        if row.failure[0]:  # which an evaluation reports where it happens to a policy
            break
        told = told or not np.isnan(row.success[0])
        if row.terminated[0] or row.truncated[0]:
            if not told:
                raise UserError(f'the task cannot be evaluated: {NO_SUCCESS}')
            one.answer('reset', [0], start)
    return (time.perf_counter() - begin) / count


def _first_steps(one: Simulators) -> list[bytes]:
    """What a policy meets in the first steps of an episode of seed 0 in slot 0."""
    space = one.spaces(0)[1]
    space.seed(0)
    row = one.answer('reset', [0], np.zeros(1, np.int64))
    met = [row.obs.tobytes()]
    while len(met) <= REPEATED and not (row.terminated[0] or row.truncated[0]):
        row = one.answer('step', [0], space.sample()[None])
        met.append(b''.join(column.tobytes() for column in row[:4]))
    return met


def _require(row: Steps) -> None:
    """Raises UserError where an environment fails at its first steps: it will never do."""
    if row.failure[0]:
        raise UserError(f'the simulator cannot be played, {row.failure[0]}; {API}')
    if not np.isfinite(row.obs).all():
        raise UserError('the simulator cannot be played: its first observation is not finite')
