"""What a behaviour is, and the one loop that plays and records an episode."""

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
from dtql_jax.tasks.task import Task

# Apart from the seeds of evaluations, so that no episode starts as one of theirs.
COLLECT_TAG = 0x636F6C6C

# An episode: observations `[T+1, ...]` under 'observations' or 'observations/KEY', and of T rows
# 'actions', 'rewards', 'terminations', 'truncations'; 'success' is one bool.
Episode = dict[str, np.ndarray]


class Policy(Protocol):
    """What acts in one process."""

    def begin(self, obs: Any, rng: np.random.Generator) -> None:
        """An episode starts at `obs`; all its randomness comes from `rng`."""

    def act(self, obs: Any) -> np.ndarray:
        """The next action, float32 `[A]`, in the box."""


@dataclasses.dataclass(frozen=True)
class Behaviour(abc.ABC):
    """Who collects where: plain data, which worker processes receive and `open`.

    `noise` is the deviation of Gaussian noise that is added to actions, in their unit.
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
        """What decides the episodes beside task and noise, JSON-able."""

    @abc.abstractmethod
    def env_spec(self) -> EnvSpec:
        """Of the environment that is recorded."""

    @abc.abstractmethod
    def open(self) -> tuple[gym.Env, Policy]:
        """The environment, whose observations are recorded as they are, and the policy in it."""


def evaluation_spec(task: Task) -> EnvSpec:
    """Of the task's evaluation environment, its horizon filled in."""
    with contextlib.closing(make_env(task)) as env:
        spec = copy.deepcopy(env.unwrapped.spec)
        spec.max_episode_steps = env.spec.max_episode_steps
    return spec


def without_marks(maze_map: list[list[int | str]]) -> list[list[int]]:
    """The map without start and goal: any free cell may be an episode's start or goal."""
    return [[int(cell == 1) for cell in row] for row in maze_map]


def record(
    env: gym.Env, policy: Policy, horizon: int, noise: float, seed: int, number: int
) -> Episode:
    """Plays episode `number` of the collection `seed`, of at most `horizon` steps.

    A function of the two numbers alone. Raises RuntimeError where something is not finite.
    """
    start, draws = np.random.SeedSequence([COLLECT_TAG, seed, number]).spawn(2)
    rng = np.random.default_rng(draws)
    box = env.action_space
    obs, info = env.reset(seed=int(start.generate_state(1)[0]))
    policy.begin(obs, rng)
    seen, actions, rewards = [obs], [], []
    success, terminated, truncated = bool(info.get('success')), False, False
    while not (terminated or truncated):
        action = policy.act(obs)
        if noise:
            noisy = action + noise * rng.normal(size=action.shape)
            action = np.clip(noisy, box.low, box.high).astype(np.float32)
        obs, reward, terminated, truncated, info = env.step(action)
        seen.append(obs)
        actions.append(action)
        rewards.append(float(reward))
        success |= bool(info.get('success'))
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
        'success': np.array(success),
    }
    for name, values in episode.items():
        if not np.isfinite(values).all():
            raise RuntimeError(f'episode {number} of seed {seed}: {name} not finite')
    return episode
