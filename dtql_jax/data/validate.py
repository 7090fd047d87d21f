"""Checks of data. Each message names dataset, episode, row, field and cure."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from dtql_jax.data.episodes import Episodes
from dtql_jax.tasks.spaces import pick
from dtql_jax.types import UserError

TOLERANCE = 1e-6  # float rounding of actions at the edge of the box, whose share it is above 1
# Flat fields of shape [rows, size]; all others are [rows].
TABLES = ('observations', 'next_observations', 'actions', 'qpos', 'button_states')
EPISODE_FLAGS = ('terminations', 'truncations')  # fields of an episode that hold 0 or 1
FLAGS = ('terminals', 'timeouts', 'masks', 'valids')  # flat fields that hold 0 or 1


class Field(NamedTuple):
    """Where an array lies in a Minari episode, and the shape of one row."""

    part: str  # attribute of the episode
    path: tuple[str, ...]
    shape: tuple[int, ...]


class Cures(NamedTuple):
    """What the messages of `check_flat` advise, by mistake. The defaults are for files."""

    numbers: str = 'write it again as numbers'
    shape: str = 'write it again, one row a step'
    empty: str = 'record the file again'
    rows: str = 'the file is incomplete, fetch or write it again'
    sizes: str = 'write both with the same size'
    flags: str = 'write the flags again'


FILE = Cures()


def check_episode(where: str, data: Any, fields: dict[str, Field]) -> dict[str, np.ndarray]:
    """Arrays of one Minari episode by field name: T+1 rows of observations, T of all else.

    Args:
        where: names the dataset and the episode in messages.
        data: the episode, with the attributes of Minari's.
        fields: what to take, by name.

    Raises:
        UserError: a field is missing or of a wrong shape or holds no numbers, or the episode is
            empty.
    """
    steps = np.size(data.rewards)
    if not steps:
        raise UserError(f'{where}: the episode is empty; remove it from the dataset')
    arrays = {}
    for name, field in fields.items():
        rows = steps + (field.part == 'observations')
        arrays[name] = _checked(where, name, _leaf(where, name, data, field), (rows, *field.shape))
        if field.part in EPISODE_FLAGS:
            _flags(where, name, arrays[name], 'record the episode again or remove it')
    return arrays


def _flags(where: str, field: str, array: np.ndarray, cure: str) -> None:
    """Raises UserError for the first entry of `array` `[N]` that is neither 0 nor 1."""
    strange = np.flatnonzero((array != 0) & (array != 1))
    if len(strange):
        raise UserError(
            f'{where}, row {strange[0]}, field {field}: {array[strange[0]]:g} is neither 0 nor 1; '
            f'{cure}'
        )


def _leaf(where: str, name: str, data: Any, field: Field) -> np.ndarray:
    """The array of a field of an episode, unchecked."""
    root = getattr(data, field.part)
    try:
        return np.asarray(pick(root, field.path))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        there = ', '.join(sorted(root)) if isinstance(root, Mapping) else type(root).__name__
        raise UserError(
            f'{where}: the field {name} is missing (there is: {there}); record it, or choose other '
            'keys with Task.obs_keys'
        ) from error


def _checked(where: str, field: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`array`, which must hold numbers and have this shape."""
    _numbers(where, field, array, 'convert it or leave it out with Task.obs_keys')
    if array.shape != shape:
        raise UserError(
            f'{where}: the field {field} has shape {array.shape}, expected {shape} from the '
            "dataset's spaces and its number of rewards; record the episode again or remove it"
        )
    return array


def _numbers(where: str, field: str, array: np.ndarray, cure: str) -> None:
    """Raises UserError unless the type of `array` is a number."""
    if array.dtype.kind not in 'fiub':
        raise UserError(f'{where}: the field {field} has type {array.dtype}, not numbers; {cure}')


def check_flat(
    where: str,
    arrays: Mapping[str, np.ndarray],
    spelled: Mapping[str, str] | None = None,
    cures: Cures = FILE,
) -> dict[str, np.ndarray]:
    """Flat fields, one row a step: `[N, size]` for those of `TABLES`, `[N]` for all others.

    A field that is stored as `[N, 1]` becomes `[N]`; those of `FLAGS` become bool.

    Args:
        where: names the dataset in messages.
        arrays: by D4RL's names.
        spelled: other spellings of these names for the messages.
        cures: the messages' advice.

    Raises:
        UserError: a type that is no number, no rows, a wrong shape, lengths that disagree, a NaN or
            infinity, or a flag that is neither 0 nor 1.
    """
    called = {field: field for field in arrays} | dict(spelled or {})
    checked = {
        field: _column(where, field, called[field], array, cures) for field, array in arrays.items()
    }
    shape = checked['observations'].shape
    for field, array in checked.items():
        if len(array) != shape[0]:
            raise UserError(
                f'{where}: the field {called[field]} has {len(array):,} rows, '
                f'{called["observations"]} has {shape[0]:,}; {cures.rows}'
            )
    after = checked.get('next_observations', checked['observations']).shape
    if after != shape:
        raise UserError(
            f'{where}: the field {called["next_observations"]} has shape {after}, '
            f'{called["observations"]} has {shape}; {cures.sizes}'
        )
    return checked


