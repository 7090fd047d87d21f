"""Runs a policy's episodes in simulators, for many training seeds at once.

The episodes of all lanes (one lane per training seed) share one queue. A slot of the `EnvPool`
whose episode ends takes the next one. An episode does not depend on its slot or on what runs beside
it:

- Its start depends on the evaluation seed and the episode's number, so all training seeds and all
  evaluations meet the same starts.
- Its action keys depend on the training seed, the episode's number and the step.
- A chunk of actions is played to its end without a look at the observations between.
- `Actor` computes each state by the same operations, however many slots there are.

So the number of slots and of worker processes changes the speed and no result.

A value that is not finite, or an error of the simulator, ends the evaluation of its lane. The
lane's earlier episodes still run: so the first of its episodes that fails is the one that is told,
whatever ran beside it. Other lanes do not notice.
"""

import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dtql_jax.rollout.actor import Actor
from dtql_jax.rollout.env_pool import EnvPool
from dtql_jax.types import Params, Stopped


@dataclasses.dataclass(frozen=True)
class LanePolicies:
    """The policies of all lanes: what acts, their parameters `[S, ...]`, and their S seeds.

    The actor chooses `horizon_length` actions at once, which are played in a row.
    """

    actor: Actor
    params: Params
    seeds: Sequence[int]
    horizon_length: int = 1


@dataclasses.dataclass(frozen=True)
class Rollouts:
    """Episodes per lane, `[S, E]` float64; NaN in the rows of lanes without an evaluation.

    `returns` are undiscounted sums of the environment's reward. `success` is 1 where any step
    reported success, 0 where steps reported none, and NaN where no step reported anything. `length`
    counts steps. The times are those of acting, which includes the compilation of the first call,
    and of the simulators. `failed` says why a lane's evaluation failed, by the lane.
    """

    returns: np.ndarray
    success: np.ndarray
    length: np.ndarray
    time_act_s: float
    time_env_s: float
    failed: dict[int, str]

    @property
    def env_steps(self) -> int:
        """The environment steps of all episodes together."""
        return int(np.nansum(self.length))

    @property
    def steps_per_s(self) -> float:
        """Environment steps per second of acting and simulating."""
        return self.env_steps / (self.time_act_s + self.time_env_s)


