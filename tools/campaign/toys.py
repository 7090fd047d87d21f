"""Simulators, data and tasks of the campaign. Worker processes import this module: no jax."""

import os
import pathlib
import time
from typing import Any

import gymnasium as gym
import h5py
import numpy as np

STEPS = 10  # of an episode


class Walk(gym.Env):
    """A noisy walk in the plane; its start and noise come from the seed, its reward from both."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.steps = 0
        self.position = self.np_random.normal(size=2)
        return self.position.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        self.steps += 1
        time.sleep(0.001)  # so that an evaluation can be met
        self.position += action + 0.1 * self.np_random.normal(size=2)
        reward = -float(np.abs(self.position).sum())
        return self.position.astype(np.float32), reward, False, False, {}


class Faulty(Walk):
    """A walk that fails in the way that the variable `CAMPAIGN_FAULT` names.

    The fault comes in the third step of each episode of an evaluation that then is on the right.
    Episodes that are played to learn the speed of the simulator have the seed 0 or none.
    """

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        self.evaluation = bool(seed)
        return super().reset(seed=seed, options=options)

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        obs, reward, *rest = super().step(action)
        if self.steps == 3 and self.evaluation and self.position[0] > 0:
            return self.fail(os.environ.get('CAMPAIGN_FAULT', ''), obs, reward, rest)
        return obs, reward, *rest

    def fail(self, how: str, obs: Any, reward: float, rest: list) -> tuple:
        """Does what `how` says, and leaves a file where `CAMPAIGN_MARK` says."""
        if mark := os.environ.get('CAMPAIGN_MARK'):
            pathlib.Path(mark).touch()
        if how == 'raise':
            raise ValueError('the joint broke')
        if how == 'hang':
            time.sleep(3600)
        if how == 'exit':
            os._exit(3)
        if how == 'nan-obs':
            obs = np.full_like(obs, np.nan)
        if how == 'nan-reward':
            reward = np.nan
        return obs, reward, *rest


class Slow(Faulty):
    """Takes 10 ms for a step, so that it is played in worker processes."""

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        time.sleep(0.01)
        return super().step(action)


class Wide(Walk):
    """A walk whose actions are twice as large."""

    action_space = gym.spaces.Box(-2, 2, (2,), np.float32)


class Succeeds(Walk):
    """A walk whose steps report `is_success`, as Fetch robots do."""

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        *rest, _ = super().step(action)
        return *rest, {'is_success': 1.0}  # type: ignore[return-value]


def arrays(rows: int = 200, bound: float = 1.0) -> dict[str, np.ndarray]:
    """Random rows under D4RL's names, in episodes of `STEPS` steps."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(rows + 1, 2)).astype(np.float32)
    return {
        'observations': obs[:-1],
        'next_observations': obs[1:],
        'actions': rng.uniform(-bound, bound, (rows, 2)).astype(np.float32),
        'rewards': rng.normal(size=rows),
        'terminals': np.zeros(rows, bool),
        'timeouts': np.arange(1, rows + 1) % STEPS == 0,
    }


def write_hdf5(path: pathlib.Path, fields: dict[str, np.ndarray]) -> None:
    """Writes a D4RL file."""
    with h5py.File(path, 'w') as file:
        file.update(fields)


def register(data: pathlib.Path) -> None:
    """Registers the tasks `walk`, `faulty` and so on, on the file, and their simulators."""
    from dtql_jax.tasks.registry import TASKS, register_task
    from dtql_jax.tasks.task import Task

    for kind in (Walk, Faulty, Slow, Wide, Succeeds):
        name = kind.__name__.lower()
        env_id = f'campaign/{kind.__name__}-v0'
        if env_id not in gym.registry:
            gym.register(env_id, f'tools.campaign.toys:{kind.__name__}', max_episode_steps=STEPS)
        TASKS.pop(name, None)
        register_task(
            Task(
                name, (str(data),), env_id=env_id, source='d4rl', horizon=STEPS,
                score_range=None if kind is Succeeds else (-100.0, 0.0),
                scored='success' if kind is Succeeds else 'return',
            )
        )  # fmt: skip
