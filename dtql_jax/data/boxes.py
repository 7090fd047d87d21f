"""Action boxes: that of the data, that of the simulator, and the map from one to the other.

Agents learn and act in the simulator's box `[-m, m]^A`. A Minari set records the box of its
actions. Files and arrays do not, and are taken to be in the simulator's box. Where the boxes
differ, nothing is trained, unless `Task.rescale_actions` says that the data's box is to be
stretched to the simulator's; that of files and arrays is then [-1, 1]. Loading does it once, so
that all that follows is in the simulator's units.

Actions outside of their box are refused, unless `Task.actions` says otherwise: 'clip' moves them to
its edge, and 'rescale' makes a box of the range of each number in the data.

Without an environment the box is `Task.action_box` or, without one, the range of each number in the
data. Agents learn in [-1, 1]; `Spec` keeps the box, and policies answer in the units of the data.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from dtql_jax.data import validate
from dtql_jax.data.episodes import Episodes
from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.minari_sets import read_metadata
from dtql_jax.tasks.spaces import action_bound, action_box, same_bound
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError

UNIT = 1.0  # the bound of rescaled actions that record no box
FULL = 0.9  # the share of a box that actions fill if it is theirs
UNKNOWN = np.inf  # the bound of actions without a recorded box and without an environment


@contextlib.contextmanager
def simulator(task: Task) -> Iterator[tuple[gym.Env | None, float, int | None]]:
    """The task's environment, the bound of actions that record no box, and the limit of episodes.

    A task without an environment has None, `UNKNOWN` and its horizon.
    """
    if not task.has_env:
        yield None, UNKNOWN, task.horizon
        return
    with contextlib.closing(make_env(task)) as env:
        bound = action_bound(env.action_space, task.name)
        limit = env.spec.max_episode_steps if env.spec else None
        yield env, UNIT if task.rescale_actions else bound, limit


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
    bound = np.full(episodes.action.shape[1], episodes.max_action)
    return _clip(episodes, -bound, bound, 'as they were when recorded')


def simulator_bound(task: Task) -> float:
    """The bound of the action box of the task's simulator."""
    with contextlib.closing(make_env(task)) as env:
        return action_bound(env.action_space, task.name)


def inside(episodes: Episodes, task: Task) -> Episodes:
    """Episodes with all actions inside of their box, unless it is not known yet.

    Raises:
        UserError: an action is outside, and the task refuses that.
    """
    if task.actions == 'rescale' or episodes.max_action == UNKNOWN:
        return episodes
    bound = np.full(episodes.action.shape[1], episodes.max_action)
    return _inside(episodes, -bound, bound, task)


def to_simulator(episodes: Episodes, task: Task) -> Episodes:
    """Episodes with actions stretched to the simulator's box, in place, if the task says so."""
    if not task.rescale_actions or not task.has_env:
        return episodes
    bound, recorded = simulator_bound(task), episodes.max_action
    if same_bound(bound, recorded):
        return episodes
    np.multiply(episodes.action, bound / recorded, out=episodes.action, casting='same_kind')
    note = f"actions rescaled from ±{recorded:g} to the simulator's ±{bound:g} (rescale_actions)"
    return episodes._replace(max_action=bound, notes=(*episodes.notes, note))


