"""Runs a policy's episodes in simulators, for many training seeds at once.

The episodes of all lanes (one lane per training seed) share one queue. A slot of the `EnvPool`
whose episode ends takes the next one. An episode does not depend on its slot or on what runs beside
it:

- Its start depends on the evaluation seed and the episode's number, so all training seeds and all
  evaluations meet the same starts.
- Its action keys depend on the training seed, the episode's number and the step.
- `Actor` computes each state by the same operations, however many slots there are.

So the number of slots and of worker processes changes the speed and no result.
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
    """The policies of all lanes: what acts, their parameters `[S, ...]`, and their S seeds."""

    actor: Actor
    params: Params
    seeds: Sequence[int]


@dataclasses.dataclass(frozen=True)
class Rollouts:
    """Episodes per lane, `[S, E]` float64; NaN in the rows of lanes that were not evaluated.

    `returns` are undiscounted sums of the environment's reward. `success` is 1 where any step
    reported success. `length` counts steps. The times are those of acting, which includes the
    compilation of the first call, and of the simulators.
    """

    returns: np.ndarray
    success: np.ndarray
    length: np.ndarray
    time_act_s: float
    time_env_s: float

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
        FloatingPointError: an observation, an action or a reward is not finite.
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
    while slots.running:
        if should_stop():
            raise Stopped
        for ended in slots.step(policies.actor, params):
            results[:, ended.lane, ended.number] = (ended.total, ended.success, ended.length)
        slots.fill(waiting)
    return Rollouts(*results, *slots.seconds.values())


def start_seed(eval_seed: int, episode: int) -> int:
    """The seed of an episode's start: a hash, so that it is none of the data's seeds 0, 1, ..."""
    return int(np.random.SeedSequence([eval_seed, episode]).generate_state(1)[0])


@dataclasses.dataclass
class _Running:
    """An episode under way: whose it is, its last observation, and its sums so far."""

    lane: int
    seed: int
    number: int
    obs: np.ndarray = dataclasses.field(init=False)
    length: int = 0
    total: float = 0.0
    success: bool = False


class _Slots:
    """The simulators of a pool, with the episodes that run in them and the seconds they took."""

    def __init__(self, pool: EnvPool, eval_seed: int):
        self._pool = pool
        self._eval_seed = eval_seed
        self.running: dict[int, _Running] = {}
        self.seconds = {'act': 0.0, 'env': 0.0}

    def fill(self, waiting: deque[_Running]) -> None:
        """Starts waiting episodes in the free slots."""
        free = [slot for slot in range(self._pool.num_envs) if slot not in self.running]
        new = {slot: waiting.popleft() for slot in free[: len(waiting)]}
        if not new:
            return
        with self._timed('env'):
            seeds = [start_seed(self._eval_seed, episode.number) for episode in new.values()]
            starts = self._pool.reset(list(new), seeds)
        for episode, obs in zip(new.values(), starts, strict=True):
            episode.obs = obs
        self.running |= new

    def step(self, actor: Actor, params: Params) -> list[_Running]:
        """Takes one step in all running episodes; returns those that it ended."""
        slots, now = list(self.running), list(self.running.values())
        with self._timed('act'):
            obs = np.stack([episode.obs for episode in now])
            _require_finite('observation', obs, now)
            indices = [(e.lane, e.seed, e.number, e.length) for e in now]
            lane, seed, number, length = zip(*indices, strict=True)
            actions = actor(params, lane, seed, number, length, obs)
            _require_finite('action', actions, now)
        with self._timed('env'):
            steps = self._pool.step(slots, actions)
            _require_finite('reward', steps.reward, now)
        for i, episode in enumerate(now):
            episode.obs = steps.obs[i]
            episode.total += float(steps.reward[i])
            episode.success |= bool(steps.success[i])
            episode.length += 1
        over = steps.terminated | steps.truncated
        return [self.running.pop(slot) for slot, last in zip(slots, over, strict=True) if last]

    @contextlib.contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        """Adds the seconds spent inside to `seconds[what]`."""
        began = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - began


def _require_finite(what: str, values: np.ndarray, episodes: Sequence[_Running]) -> None:
    """Raises FloatingPointError for the first row of `values` that is not finite."""
    finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if not finite.all():
        bad = episodes[int(np.argmin(finite))]
        raise FloatingPointError(
            f'{what} not finite: seed {bad.seed}, episode {bad.number}, step {bad.length}'
        )
