"""A behaviour for tests, in a fake environment; no jax, since worker processes import this."""

import dataclasses

import gymnasium as gym
import numpy as np

from dtql_jax.collect.base import Behaviour
from dtql_jax.tasks.task import Task
from tests.helpers import fake_env

HORIZON = 12


class Drift:
    """Random actions about a direction that is drawn at the start of the episode."""

    def begin(self, obs, rng):
        self.rng, self.way = rng, rng.uniform(-0.5, 0.5, 2)

    def act(self, obs):
        return (self.way + self.rng.uniform(-0.5, 0.5, 2)).astype(np.float32)


class Fixed:
    """The same action always."""

    def __init__(self, action):
        self.action = np.full(2, action, np.float32)

    def begin(self, obs, rng):
        pass

    def act(self, obs):
        return self.action


@dataclasses.dataclass(frozen=True)
class Drifting(Behaviour):
    """In episodes of 3 to 12 steps."""

    env: type[gym.Env] = fake_env.Walk
    action: float | None = None

    algorithm = description = 'drift'

    def settings(self):
        return {}

    def env_spec(self):
        raise NotImplementedError

    def open(self):
        return self.env(), Drift() if self.action is None else Fixed(self.action)


DRIFTING = Drifting(Task('walk', ('none',)), 0.3)
