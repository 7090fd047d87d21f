"""Action boxes: that of the data, that of the simulator, and the map from one to the other.

Agents learn and act in the simulator's box `[-m, m]^A`. A Minari set records the box of its
actions. Files and arrays do not, and are taken to be in the simulator's box. Where the boxes
differ, nothing is trained, unless `Task.rescale_actions` says that the data's box is to be
stretched to the simulator's; that of files and arrays is then [-1, 1]. Loading does it once, so
that all that follows is in the simulator's units.
"""

import contextlib

import gymnasium as gym
import numpy as np

from dtql_jax.data.episodes import Episodes
from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.minari_sets import read_metadata
from dtql_jax.tasks.spaces import action_bound, action_box, same_bound
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError

UNIT = 1.0  # the bound of rescaled actions that record no box
FULL = 0.9  # the share of a box that actions fill if it is theirs


def flat_bound(task: Task, env: gym.Env) -> float:
    """The bound of actions that record no box."""
    bound = action_bound(env.action_space, task.name)
    return UNIT if task.rescale_actions else bound


def recorded_bound(space: gym.Space, name: str, task: Task) -> float:
    """The bound of the actions of a set that records its action `space`, once in `to_bound`.

    A box without bounds tells nothing, so that the simulator's holds.

    Raises:
        UserError: the box is not symmetric, and the task does not rescale actions.
    """
    low, high = action_box(space, name)
    if not np.isfinite([low, high]).all():
        try:
            return simulator_bound(task)
        except UserError as error:
            raise UserError(
                f'{name}: the action box {space} has no bounds, and those of the simulator are not '
                f'known ({error})'
            ) from error
    if np.all(high == high[0]) and np.all(low == -high[0]):
        return float(high[0])
    if task.rescale_actions:
        return UNIT
    raise UserError(
        f'{name}: the action box {space} is not the same [-m, m] in each dimension; name '
        'an environment within gymnasium.wrappers.RescaleAction(env, -1, 1), and let the data '
        'follow: register_task(Task(..., env_id=..., rescale_actions=True))'
    )


def to_bound(action: np.ndarray, space: gym.Space, bound: float) -> np.ndarray:
    """Actions `[N, ...]` of a recorded space as float32 `[N, A]` in `[-bound, bound]`."""
    low, high = action_box(space, 'the recorded actions')
    action = action.reshape(len(action), -1)
    if np.isfinite([low, high]).all() and not (np.all(low == -bound) and np.all(high == bound)):
        action = bound * (2 * (action - low) / (high - low) - 1)
    return action.astype(np.float32)


def clipped(episodes: Episodes, space: gym.Space) -> Episodes:
    """Episodes with actions clipped, in place, as the `ClipAction` did that recorded `space`.

    Other spaces without bounds say nothing of actions beyond the simulator's.
    """
    env_spec = read_metadata(episodes.name).get('env_spec')
    if np.isfinite(action_box(space, episodes.name)).all() or ':ClipAction"' not in str(env_spec):
        return episodes
    beyond = int((np.abs(episodes.action) > episodes.max_action).any(1).sum())
    if not beyond:
        return episodes
    np.clip(episodes.action, -episodes.max_action, episodes.max_action, out=episodes.action)
    note = f'{beyond:,} actions clipped to ±{episodes.max_action:g}, as they were when recorded'
    return episodes._replace(notes=(*episodes.notes, note))


def simulator_bound(task: Task) -> float:
    """The bound of the action box of the task's simulator."""
    with contextlib.closing(make_env(task)) as env:
        return action_bound(env.action_space, task.name)


def to_simulator(episodes: Episodes, task: Task) -> Episodes:
    """Episodes with actions stretched to the simulator's box, in place, if the task says so."""
    if not task.rescale_actions:
        return episodes
    bound, recorded = simulator_bound(task), episodes.max_action
    if same_bound(bound, recorded):
        return episodes
    np.multiply(episodes.action, bound / recorded, out=episodes.action, casting='same_kind')
    note = f"actions rescaled from ±{recorded:g} to the simulator's ±{bound:g} (rescale_actions)"
    return episodes._replace(max_action=bound, notes=(*episodes.notes, note))


def narrow(action: np.ndarray, bound: float) -> tuple[str, ...]:
    """A note where actions that record no box look like those of the box [-1, 1]."""
    largest = float(np.abs(action).max()) if bound > UNIT / FULL else 0.0
    if not FULL * UNIT < largest <= UNIT * (1 + 1e-6):
        return ()
    return (
        f"no action exceeds 1, the simulator's box is ±{bound:g}: were they recorded in ±1, set "
        '`rescale_actions`=true',
    )
