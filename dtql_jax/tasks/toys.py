"""Toy tasks: one state, an action in the plane, one step an episode (bandits).

Their data are made in memory, by a seeded generator of NumPy. 25 Gaussians, the swiss roll and the
four rewards are those of DTQL's released code (arXiv 2405.19690); the other three sets and their
sizes are ours. The swiss roll follows the formula of scikit-learn's `make_swiss_roll`, which the
released code calls, with other random numbers.

| reward | of an action a |
|---|---|
| `far` | its norm |
| `near` | the largest norm in the data, less its norm |
| `hard` | its norm, doubled where a_0 < -7.5 and a_1 > 7.5 |
| `same` | 0 |

An episode ends with its step, so that the value of an action is its reward. The released code has
no end there: with its discount of 0.99 all values grow by the same amount.

Worker processes import this module, so it imports no jax.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from dtql_jax.tasks.task import MADE, Task
from dtql_jax.types import UserError

SIZE = 10_000  # actions of a set
SEED = 0  # of all sets
REACH = 3.0  # an action belongs to the data within so many deviations of its noise
CORNER = 7.5  # beyond it, in one corner, `hard` doubles the reward
POINTS = 2_000  # of a curve
CELL = 5.0  # width of a cell of the checkerboard

Rewards = Callable[[np.ndarray, float], np.ndarray]

# name -> function of the actions [N, 2] and of the largest norm in the data
REWARDS: dict[str, Rewards] = {
    'far': lambda action, most: np.linalg.norm(action, axis=-1),
    'near': lambda action, most: most - np.linalg.norm(action, axis=-1),
    'hard': lambda action, most: np.linalg.norm(action, axis=-1) * np.where(_corner(action), 2, 1),
    'same': lambda action, most: np.zeros(len(action)),
}


@dataclasses.dataclass(frozen=True)
class ToySet:
    """The distribution of a set of actions: places, with noise around them.

    Attributes:
        places: the actions without noise, which are equally likely `[P, 2]`.
        mode: the mode of each place `[P]`: a Gaussian, or a part of a curve, or a cell.
        noise: the deviation of the Gaussian noise around a place.
        width: a place is the middle of a square of this width, in which actions are uniform.
    """

    places: np.ndarray
    mode: np.ndarray
    noise: float = 0.0
    width: float = 0.0

    def draw(self, rng: np.random.Generator, size: int = SIZE) -> np.ndarray:
        """Draws actions `[size, 2]`; equally many of each place, up to rounding."""
        place = self.places[np.arange(size) * len(self.places) // size]
        if self.width:
            return place + self.width * rng.uniform(-0.5, 0.5, place.shape)
        return place + self.noise * rng.normal(size=place.shape)

    def nearest(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The mode of the nearest place of each action, and whether it belongs there: `[N], [N]`.

        It belongs to a place within `REACH` deviations of the noise, or in its square.
        """
        # |a - p|^2 without |a|^2, which decides nothing.
        index = ((self.places**2).sum(-1) - 2 * action @ self.places.T).argmin(1)
        apart = action - self.places[index]
        if self.width:
            within = np.abs(apart).max(-1) <= self.width / 2
        else:
            within = np.linalg.norm(apart, axis=-1) <= REACH * self.noise
        return self.mode[index], within


def _corner(action: np.ndarray) -> np.ndarray:
    return (action[..., 0] < -CORNER) & (action[..., 1] > CORNER)


def _gaussians(places: np.ndarray) -> ToySet:
    return ToySet(places, np.arange(len(places)), noise=0.3)


def _grid(values: Any) -> np.ndarray:
    """All pairs of values `[len(values)^2, 2]`."""
    return np.stack(np.meshgrid(values, values, indexing='ij'), -1).reshape(-1, 2)


def _ring() -> ToySet:
    """Eight Gaussians on a circle; one lies in the corner where `hard` doubles the reward."""
    angle = np.arange(8) * np.pi / 4
    return _gaussians(12 * np.stack([np.cos(angle), np.sin(angle)], -1))


