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
from functools import partial
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.env_pool import EnvPool
from dtql_jax.types import Params, UserError

# The root of all action keys of evaluations, apart from every key of training.
EVAL_TAG = 0x6576616C

# States per block of `Actor` on an accelerator. A block gathers a copy of the weights per state:
# some 2.5 MB each, used for all 1024 candidates, so the copies cost little beside the products.
ACCELERATOR_BLOCK = 32


class Stopped(Exception):
    """An evaluation was asked to stop; nothing of it is kept, since it can be run again."""


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


class Actor:
    """`agent_act(params of one lane, obs [O], key) -> action [A]`, jitted for many states at once.

    Compiled once for all evaluations with up to `num_slots` states; `traces` counts. The states
    are worked through in blocks by a loop with a traced bound, so that absent states cost nothing
    and a block has the same shapes whatever `num_slots` is, which is what makes results equal
    to the bit (on a GPU as far as its kernels are deterministic). On a CPU a block is one state:
    acting on one (1024 candidates) already fills the cores. An accelerator takes
    `ACCELERATOR_BLOCK` at a time by `vmap`.
    Everything runs on the first local device.
    """

    def __init__(
        self, agent_act: Callable[[Params, jax.Array, jax.Array], jax.Array], num_slots: int
    ):
        self.num_slots = num_slots
        self.traces = 0
        self._agent_act = agent_act
        self._device = jax.local_devices()[0]
        self._block = 1 if self._device.platform == 'cpu' else ACCELERATOR_BLOCK
        self._padded = -(-num_slots // self._block) * self._block
        self._jitted = jax.jit(self._act_on_blocks)

    def place(self, params: Params) -> Params:
        """Lays the parameters `[S, ...]`, sharded over devices or not, where this actor runs."""
        return jax.device_put(params, self._device)

    def __call__(
        self,
        params: Params,
        lane: Sequence[int],
        seed: Sequence[int],
        episode: Sequence[int],
        step: Sequence[int],
        obs: np.ndarray,
    ) -> np.ndarray:
        """Acts for `n <= num_slots` states, `obs` `[n, O]`; returns `[n, A]`.

        `params` have been through `place`. The key of a state is
        `fold_in(fold_in(fold_in(key(EVAL_TAG), seed), episode), step)`.
        """
        count = len(obs)
        if count > self.num_slots:
            raise ValueError(f'{count} states for {self.num_slots} slots')
        indices = np.zeros([4, self._padded], np.uint32)
        indices[:, :count] = [lane, seed, episode, step]
        padded = np.zeros([self._padded, obs.shape[1]], np.float32)
        padded[:count] = obs
        args = jax.device_put((indices, padded, np.int32(count)), self._device)
        # A copy, since what device_get gives may be read-only and simulators may write to it.
        return np.array(jax.device_get(self._jitted(params, *args))[:count])

    def _act_on_blocks(
        self, params: Params, indices: jax.Array, obs: jax.Array, count: jax.Array
    ) -> jax.Array:
        self.traces += 1
        take = partial(jax.lax.dynamic_index_in_dim, keepdims=False)

        def act(index: jax.Array, obs: jax.Array) -> jax.Array:
            key = jax.random.key(EVAL_TAG)
            for part in index[1:]:
                key = jax.random.fold_in(key, part)
            return self._agent_act(jax.tree.map(lambda x: take(x, index[0]), params), obs, key)

        def act_on_block(i: jax.Array, actions: jax.Array) -> jax.Array:
            begin = i * self._block
            block = [jax.lax.dynamic_slice_in_dim(x, begin, self._block) for x in (indices.T, obs)]
            return jax.lax.dynamic_update_slice_in_dim(
                actions, jax.vmap(act)(*block), begin, axis=0
            )

        shape = jax.eval_shape(jax.vmap(act), indices.T, obs)
        blocks = (count + self._block - 1) // self._block
        return jax.lax.fori_loop(0, blocks, act_on_block, jnp.zeros(shape.shape, shape.dtype))


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


def record_video(
    policy: Callable[[np.ndarray], np.ndarray],
    env: gymnasium.Env,
    path: str | Path,
    *,
    seed: int = 0,
) -> float:
    """Films one episode of `policy(obs [O]) -> action [A]`; returns the episode's return.

    The suffix of `path` chooses the format (.gif or .mp4); `env` renders in mode 'rgb_array'.
    Raises UserError where writing .mp4 lacks its encoder.
    """
    import imageio.v2 as imageio  # only films need it

    fps = env.metadata.get('render_fps', 30)
    # A gif is told how many milliseconds a frame lasts, a video how many frames a second has.
    speed = {'duration': 1000 / fps} if Path(path).suffix == '.gif' else {'fps': fps}
    try:
        writer = imageio.get_writer(path, **speed)
    except (ImportError, ValueError) as error:
        raise UserError(
            f'{path}: no encoder for this suffix; .gif always works, .mp4 after '
            '`pip install imageio-ffmpeg`'
        ) from error
    with writer:
        obs, _ = env.reset(seed=seed)
        total, done = 0.0, False
        while not done:
            writer.append_data(env.render())
            obs, reward, terminated, truncated, _ = env.step(policy(np.asarray(obs, np.float32)))
            total, done = total + float(reward), terminated or truncated
    return total
