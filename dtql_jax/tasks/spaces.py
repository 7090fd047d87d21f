"""The gymnasium spaces that agents can use, and the order in which observations are flattened."""

from typing import Any

import gymnasium as gym
import numpy as np

from dtql_jax.types import UserError

BOUNDLESS = 1e10  # a larger bound, such as the largest float, means that there is none


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
    """The `max_action` of a simulator's action box `[-max_action, max_action]^A`.

    Args:
        space: the action space.
        owner: the task that the error names.

    Raises:
        UserError: the space is no such box. The text names the wrapper that makes one of it.
    """
    low, high = action_box(space, owner)
    if len(space.shape) != 1:
        wrong, cure = 'is no vector', f'TransformAction(env, lambda a: a.reshape({space.shape}), '
        cure += 'gymnasium.spaces.Box(low.ravel(), high.ravel()))'
    elif not np.isfinite([low, high]).all():
        box = f'gymnasium.spaces.Box(-m, m, {space.shape})'
        wrong, cure = 'has no bounds', f'TransformAction(env, lambda a: a, {box}), '
        cure += 'with m the largest |action| of the data'
    elif not (np.all(high == high[0]) and np.all(low == -high[0])):
        wrong = 'is not the same [-m, m] in each dimension'
        cure = 'RescaleAction(env, -1, 1), and rescale the data to [-1, 1] (a Minari set, which '
        cure += 'records its box, by `rescale_actions`=true)'
    else:
        return float(high[0])
    raise UserError(
        f'{owner}: the action box {space} {wrong}; register the environment within '
        f'gymnasium.wrappers.{cure}'
    )


def action_box(space: gym.Space, owner: str) -> tuple[np.ndarray, np.ndarray]:
    """The bounds of each number of an action, float64 `[A]` twice; infinite beyond `BOUNDLESS`.

    Raises:
        UserError: the space is no box of floats, or has no extent.
    """
    if not isinstance(space, gym.spaces.Box):
        raise UserError(
            f'{owner}: actions of type {type(space).__name__}; only a Box can be learnt'
        )
    if space.dtype is None or not np.issubdtype(space.dtype, np.floating):
        raise UserError(
            f'{owner}: actions of type {space.dtype}; only a Box of floats can be learnt'
        )
    low, high = (np.ravel(side).astype(np.float64) for side in (space.low, space.high))
    low[~(low > -BOUNDLESS)], high[~(high < BOUNDLESS)] = -np.inf, np.inf
    if not (low.size and np.all(low < high)):
        raise UserError(f'{owner}: the action box {space} has no extent, so nothing can be learnt')
    return low, high


def same_bound(one: float, other: float) -> bool:
    """Whether two bounds are equal but for rounding."""
    return bool(np.isclose(one, other, rtol=1e-6, atol=0))
