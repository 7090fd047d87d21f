"""Runs a policy's episodes in simulators, for many training seeds at once.

The episodes of all lanes (one lane per training seed) share one queue; a slot of the `EnvPool`
whose episode ends takes the next. An episode is the same whichever slot it runs in and whatever
runs beside it: its start depends on the evaluation seed and the episode's number alone, so every
training seed and every evaluation meets the same starts; its action keys on the training seed, the
episode and the step; and `Actor` computes every state by the same operations however many slots
there are. The number of slots and of worker processes therefore sets the speed and nothing else.
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
class Rollouts:
    """Episodes per lane, `[S, E]` float64; NaN in the rows of lanes that were not evaluated.

    `returns` are undiscounted sums of the environment's reward, `success` is 1 where any step
    reported success, `length` counts steps. The times are of acting (the first ever call
    compiles) and of the simulators.
    """

    returns: np.ndarray
    success: np.ndarray
    length: np.ndarray
    time_act_s: float
    time_env_s: float

    @property
    def env_steps(self) -> int:
        """Environment steps of all episodes together."""
        return int(np.nansum(self.length))

    @property
    def steps_per_s(self) -> float:
        """Environment steps per second of acting and simulating."""
        return self.env_steps / (self.time_act_s + self.time_env_s)


@dataclasses.dataclass
class _Episode:
    """An episode under way: whose it is, where it stands, and what it has gathered."""

    lane: int
    seed: int
    number: int
    obs: np.ndarray | None = None
    length: int = 0
    total: float = 0.0
    success: bool = False


def evaluate(
    actor: Actor,
    params: Params,
    seeds: Sequence[int],
    pool: EnvPool,
    *,
    episodes: int,
    eval_seed: int = 0,
    lanes: Sequence[int] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Rollouts:
    """Runs `episodes` episodes for each of `lanes` (all if None) of `params`, leaves `[S, ...]`.

    `seeds` are the S training seeds. Raises `Stopped` where `should_stop`, asked at every step,
    says so, and FloatingPointError where an action, observation or reward is not finite.
    """
    params = actor.place(params)
    lanes = range(len(seeds)) if lanes is None else lanes
    waiting = deque(
        _Episode(lane, seeds[lane], number) for number in range(episodes) for lane in lanes
    )
    results = np.full([3, len(seeds), episodes], np.nan)
    clock = {'act': 0.0, 'env': 0.0}
    running: dict[int, _Episode] = {}
    _start(running, waiting, pool, eval_seed, clock)
    while running:
        if should_stop():
            raise Stopped
        now = list(running.values())
        with _timed(clock, 'act'):
            obs = np.stack([episode.obs for episode in now])
            _require_finite('observation', obs, now)
            columns = zip(*[(e.lane, e.seed, e.number, e.length) for e in now], strict=True)
            actions = actor(params, *columns, obs)
            _require_finite('action', actions, now)
        with _timed(clock, 'env'):
            steps = pool.step(list(running), actions)
            _require_finite('reward', steps.reward, now)
        for slot, *step in zip(list(running), *steps, strict=True):
            episode = running[slot]
            if _advance(episode, *step):
                row = (episode.total, episode.success, episode.length)
                results[:, episode.lane, episode.number] = row
                del running[slot]
        _start(running, waiting, pool, eval_seed, clock)
    return Rollouts(*results, time_act_s=clock['act'], time_env_s=clock['env'])


def _start(
    running: dict[int, _Episode],
    waiting: deque[_Episode],
    pool: EnvPool,
    eval_seed: int,
    clock: dict[str, float],
) -> None:
    """Puts waiting episodes into the free slots."""
    free = [slot for slot in range(pool.num_envs) if slot not in running][: len(waiting)]
    if not free:
        return
    new = [waiting.popleft() for _ in free]
    with _timed(clock, 'env'):
        obs = pool.reset(free, [start_seed(eval_seed, episode.number) for episode in new])
    for slot, episode, first in zip(free, new, obs, strict=True):
        episode.obs = first
        running[slot] = episode


def start_seed(eval_seed: int, episode: int) -> int:
    """The seed of an episode's start; hashed, to differ from data collected with seeds 0, 1, ..."""
    return int(np.random.SeedSequence([eval_seed, episode]).generate_state(1)[0])


def _advance(
    episode: _Episode,
    obs: np.ndarray,
    reward: float,
    terminated: bool,
    truncated: bool,
    success: bool,
) -> bool:
    """Adds one step to the episode; returns whether it was the last."""
    episode.obs = obs
    episode.total += float(reward)
    episode.success |= bool(success)
    episode.length += 1
    return bool(terminated or truncated)


def _require_finite(what: str, values: np.ndarray, episodes: Sequence[_Episode]) -> None:
    """Raises FloatingPointError for the first row of `values` that is not finite."""
    finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if not finite.all():
        bad = episodes[int(np.argmin(finite))]
        raise FloatingPointError(
            f'{what} not finite: seed {bad.seed}, episode {bad.number}, step {bad.length}'
        )


@contextlib.contextmanager
def _timed(clock: dict[str, float], name: str) -> Iterator[None]:
    """Adds the seconds spent inside to `clock[name]`."""
    begin = time.perf_counter()
    yield
    clock[name] += time.perf_counter() - begin