def _column(where: str, field: str, called: str, array: np.ndarray, cures: Cures) -> np.ndarray:
    """One flat field, checked."""
    _numbers(where, called, array, cures.numbers)
    table = field in TABLES
    if not table and array.shape[1:] == (1,):
        array = array[:, 0]
    if array.ndim != 1 + table or 0 in array.shape[1:]:
        raise UserError(
            f'{where}: the field {called} has shape {array.shape}, expected '
            f'{"[rows, size]" if table else "[rows]"}; {cures.shape}'
        )
    if not len(array):
        raise UserError(f'{where}: the field {called} has no rows; {cures.empty}')
    _finite(array, called, lambda row: f'{where}, row {row}', 'remove those episodes')
    if field not in FLAGS:
        return array
    _flags(where, called, array, cures.flags)
    return array.astype(bool)


def check_values(episodes: Episodes) -> None:
    """Raises UserError at the first NaN or infinity."""
    named = {'actions': episodes.action, 'rewards': episodes.reward[:, None]}
    named |= {'observations': episodes.obs, 'observations (the last)': episodes.next_obs}
    for field, array in named.items():
        _finite(array, field, lambda row: _where(episodes, row), 'remove those episodes')


def check_actions(episodes: Episodes, low: np.ndarray, high: np.ndarray) -> None:
    """Raises UserError for actions outside of the box `[A]` to `[A]`."""
    action = episodes.action
    beyond = np.full(len(action), -np.inf)  # how far the worst number of each row is outside
    for column, least, most in zip(action.T, low.tolist(), high.tolist(), strict=True):
        rounding = TOLERANCE * max(1.0, abs(least), abs(most))
        outside = np.maximum(column - most, least - column)
        outside[(column <= most + rounding) & (column >= least - rounding)] = -np.inf
        np.maximum(beyond, outside, out=beyond)
    if not (count := int((beyond > -np.inf).sum())):
        return
    row = int(np.argmax(beyond))
    number = int(np.argmax(np.maximum(action[row] - high, low - action[row])))
    raise UserError(
        f'{_where(episodes, row)}, field actions[{number}]: {action[row, number]:.6g} is outside '
        f'of the box [{low[number]:g}, {high[number]:g}], the worst of {count} rows; correct the '
        'action space, or clip the actions: `actions`=clip'
    )


def check_rewards(episodes: Episodes, reward: np.ndarray, transform: str) -> None:
    """Raises UserError where a reward is no finite number once it is float32."""
    _finite(
        reward,
        f'rewards (float32, transform {transform!r})',
        lambda row: _where(episodes, row),
        f'float32 ends at {np.finfo(np.float32).max:.2g}: scale the rewards down',
    )


def _finite(array: np.ndarray, field: str, where: Callable[[int], str], cure: str) -> None:
    """Raises UserError at the first NaN or infinity of `array` `[N, ...]`."""
    # A finite sum has finite terms: one pass without a temporary in the good case.
    with np.errstate(over='ignore', invalid='ignore'):
        if np.isfinite(array.sum(dtype=np.float64)):
            return
    bad = ~np.isfinite(array.reshape(len(array), -1))
    rows = np.flatnonzero(bad.any(1))
    if len(rows):
        column = int(np.flatnonzero(bad[rows[0]])[0])
        raise UserError(
            f'{where(rows[0])}, field {field}[{column}]: '
            f'{array.reshape(len(array), -1)[rows[0], column]} ({len(rows)} rows are not finite); '
            f'{cure}'
        )


def _where(episodes: Episodes, row: int) -> str:
    """Dataset, episode and row within the episode, for a row of all."""
    ends = np.cumsum(episodes.length)
    index = int(np.searchsorted(ends, row, side='right'))
    return f'{episodes.name}, episode {index}, row {row - ends[index] + episodes.length[index]}'


def check_same_layout(parts: list[Episodes]) -> None:
    """Raises UserError unless datasets to join have the same sizes and the same action box."""
    layouts = [(p.obs.shape[1], p.action.shape[1], p.max_action) for p in parts]
    for part, layout in zip(parts, layouts, strict=True):
        if layout != layouts[0]:
            raise UserError(
                f'{parts[0].name} and {part.name} cannot be joined: (observation size, action '
                f'size, action bound) are {layouts[0]} and {layout}; use one of them alone'
            )