def _swiss_roll() -> ToySet:
    """One curve, in ten parts of equally many actions."""
    u = (np.arange(POINTS) + 0.5) / POINTS
    t = 1.5 * np.pi * (1 + 2 * u)
    places = t[:, None] * np.stack([np.cos(t), np.sin(t)], -1)
    return ToySet(places, (u * 10).astype(int), noise=0.1)


def _checkerboard() -> ToySet:
    """Eight of sixteen cells, among them that in the corner where `hard` doubles the reward."""
    cells = _grid(np.arange(4))
    places = CELL * (cells[cells.sum(-1) % 2 == 1] - 1.5)
    return ToySet(places, np.arange(len(places)), width=CELL)


def _two_moons() -> ToySet:
    """Two half circles, each in four parts."""
    u = (np.arange(POINTS // 2) + 0.5) / (POINTS // 2)
    x, y = np.cos(np.pi * u), np.sin(np.pi * u)
    moons = np.concatenate([np.stack([x - 0.5, y - 0.25], -1), np.stack([0.5 - x, 0.25 - y], -1)])
    part = (u * 4).astype(int)
    return ToySet(8 * moons, np.concatenate([part, part + 4]), noise=0.4)


SETS: dict[str, Callable[[], ToySet]] = {
    '25gaussians': lambda: _gaussians(_grid(np.arange(-10.0, 11.0, 5.0))),
    'swissroll': _swiss_roll,
    '8gaussians': _ring,
    'checkerboard': _checkerboard,
    'twomoons': _two_moons,
}


# The largest mean reward of the data in a mode, see `best_reward`, by set and reward.
BEST = {
    '25gaussians': {'far': 14.165, 'near': 14.762, 'hard': 28.310},
    'swissroll': {'far': 13.665, 'near': 9.154, 'hard': 13.665},
    '8gaussians': {'far': 12.013, 'near': 1.072, 'hard': 23.958},
    'checkerboard': {'far': 10.732, 'near': 10.300, 'hard': 13.909},
    'twomoons': {'far': 11.375, 'near': 9.356, 'hard': 11.375},
}


@functools.cache
def actions(name: str) -> np.ndarray:
    """The actions of the set `name`, float32 `[SIZE, 2]`, read-only. They are always the same."""
    drawn = SETS[name]().draw(np.random.default_rng(SEED)).astype(np.float32)
    drawn.flags.writeable = False
    return drawn


def rewards(name: str, reward: str, action: np.ndarray) -> np.ndarray:
    """The rewards `[N]` of actions `[N, 2]` in the set `name`, float64."""
    most = np.linalg.norm(actions(name).astype(np.float64), axis=-1).max()
    return REWARDS[reward](np.asarray(action, np.float64), float(most))


def best_reward(name: str, reward: str) -> float:
    """The largest mean reward of the data in a mode of the set; `BEST` holds it."""
    action = actions(name)
    mode, _ = SETS[name]().nearest(action)
    sums = np.bincount(mode, rewards(name, reward, action))
    return float((sums / np.bincount(mode)).max())


class Toy(gym.Env):
    """A bandit: the observation is one zero, the reward that of the action.

    Args:
        name: a key of `SETS`.
        reward: a key of `REWARDS`.

    Raises:
        UserError: there is no such set or reward.
    """

    def __init__(self, name: str, reward: str):
        for value, known in ((name, SETS), (reward, REWARDS)):
            if value not in known:
                raise UserError(f'toy task: there is no {value!r}, but {", ".join(known)}')
        self._name, self._reward = name, reward
        bound = np.abs(actions(name)).max()
        self.observation_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)
        self.action_space = gym.spaces.Box(-bound, bound, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        reward = rewards(self._name, self._reward, np.asarray(action)[None])[0]
        return np.zeros(1, np.float32), float(reward), True, False, {}


gym.register('Toy-v0', f'{__name__}:Toy', max_episode_steps=1)


def toys() -> Iterator[Task]:
    """A task for each set and reward."""
    for name in SETS:
        for reward in REWARDS:
            best = BEST[name].get(reward)
            yield Task(
                f'toy-{name}-{reward}',
                (name,),
                'toy',
                f'{__name__}:Toy-v0',
                {'name': name, 'reward': reward},
                score_range=None if best is None else (0.0, best),
                horizon=1,
                eval_episodes=100,
                source=MADE,
            )