def evaluate(
    policies: LanePolicies,
    pool: EnvPool,
    *,
    episodes: int,
    eval_seed: int = 0,
    lanes: Sequence[int] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Rollouts:
    """Runs the first `episodes` episodes of each lane.

    Args:
        policies: the policies of S lanes.
        pool: the simulators.
        episodes: episodes of each lane.
        eval_seed: draws the starts of the episodes.
        lanes: the lanes to evaluate, by index; None means all.
        should_stop: is called at every step; True stops the evaluation.

    Raises:
        Stopped: `should_stop` returned True.
        UserError: a simulator in this process hangs.
        WorkerLost: a worker process died or hangs.
    """
    seeds = policies.seeds
    lanes = range(len(seeds)) if lanes is None else lanes
    waiting = deque(
        _Running(lane, seeds[lane], number) for number in range(episodes) for lane in lanes
    )
    params = policies.actor.to_device(policies.params)
    results = np.full([3, len(seeds), episodes], np.nan)
    slots = _Slots(pool, eval_seed)
    slots.fill(waiting)
    while slots.running or waiting:
        if should_stop():
            raise Stopped
        for ended in slots.step(policies, params):
            results[:, ended.lane, ended.number] = (ended.total, ended.success, ended.length)
        slots.fill(waiting)
    results[:, list(slots.failed)] = np.nan
    failed = {lane: episode.failure for lane, episode in slots.failed.items()}
    seconds = slots.seconds
    return Rollouts(results[0], results[1], results[2], seconds['act'], seconds['env'], failed)


def start_seed(eval_seed: int, episode: int) -> int:
    """The seed of an episode's start: a hash, so that it is none of the data's seeds 0, 1, ..."""
    return int(np.random.SeedSequence([eval_seed, episode]).generate_state(1)[0])


@dataclasses.dataclass
class _Running:
    """An episode under way: whose it is, its last observation, its next actions, its sums."""

    lane: int
    seed: int
    number: int
    obs: np.ndarray = dataclasses.field(init=False)
    planned: list[np.ndarray] = dataclasses.field(default_factory=list)
    length: int = 0
    total: float = 0.0
    success: float = np.nan
    failure: str = ''

    def fail(self, reason: str) -> None:
        """Notes why the episode failed, and where; the first reason counts."""
        place = f'seed {self.seed}, episode {self.number}, step {self.length}'
        self.failure = self.failure or f'{reason}: {place}'


class _Slots:
    """The simulators of a pool, with the episodes that run in them and the seconds they took."""

    def __init__(self, pool: EnvPool, eval_seed: int):
        self._pool = pool
        self._eval_seed = eval_seed
        self.running: dict[int, _Running] = {}
        self.failed: dict[int, _Running] = {}  # the first episode of a lane that failed
        self.seconds = {'act': 0.0, 'env': 0.0}

    def fill(self, waiting: deque[_Running]) -> None:
        """Starts waiting episodes in the free slots."""
        free = [slot for slot in range(self._pool.num_envs) if slot not in self.running]
        new: dict[int, _Running] = {}
        while waiting and len(new) < len(free):
            episode = waiting.popleft()
            if self._counts(episode):
                new[free[len(new)]] = episode
        if not new:
            return
        with self._timed('env'):
            seeds = [start_seed(self._eval_seed, episode.number) for episode in new.values()]
            starts = self._pool.reset(list(new), seeds)
        for episode, obs, failure in zip(new.values(), starts.obs, starts.failure, strict=True):
            episode.obs = obs
            if failure:
                episode.fail(f'the simulator failed, {failure}')
        self.running |= new
        self._give_up()

    def step(self, policies: LanePolicies, params: Params) -> list[_Running]:
        """Takes one step in all running episodes; returns those that it ended."""
        _check('observation', [episode.obs for episode in self.running.values()], self.running)
        self._give_up()
        if asking := {slot: e for slot, e in self.running.items() if not e.planned}:
            with self._timed('act'):
                obs = np.stack([episode.obs for episode in asking.values()])
                indices = [(e.lane, e.seed, e.number, e.length) for e in asking.values()]
                lane, seed, number, length = zip(*indices, strict=True)
                chunks = policies.actor(params, lane, seed, number, length, obs)
            _check('action', chunks, asking)
            self._give_up()
            for episode, chunk in zip(asking.values(), chunks, strict=True):
                episode.planned = list(chunk.reshape(policies.horizon_length, -1))
        return self._simulate() if self.running else []

    def _simulate(self) -> list[_Running]:
        """Steps the simulators of all running episodes; returns those that it ended."""
        now = self.running.copy()
        actions = np.stack([episode.planned.pop(0) for episode in now.values()])
        with self._timed('env'):
            steps = self._pool.step(list(now), actions)
        for episode, failure in zip(now.values(), steps.failure, strict=True):
            if failure:
                episode.fail(f'the simulator failed, {failure}')
        _check('reward', steps.reward, now)
        self._give_up()
        for i, episode in enumerate(now.values()):
            episode.obs = steps.obs[i]
            episode.total += float(steps.reward[i])
            episode.success = float(np.fmax(episode.success, steps.success[i]))
            episode.length += 1
        over = steps.terminated | steps.truncated
        ended = [slot for slot, last in zip(now, over, strict=True) if last]
        return [self.running.pop(slot) for slot in ended if slot in self.running]

    def _counts(self, episode: _Running) -> bool:
        """Whether its lane's evaluation depends on the episode: no earlier one has failed."""
        failed = self.failed.get(episode.lane)
        return failed is None or episode.number < failed.number

    def _give_up(self) -> None:
        """Drops the episodes that failed, and the later ones of their lanes."""
        for episode in self.running.values():
            if episode.failure and self._counts(episode):
                self.failed[episode.lane] = episode
        self.running = {
            slot: episode
            for slot, episode in self.running.items()
            if not episode.failure and self._counts(episode)
        }

    @contextlib.contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        """Adds the seconds spent inside to `seconds[what]`."""
        began = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - began


def _check(what: str, values: Sequence[np.ndarray] | np.ndarray, now: dict[int, _Running]) -> None:
    """Fails the episodes whose row of `values` is not finite."""
    for value, episode in zip(values, now.values(), strict=True):
        if not np.isfinite(value).all():
            episode.fail(f'{what} not finite')
