"""What data tell of success: 1, 0, or that they do not tell.

A column of successes is `Episodes.reached`; int8, so that it can say `UNKNOWN`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dtql_jax.tasks.success import SUCCESS
from dtql_jax.types import UserError

UNKNOWN = -1


def told(infos: Mapping[str, Any], steps: int) -> np.ndarray:
    """Whether each of `steps` steps is a success, int8 `[T]`; `UNKNOWN` where that is not told.

    Args:
        infos: values by key, each `[T]`, `[T, 1]`, with one row more for the reset, or one for the
            whole episode. What is neither 0 nor 1 tells nothing.
        steps: T.
    """
    column = np.full(steps, UNKNOWN, np.int8)
    for key in SUCCESS:
        if key in infos:
            column = np.maximum(column, _rows(np.asarray(infos[key]), steps))
    return column


def _rows(values: np.ndarray, steps: int) -> np.ndarray:
    """The values of a key, one a step."""
    column = np.full(steps, UNKNOWN, np.int8)
    if values.dtype.kind not in 'biuf':
        return column
    if values.size == 1:  # of the whole episode: its last step tells
        values = np.append(np.zeros(steps - 1), values.ravel())
    elif values.size == steps + 1 == len(values):
        values = values.ravel()[1:]
    if values.size != steps:
        return column
    values = values.ravel()
    known = (values == 0) | (values == 1)
    column[known] = values[known]
    return column


def told_flat(fields: Mapping[str, Any], steps: int) -> np.ndarray:
    """`told` of flat fields, which have one row for each of all steps, or do not tell."""
    shapes = ((steps,), (steps, 1))
    return told({key: x for key, x in fields.items() if np.shape(x) in shapes}, steps)


def column(called: str, values: np.ndarray, steps: int) -> np.ndarray:
    """A field of successes that the user gives, as `told` returns it.

    Raises:
        UserError: it is not one number a step.
    """
    told = values.dtype.kind in 'biuf' and values.shape in ((steps,), (steps, 1))
    if not (told and np.isin(values[~np.isnan(values)], (0, 1)).all()):
        raise UserError(
            f'{called} has type {values.dtype} and shape {values.shape}, or other numbers than 1, '
            f'0 and NaN; give one of these for each of the {steps:,} rows'
        )
    return _rows(values, steps)


def carried(reached: np.ndarray, lost: np.ndarray, end: np.ndarray) -> np.ndarray:
    """`reached` with what `lost` rows tell of success moved to the row before, in its episode."""
    before = np.flatnonzero(lost[1:] & ~end[:-1])
    here, later = reached[before], reached[before + 1]
    moved = reached.copy()
    moved[before] = np.where((here != 1) & (later != 0), later, here)
    return moved


def of_episode(reached: np.ndarray) -> int:
    """Whether an episode succeeded, from its steps: 1, 0 or `UNKNOWN`.

    Some simulators tell only at the end, so that a last step that tells speaks for those before.
    """
    return 1 if (reached == 1).any() else int(reached[-1])
