"""Whether episodes are functions of their seed and the actions, as evaluations assume.

Otherwise a result depends on how many simulators run, and changes when it is repeated.

Worker processes import this module, so it imports no jax.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import NormalizeObservation, NormalizeReward

from dtql_jax.types import UserError, outside

STEPS = 5  # of the episode that is played twice


def own_draws(env: gym.Env) -> Callable[[int | None], contextlib.AbstractContextManager]:
    """What to step and reset `env` within, given the seed of a reset, so that episodes repeat.

    OGBench's simulators draw from NumPy's global generator, and from an action space that nobody
    seeds. They get a state of the generator of their own. Others need nothing.
    """
    if not type(env.unwrapped).__module__.startswith('ogbench.'):
        return contextlib.nullcontext
    state: list[Any] = []

    @contextlib.contextmanager
    def own(seed: int | None) -> Iterator[None]:
        if seed is not None:
            env.unwrapped.action_space.seed(seed)
            state[:] = [np.random.RandomState(seed % 2**32).get_state()]
        others = np.random.get_state()  # noqa: NPY002
        np.random.set_state(state.pop() if state else others)  # noqa: NPY002
        try:
            yield
        finally:
            state[:] = [np.random.get_state()]  # noqa: NPY002
            np.random.set_state(others)  # noqa: NPY002

    return own


def check_running(env: gym.Env, owner: str) -> None:
    """Raises UserError for a normaliser that still learns from all episodes that it sees."""
    while isinstance(env, gym.Wrapper):
        if isinstance(env, (NormalizeObservation, NormalizeReward)) and env.update_running_mean:
            raise UserError(
                f'{owner}: its environment has the wrapper {type(env).__name__}, whose numbers '
                'depend on all episodes before, so that results cannot be repeated; give it fixed '
                'statistics and set its update_running_mean to False, or leave it out'
            )
        env = env.env


def check_repeats(env: gym.Env, owner: str, cure: str) -> None:
    """Raises UserError unless the first steps of an episode repeat under its seed and actions.

    Args:
        env: is played.
        owner: names it in messages.
        cure: what helps where it does not run.
    """
    with outside(f'{owner}: its recorded environment does not run', cure):
        first, second = (list(_episode(env)) for _ in range(2))
    if first != second:
        raise UserError(
            f'{owner} was recorded through wrappers with a state that outlives an episode: the '
            'same seed and actions give other observations or rewards the second time, so that '
            'results cannot be repeated; record without them, or name another environment: '
            'register_task(Task(..., env_id=...))'
        )


def _episode(env: gym.Env) -> Iterator[bytes]:
    """What a policy meets in the first steps of an episode of seed 0."""
    obs, _ = env.reset(seed=0)
    env.action_space.seed(0)
    yield _bytes(obs)
    for _ in range(STEPS):
        obs, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        yield _bytes(obs)
        yield _bytes([reward, terminated, truncated])
        if terminated or truncated:
            return


def _bytes(value: Any) -> bytes:
    """The numbers of a nested observation."""
    if isinstance(value, dict):
        return b''.join(_bytes(value[key]) for key in sorted(value))
    return np.asarray(value).tobytes()
