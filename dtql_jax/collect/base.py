"""Behaviours, which collect data, and `record`, which plays and records an episode."""

import abc
import contextlib
import copy
import dataclasses
from typing import Any, ClassVar, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.spaces import leaf_paths, pick
from dtql_jax.tasks.success import succeeded
from dtql_jax.tasks.task import Task

# Mixed into the seeds of episodes, so that none starts as an episode of an evaluation does.
COLLECT_TAG = 0x636F6C6C

# An episode: observations `[T+1, ...]` under 'observations' or 'observations/KEY'; 'actions',
# 'rewards', 'terminations', 'truncations' `[T, ...]`; and 'success', one int8: 1, 0, or -1 where
# the environment does not tell it.
Episode = dict[str, np.ndarray]


class Controller(Protocol):
    """Chooses actions in one process."""

    def begin(self, obs: Any, rng: np.random.Generator) -> None:
        """Begins an episode at `obs`. All randomness of the episode comes from `rng`."""

    def act(self, obs: Any) -> np.ndarray:
        """Returns the next action, float32 `[A]`, inside the box."""


@dataclasses.dataclass(frozen=True)
class Behaviour(abc.ABC):
    """Who collects, and in which task: plain data that worker processes receive and `open`.

    `noise` is the deviation of the Gaussian noise added to actions, in the actions' unit.
    """

    task: Task
    noise: float = 0.0

    algorithm: ClassVar[str]  # the set's `algorithm_name`

    @property
    @abc.abstractmethod
    def description(self) -> str:
        """The set's description."""

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """What decides the episodes besides task and noise, JSON-able."""

    @abc.abstractmethod
    def env_spec(self) -> EnvSpec:
        """The spec of the environment that is recorded."""

    @abc.abstractmethod
    def open(self) -> tuple[gym.Env, Controller]:
        """Makes the environment, whose observations are recorded unchanged, and its controller."""


def evaluation_spec(task: Task) -> EnvSpec:
    """The spec of the task's evaluation environment, with its horizon and its wrappers."""
    with contextlib.closing(make_env(task)) as env:
        spec = copy.deepcopy(env.unwrapped.spec)
        assert spec is not None  # gymnasium.make has set both
        assert env.spec is not None
        spec.max_episode_steps = env.spec.max_episode_steps
        spec.additional_wrappers = env.spec.additional_wrappers[:-1]  # the last is `make_env`'s
    return spec


def without_marks(maze_map: list[list[int | str]]) -> list[list[int]]:
    """The map without start and goal, in which episodes may start and end in any free cell."""
    return [[int(cell == 1) for cell in row] for row in maze_map]


def record(
    env: gym.Env, controller: Controller, horizon: int, noise: float, seed: int, number: int
) -> Episode:
    """Plays and records one episode, a function of `seed` and `number`.

    Args:
        env: the environment. The episode starts with a reset.
        controller: chooses the actions.
        horizon: the episode is truncated after that many steps.
        noise: deviation of the Gaussian noise added to actions, which are then clipped to the box.
        seed: of the whole collection.
        number: of the episode in the collection.

    Raises:
        RuntimeError: a recorded number is not finite.
    """
    start, draws = np.random.SeedSequence([COLLECT_TAG, seed, number]).spawn(2)
    rng = np.random.default_rng(draws)
    obs, info = env.reset(seed=int(start.generate_state(1)[0]))
    controller.begin(obs, rng)
    seen, actions, rewards = [obs], [], []
    success, terminated, truncated = succeeded(info), False, False
    while not (terminated or truncated):
        action = controller.act(obs)
        if noise:
            action = _noisy(action, noise, env.action_space, rng)
        obs, reward, terminated, truncated, info = env.step(action)
        seen.append(obs)
        actions.append(action)
        rewards.append(float(reward))
        success = np.fmax(success, succeeded(info))
        truncated |= len(actions) == horizon
    last = np.arange(len(actions)) == len(actions) - 1
    episode = {
        '/'.join(('observations', *path)): np.stack([pick(obs, path) for obs in seen])
        for path in leaf_paths(env.observation_space)
    } | {
        'actions': np.stack(actions),
        'rewards': np.array(rewards),
        'terminations': last & terminated,
        'truncations': last & truncated & (not terminated),
        'success': np.array(np.nan_to_num(success, nan=-1), np.int8),
    }
    for name, values in episode.items():
        if not np.isfinite(values).all():
            raise RuntimeError(f'episode {number} of seed {seed}: {name} not finite')
    return episode


def _noisy(
    action: np.ndarray, noise: float, box: gym.Space, rng: np.random.Generator
) -> np.ndarray:
    """The action with noise, in the box."""
    assert isinstance(box, gym.spaces.Box)
    noisy = action + noise * rng.normal(size=action.shape)
    return np.clip(noisy, box.low, box.high).astype(np.float32)
