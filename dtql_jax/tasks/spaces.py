"""The gymnasium spaces that agents can use, and the order in which observations are flattened."""

from typing import Any

import gymnasium as gym
import numpy as np

from dtql_jax.types import UserError


def pick(obs: Any, path: tuple[str, ...]) -> np.ndarray:
    """The array at `path` of a nested observation."""
    for key in path:
        obs = obs[key]
    return obs


def leaf_paths(space: gym.Space, keys: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of the arrays of an observation, in flattening order; `[()]` for a Box.

    Args:
        space: the observation space.
        keys: the keys of a Dict that are used, in order; all of them, sorted, if empty.

    Raises:
        UserError: the space lacks a key, or holds something other than a Box.
    """
    if isinstance(space, gym.spaces.Box) and not keys:
        return [()]
    if not isinstance(space, gym.spaces.Dict):
        raise UserError(
            f'observations of type {type(space).__name__} cannot be used: they must be a Box, or a '
            'Dict whose keys in Task.obs_keys are boxes'
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
    """The arrays at `paths` of an observation as one float32 vector `[O]`."""
    return np.concatenate([np.ravel(pick(obs, path)) for path in paths], dtype=np.float32)


def action_bound(space: gym.Space, owner: str) -> float:
    """The `max_action` of the action box `[-max_action, max_action]^A`.

    Args:
        space: the action space.
        owner: the task or dataset that the error names.

    Raises:
        UserError: the space is no such box.
    """
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
