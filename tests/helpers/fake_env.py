"""Deterministic environments for tests. Worker processes import this module: no jax."""

import multiprocessing
import os
import sys
import threading
import time
from typing import Any, ClassVar

import gymnasium
import numpy as np


class Walk(gymnasium.Env):
    """A noisy walk of 3 to 12 steps; its start, length and noise come from the seed.

    The position `[2]` moves by the action plus noise. The reward is its first coordinate, so a
    return depends on every action and on the seed. A step after the end is an error.
    """

    metadata: ClassVar[dict[str, Any]] = {'render_modes': ['rgb_array'], 'render_fps': 20}
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    render_mode = 'rgb_array'

    def __init__(self):
        self.left = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(3, 13))
        self.position = self.np_random.normal(size=2)
        return self.position.copy(), {}

    def step(self, action):
        assert self.left > 0, 'stepped after its end'
        self.left -= 1
        self.position += action + 0.1 * self.np_random.normal(size=2)
        ended = self.left == 0
        info = {'success': self.position[1] > 0}
        return self.position.copy(), self.position[0], ended and self.position[0] > 0, ended, info

    def render(self):
        return np.full([8, 8, 3], 20 * self.left, np.uint8)


class Slow(Walk):
    """Takes 2 ms for a step."""

    def step(self, action):
        time.sleep(2e-3)
        return super().step(action)


class Broken(Walk):
    """Raises for an action whose first number is above 1, and kills its process above 2."""

    def step(self, action):
        if action[0] > 2:
            os._exit(3)
        if action[0] > 1:
            raise ValueError('the joint broke')
        return super().step(action)


class Hanging(Walk):
    """Never answers an action whose first number is above 1."""

    def step(self, action):
        if action[0] > 1:
            threading.Event().wait()
        return super().step(action)


class OldStyle(Walk):
    """Its reset returns the observation alone, as gym's did."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class BadStart(Walk):
    """Its first observation is not a number."""

    def reset(self, *, seed=None, options=None):
        obs, info = super().reset(seed=seed)
        return obs * np.nan, info


def walk_outside_workers():
    """Makes a walk in the process of the tests, and in no worker of it."""
    if multiprocessing.parent_process() is not None:
        raise LookupError('only the script has registered it')
    return Walk()


class Unbuildable(Walk):
    """Cannot be made."""

    def __init__(self):
        raise OSError('no such model file')


class BadReward(Walk):
    """Returns a reward that is not a number."""

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, np.nan, *rest


class NoReward(Walk):
    """Returns no reward."""

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, None, *rest


class BadObs(Walk):
    """Its observation is not a number after the first step."""

    def step(self, action):
        obs, *rest = super().step(action)
        return obs * np.nan, *rest


class HugeObs(BadObs):
    """Its observation is a number in float64, and none in float32."""

    def step(self, action):
        _, *rest = super().step(action)
        return np.array([0.0, 1e39]), *rest


class OtherShape(Walk):
    """Its observation grows."""

    def step(self, action):
        obs, *rest = super().step(action)
        return np.append(obs, 0.0), *rest


class Leaving(Walk):
    """Ends the program."""

    def step(self, action):
        sys.exit(7)


class Unstartable(Walk):
    """Never starts; closing it is an error too."""

    def reset(self, *, seed=None, options=None):
        raise ValueError('no start')

    def close(self):
        raise ValueError('no end')


class Vague(Walk):
    """Tells an end for each of its numbers."""

    def step(self, action):
        obs, reward, _, truncated, info = super().step(action)
        return obs, reward, np.array([False, True]), truncated, info


class IsSuccess(Walk):
    """Reports success by the name that robots of gymnasium have for it."""

    def step(self, action):
        *rest, info = super().step(action)
        return *rest, {'is_success': np.float32(info['success'])}


class ArraySuccess(Walk):
    """Reports success in an array, beside another name without a value."""

    def step(self, action):
        *rest, info = super().step(action)
        return *rest, {'success': np.array([info['success']]), 'is_success': None}


class SaysNothing(Walk):
    """Reports no success."""

    def step(self, action):
        *rest, _ = super().step(action)
        return *rest, {}


class NoInfo(Walk):
    """Reports nothing at all."""

    def step(self, action):
        *rest, _ = super().step(action)
        return *rest, None
