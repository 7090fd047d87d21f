"""Transforms of rewards, by name (r: reward, R: undiscounted return of its episode).

| name | formula | used by |
|---|---|---|
| `none`, `no` | r | DTQL, everywhere but antmaze |
| `normalize` | (r - mean) / std, unbiased std | Diffusion-QL on pen |
| `iql_antmaze` | r - 1 | DTQL, IQL, IDQL, SRPO on antmaze |
| `cql_antmaze` | 4 (r - 0.5) | Diffusion-QL on antmaze |
| `antmaze` | 2 (r - 0.25) | nowhere by default |
| `iql_locomotion` | 1000 r / (max R - min R) | IQL, IDQL and SRPO on locomotion |
| `scale(c)` | c r | |
| `shift(c)` | r + c | |
| `clip(low,high)` | min(max(r, low), high) | |

Several names with blanks between them are applied from left to right: `shift(-1) scale(10)`. Each
of them sees the rewards, and the returns, that the one before it left.
"""

import difflib
import functools
import math
import re
from collections.abc import Callable

import numpy as np

from dtql_jax.types import UserError

Map = Callable[[np.ndarray], np.ndarray]  # of rewards, float64
# Makes a map of the data's rewards [N] and of the undiscounted returns of their episodes [E], both
# float64. The map is then applied to the same rewards, and to those of new transitions.
Transform = Callable[[np.ndarray, np.ndarray], Map]

CALL = re.compile(r'([a-z_]+)(?:\(([^()]*)\))?')


def _normalize(reward: np.ndarray, returns: np.ndarray) -> Map:
    """`(r - mean) / std`."""
    deviation = reward.std(ddof=1) if reward.size > 1 else 0.0
    if not deviation:
        raise UserError("reward 'normalize': all rewards are equal; use another transform")
    mean = reward.mean()
    return lambda reward: (reward - mean) / deviation


def _iql_locomotion(reward: np.ndarray, returns: np.ndarray) -> Map:
    """`1000 r / (max R - min R)`."""
    span = returns.max() - returns.min()
    if not span:
        raise UserError("reward 'iql_locomotion': all returns are equal; use another transform")
    factor = 1000 / span
    return lambda reward: reward * factor


def _fixed(function: Map) -> Transform:
    """A transform that is the same for all data."""
    return lambda reward, returns: function


REWARDS: dict[str, Transform] = {
    'none': _fixed(lambda reward: reward),
    'no': _fixed(lambda reward: reward),
    'normalize': _normalize,
    'iql_antmaze': _fixed(lambda reward: reward - 1),
    'cql_antmaze': _fixed(lambda reward: 4 * (reward - 0.5)),
    'antmaze': _fixed(lambda reward: 2 * (reward - 0.25)),
    'iql_locomotion': _iql_locomotion,
}
# name -> the names of its parameters, and the transform that it makes of their values
MADE: dict[str, tuple[tuple[str, ...], Callable[..., Transform]]] = {
    'scale': (('c',), lambda c: _fixed(lambda reward: c * reward)),
    'shift': (('c',), lambda c: _fixed(lambda reward: reward + c)),
    'clip': (
        ('low', 'high'),
        lambda low, high: _fixed(lambda reward: np.clip(reward, low, high)),
    ),
}
USES = (*REWARDS, *(f'{name}({",".join(names)})' for name, (names, _) in MADE.items()))


def parse_reward(text: str) -> list[Transform]:
    """The transforms that `text` names, in their order.

    Raises:
        UserError: a name is unknown, or its parameters are wrong.
    """
    # A blank within parentheses separates nothing.
    return [_parse_one(part) for part in re.split(r'\s+(?![^()]*\))', text.strip())]


def _parse_one(text: str) -> Transform:
    """The transform of one name with its parameters."""
    match = CALL.fullmatch(text)
    name, values = (match[1], match[2]) if match else (text, None)
    if name in REWARDS and values is None:
        return REWARDS[name]
    if name not in MADE:
        near = difflib.get_close_matches(name, USES, n=1, cutoff=0.5) or ['none']
        raise UserError(
            f'unknown reward transform {text!r}, nearest: {near[0]} (of {", ".join(USES)})'
        )
    names, make = MADE[name]
    try:
        numbers = [float(value) for value in values.split(',')] if values is not None else []
    except ValueError:
        numbers = []
    if len(numbers) != len(names) or not all(map(math.isfinite, numbers)):
        raise UserError(
            f'reward transform {text!r}: write {name}({",".join(names)}) with a finite number for '
            f'{" and ".join(names)}'
        )
    if name == 'clip' and numbers[0] >= numbers[1]:
        raise UserError(f'reward transform {text!r}: the first number must be below the second')
    return make(*numbers)


def transform_rewards(
    transforms: list[Transform], reward: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, Map]:
    """The rewards `[N]` after all `transforms`, and the map that new rewards go through.

    `starts` `[E]` are the first rows of episodes.
    """
    maps = []
    for transform in transforms:
        maps.append(transform(reward, np.add.reduceat(reward, starts)))
        reward = maps[-1](reward)
    return reward, lambda new: functools.reduce(lambda value, one: one(value), maps, new)
