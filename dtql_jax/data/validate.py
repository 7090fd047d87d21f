"""Checks that run before anything compiles. Each message: dataset, episode, row, field, cure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dtql_jax.tasks.spaces import pick
from dtql_jax.types import UserError

if TYPE_CHECKING:
    from dtql_jax.data.episodes import Episodes

TOLERANCE = 1e-6  # float rounding of actions at the edge of the box
# Of flat files: [rows, size].
TABLES = ('observations', 'next_observations', 'actions', 'qpos', 'button_states')
FLAGS = ('terminals', 'timeouts', 'masks')  # of flat files: 0 or 1


class Field(NamedTuple):
    """Where an array lies in a Minari episode, and the shape of one of its rows."""

    part: str  # attribute of the episode
    path: tuple[str, ...]
    shape: tuple[int, ...]


def episode(where: str, data: Any, fields: dict[str, Field]) -> dict[str, np.ndarray]:
    """Arrays of one Minari episode by field name, with T+1 observations and T of all else.

    Raises UserError for a missing field, an empty episode, a wrong shape and a type that is no
    number.
    """
    steps = len(data.rewards)
    if not steps:
        raise UserError(f'{where}: the episode is empty; remove it from the dataset')
    arrays = {}
    for name, field in fields.items():
        rows = steps + (field.part == 'observations')
        arrays[name] = _checked(where, name, _leaf(where, name, data, field), (rows, *field.shape))
    return arrays


def _leaf(where: str, name: str, data: Any, field: Field) -> np.ndarray:
    root = getattr(data, field.part)
    try:
        return np.asarray(pick(root, field.path))
    except (KeyError, IndexError, TypeError) as error:
        there = ', '.join(sorted(root)) if isinstance(root, Mapping) else type(root).__name__
        raise UserError(
            f'{where}: the field {name} is missing (there is: {there}); record it, or choose other '
            'keys with Task.obs_keys'
        ) from error


def _checked(where: str, field: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    _numbers(where, field, array, 'convert it or leave it out with Task.obs_keys')
    if array.shape != shape:
        raise UserError(
            f'{where}: the field {field} has shape {array.shape}, expected {shape} from the '
            "dataset's spaces and its number of rewards; record the episode again or remove it"
        )
    return array


def _numbers(where: str, field: str, array: np.ndarray, cure: str) -> None:
    if array.dtype.kind not in 'fiub':
        raise UserError(f'{where}: the field {field} has type {array.dtype}, not numbers; {cure}')


def columns(where: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Fields of a flat file, one row a step: `[N, size]` of `TABLES`, `[N]` of all else.

    A column that is stored as `[N, 1]` becomes `[N]`, and those of `FLAGS` bool. Raises UserError
    for a type that is no number, a file without rows, a wrong shape, lengths that disagree, a NaN
    or infinity, and a flag that is neither 0 nor 1.
    """
    checked = {field: _column(where, field, array) for field, array in arrays.items()}
    shape = checked['observations'].shape
    for field, array in checked.items():
        if len(array) != shape[0]:
            raise UserError(
                f'{where}: the field {field} has {len(array):,} rows, observations has '
                f'{shape[0]:,}; the file is incomplete, fetch or write it again'
            )
    if checked.get('next_observations', checked['observations']).shape != shape:
        raise UserError(
            f'{where}: the field next_observations has shape {checked["next_observations"].shape}, '
            f'observations has {shape}; write both with the same size'
        )
    return checked


def _column(where: str, field: str, array: np.ndarray) -> np.ndarray:
    _numbers(where, field, array, 'write it again as numbers')
    table = field in TABLES
    if not table and array.shape[1:] == (1,):
        array = array[:, 0]
    if array.ndim != 1 + table or 0 in array.shape[1:]:
        raise UserError(
            f'{where}: the field {field} has shape {array.shape}, expected '
            f'{"[rows, size]" if table else "[rows]"}; write it again, one row a step'
        )
    if not len(array):
        raise UserError(f'{where}: the field {field} has no rows; record the file again')
    _finite(array, field, lambda row: f'{where}, row {row}', 'remove those episodes')
    if field not in FLAGS:
        return array
    strange = np.flatnonzero((array != 0) & (array != 1))
    if len(strange):
        raise UserError(
            f'{where}, row {strange[0]}, field {field}: {array[strange[0]]:g} is neither 0 nor 1; '
            'write the flags again'
        )
    return array.astype(bool)


def values(episodes: Episodes) -> None:
    """UserError at the first NaN or infinity and at actions outside of the box."""
    named = {'actions': episodes.action, 'rewards': episodes.reward[:, None]}
    named |= {'observations': episodes.obs, 'observations (the last)': episodes.next_obs}
    for field, array in named.items():
        _finite(array, field, lambda row: _where(episodes, row), 'remove those episodes')
    excess = np.maximum(episodes.action.max(1), -episodes.action.min(1))  # |a| as a whole is large
    rows = np.flatnonzero(excess > episodes.max_action + TOLERANCE)
    if len(rows):
        worst = rows[np.argmax(excess[rows])]
        raise UserError(
            f'{_where(episodes, worst)}, field actions: |a| = {excess[worst]:.6g} is outside of '
            f'the box [-{episodes.max_action:g}, {episodes.max_action:g}], the worst of '
            f'{len(rows)} rows; clip the actions or correct the action space'
        )


def _finite(array: np.ndarray, field: str, where: Callable[[int], str], cure: str) -> None:
    """UserError at the first NaN or infinity of `array` `[N, ...]`."""
    # A sum is finite if all are: one pass and no temporary in the good case.
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
    ends = np.cumsum(episodes.length)
    index = int(np.searchsorted(ends, row, side='right'))
    return f'{episodes.name}, episode {index}, row {row - ends[index] + episodes.length[index]}'


def same_layout(parts: list[Episodes]) -> None:
    """UserError unless datasets to be joined have the same sizes and the same action box."""
    layouts = [(p.obs.shape[1], p.action.shape[1], p.max_action) for p in parts]
    for part, layout in zip(parts, layouts, strict=True):
        if layout != layouts[0]:
            raise UserError(
                f'{parts[0].name} and {part.name} cannot be joined: (observation size, action '
                f'size, action bound) are {layouts[0]} and {layout}; use one of them alone'
            )
