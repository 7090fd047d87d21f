"""Which gymnasium spaces can be learnt on, and the order in which observations are flattened."""

from typing import Any

import gymnasium as gym
import numpy as np

from dtql_jax.types import UserError


def pick(obs: Any, path: tuple[str, ...]) -> np.ndarray:
    """Array at `path` of a nested observation."""
    for key in path:
        obs = obs[key]
    return obs


def leaf_paths(space: gym.Space, keys: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Path of each array of an observation in flattening order; `[()]` for a Box.

    Raises UserError for a missing key and for a space that is no array of numbers.
    """
    if isinstance(space, gym.spaces.Box) and not keys:
        return [()]
    if not isinstance(space, gym.spaces.Dict):
        raise UserError(
            f'observations of type {type(space).__name__} cannot be used: there must be a '
            'Box without, or a Dict with Task.obs_keys that name boxes'
        )
    missing = [key for key in keys if key not in space.spaces]
    if missing:
        raise UserError(
            f'the observations lack the key {missing[0]!r} (there are '
            f'{", ".join(sorted(space.spaces))}): mend Task.obs_keys or the dataset'
        )
    return [
        (key, *rest)
        for key in keys or sorted(space.spaces)
        for rest in leaf_paths(space.spaces[key])
    ]


def flatten(obs: Any, paths: list[tuple[str, ...]]) -> np.ndarray:
    """The arrays at `paths` of an observation as one vector, float32 `[O]`."""
    return np.concatenate([np.ravel(pick(obs, path)) for path in paths], dtype=np.float32)


def action_bound(space: gym.Space, owner: str) -> float:
    """`max_action` of the box `[-max_action, max_action]^A`; UserError for any other space."""
    if not isinstance(space, gym.spaces.Box):
        raise UserError(
            f'{owner}: actions of type {type(space).__name__}; only a Box can be learnt'
        )
    bound = float(space.high.flat[0])
    if not (np.isfinite(bound) and np.all(space.high == bound) and np.all(space.low == -bound)):
        raise UserError(
            f'{owner}: the action box {space} is not the same [-m, m] in each dimension; wrap the '
            'environment in gymnasium.wrappers.RescaleAction(env, -1, 1) and rescale the data'
        )
    return bound