def to_own_box(episodes: Episodes, task: Task) -> tuple[Episodes, dict[str, Any]]:
    """Episodes with actions stretched, in place, from a box of the data's own to the agent's.

    Returns:
        The episodes, and the fields of `Spec` that lead back to the units of the data. With an
        environment there are none, since its units count.
    """
    _check_of_effect(task, episodes.max_action != UNKNOWN)
    if task.actions != 'rescale' and episodes.max_action != UNKNOWN:
        return episodes, {}
    action = episodes.action
    low, high = (side(action, axis=0).astype(np.float64) for side in (np.min, np.max))
    if task.actions != 'rescale' and task.action_box is not None:
        low, high = _given(task, action.shape[1])
        episodes = _inside(episodes, low, high, task)
    flat = high <= low  # never changes: it becomes the middle of a box of some size
    low, high = np.where(flat, low - 1, low), np.where(flat, high + 1, high)
    bound = 1.0 if episodes.max_action == UNKNOWN else episodes.max_action
    for i, column in enumerate(action.T):  # all at once is large in float64
        scaled = bound * (2 * (column.astype(np.float64) - low[i]) / (high[i] - low[i]) - 1)
        action[:, i] = np.clip(scaled, -bound, bound)
    box = f'{_shown(low)} to {_shown(high)}'
    if episodes.max_action == UNKNOWN:
        note = f'the action box is {box}; the agent learns in ±{bound:g}'
        back = {'action_low': tuple(low.tolist()), 'action_high': tuple(high.tolist())}
    else:
        note = f"actions rescaled from their range {box} to the simulator's ±{bound:g}"
        back = {}
    return episodes._replace(max_action=bound, notes=(*episodes.notes, note)), back


def _check_of_effect(task: Task, has_box: bool) -> None:
    """Raises UserError where a setting of the task's actions would do nothing."""
    if has_box and task.action_box is not None:
        raise UserError(
            f'{task.name}: action_box={task.action_box}: the environment has the box: leave it out'
        )
    if not has_box and task.rescale_actions:
        raise UserError(
            f"{task.name}: rescale_actions=True stretches actions to the simulator's box, and "
            'there is no simulator: leave it out'
        )
    if not has_box and task.actions == 'clip' and task.action_box is None:
        raise UserError(
            f"{task.name}: actions='clip' needs a box to clip to, and there is no environment that "
            'has one: give `action_box`, or leave it out'
        )


def narrow(action: np.ndarray, bound: float) -> tuple[str, ...]:
    """A note where actions that record no box look like those of the box [-1, 1]."""
    largest = float(np.abs(action).max()) if UNIT / FULL < bound < UNKNOWN else 0.0
    if not FULL * UNIT < largest <= UNIT * (1 + 1e-6):
        return ()
    return (
        f"no action exceeds 1, the simulator's box is ±{bound:g}: were they recorded in ±1, set "
        '`rescale_actions`=true',
    )


def _inside(episodes: Episodes, low: np.ndarray, high: np.ndarray, task: Task) -> Episodes:
    """Episodes with all actions in a box `[A]` to `[A]`: clipped, in place, or as they were."""
    if task.actions == 'clip':
        return _clip(episodes, low, high, "actions='clip'")
    validate.check_actions(episodes, low, high)
    return episodes


def _clip(episodes: Episodes, low: np.ndarray, high: np.ndarray, reason: str) -> Episodes:
    """Episodes with actions clipped, in place, and a note that counts them."""
    low, high = low.astype(np.float32), high.astype(np.float32)
    beyond = int(((episodes.action > high) | (episodes.action < low)).any(1).sum())
    if not beyond:
        return episodes
    np.clip(episodes.action, low, high, out=episodes.action)
    box = f'±{high[0]:g}'
    if not (np.all(high == high[0]) and np.all(low == -high[0])):
        box = f'{_shown(low)} to {_shown(high)}'
    note = f'{beyond:,} actions clipped to {box}, {reason}'
    return episodes._replace(notes=(*episodes.notes, note))


def _given(task: Task, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The box that the task gives, `[A]` twice.

    Raises:
        UserError: it does not fit the actions, or has no extent.
    """
    cure = 'give (low, high), each a number or one for each number of an action'
    try:
        low, high = (np.broadcast_to(np.float64(side), size) for side in task.action_box or ())
    except (ValueError, TypeError):
        low, high = np.ones(1), np.zeros(1)
    if not (np.isfinite([*low, *high]).all() and np.all(low < high)):
        raise UserError(
            f'{task.name}: action_box={task.action_box} is no box of {size} numbers; {cure}'
        )
    return low, high


def _shown(side: np.ndarray) -> str:
    """One side of a box in a note."""
    texts = [f'{value:.4g}' for value in side]
    return texts[0] if len(set(texts)) == 1 else f'[{" ".join(texts)}]'
