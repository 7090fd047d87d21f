"""Flat data, one row a step: what D4RL's hdf5, OGBench's npz and arrays have in common."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from dtql_jax.data import memory, success, validate
from dtql_jax.data.boxes import narrow
from dtql_jax.data.episodes import ROWS, Episodes
from dtql_jax.data.jumps import jump_notes
from dtql_jax.types import UserError

LEAP = 1e-6  # a next observation that differs more from the next row begins another episode


class Ends(NamedTuple):
    """What ends in which row, each `[N]`, bool unless it says more."""

    terminal: np.ndarray  # the return
    timeout: np.ndarray  # an episode, but not its return
    episode: np.ndarray  # an episode, for either reason or because the rows end
    reached: np.ndarray  # the way to the goal; bool or int8, see `Episodes`


def assemble(name: str, max_action: float, arrays: dict[str, np.ndarray], ends: Ends) -> Episodes:
    """Episodes from the fields that `validate.check_flat` has passed.

    The successor of a row is `next_observations` where there is such a field, else the next row;
    then the last row of an episode is dropped unless it is terminal.

    Args:
        name: names the dataset in messages.
        max_action: the bound of the action box.
        arrays: by D4RL's names. Fields are removed as they are converted, since a large set would
            not fit twice; their memory is reused.
        ends: what ends in which row.

    Raises:
        UserError: no row has a successor, a number exceeds float32, or an action exceeds the box.
    """
    obs, action = (float32(arrays.pop(field)) for field in ('observations', 'actions'))
    if 'next_observations' in arrays:
        next_obs = float32(arrays.pop('next_observations'))
        keep = np.ones(len(obs), bool)
    else:
        next_obs, keep = next_rows(obs, ends.episode), ends.terminal | ~ends.episode
    rows = Episodes(
        name,
        max_action,
        obs,
        action,
        arrays['rewards'].astype(np.float64),
        next_obs,
        ends.terminal,
        ends.timeout,
        success.carried(ends.reached, ~keep, ends.episode),
        length=np.zeros(0, int),
    )
    return cut(rows, ends.episode, keep)


def next_rows(obs: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The observation of the next row, or a row's own at an episode's `end`; `[N, O]`."""
    after = memory.empty(obs.shape, obs.dtype)
    after[:-1], after[-1] = obs[1:], obs[-1]
    after[end] = obs[end]
    return after


def timeouts(
    arrays: dict[str, np.ndarray], terminal: np.ndarray, limit: int | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Whether an episode ends without a terminal, `[N]` bool, and notes.

    It is as recorded, if a row is. Else it is as found: where the next observation is not the next
    row's or, where those are not recorded, at the limit of the simulator. With recorded next
    observations, flags that mark no row are believed while anything else explains them.
    """
    recorded, follows = arrays.get('timeouts'), 'next_observations' in arrays
    explained = follows and (terminal.any() or limit is None or len(terminal) <= limit)
    if recorded is not None and (recorded.any() or explained):
        return recorded, ()
    if follows:
        return leaps(arrays['observations'], arrays['next_observations']) & ~terminal, ()
    if limit is None:
        return np.zeros(len(terminal), bool), ()
    row = np.arange(len(terminal))
    start = np.maximum.accumulate(np.where(np.append(True, terminal[:-1]), row, 0))
    found = ((row - start + 1) % limit == 0) & ~terminal
    if not (count := int(found.sum())):
        return found, ()
    return found, (
        f'no row is marked as a time-out: {count:,} episodes are cut after {limit:,} steps, the '
        "limit of the task's environment",
    )


def leaps(obs: np.ndarray, next_obs: np.ndarray) -> np.ndarray:
    """Whether the next observation is not the next row's, so that an episode ends; `[N]` bool."""
    found = np.zeros(len(obs), bool)
    with np.errstate(invalid='ignore'):  # `cut` reports infinite numbers
        for column, after in zip(obs.T, next_obs.T, strict=True):
            found[:-1] |= np.abs(after[:-1] - column[1:]) > LEAP
    return found


def cut(rows: Episodes, end: np.ndarray, keep: np.ndarray) -> Episodes:
    """`rows` `[N]` without those outside of `keep` `[N]`, cut after each `end` `[N]`, and checked.

    It overwrites the memory of the columns of `rows`, which must not overlap. The row before a
    dropped time-out carries its flag and ends the episode.
    """
    if not keep.any():
        raise UserError(
            f'{rows.name}: no row has a successor (each one ends an episode without being '
            'terminal); mend the flags or add next_observations'
        )
    rows = rows._replace(notes=jump_notes(rows.obs, rows.next_obs, keep & ~rows.terminated))
    lost = rows.truncated & ~keep
    rows = rows._replace(truncated=rows.truncated | (np.append(lost[1:], False) & ~end))
    _, length = np.unique((np.cumsum(end) - end)[keep], return_counts=True)
    kept = rows._replace(length=length)
    if dropped := len(keep) - int(keep.sum()):
        columns: dict[str, Any] = {
            field: memory.compact(getattr(rows, field), keep) for field in ROWS
        }
        kept = kept._replace(**columns)
        note = f'{dropped:,} rows at the end of episodes left out: what follows them is not known'
        kept = kept._replace(notes=(*kept.notes, note))
    validate.check_values(kept)
    return kept._replace(notes=(*kept.notes, *narrow(kept.action, kept.max_action)))


def float32(array: np.ndarray) -> np.ndarray:
    """`array` as float32. A number that exceeds float32 becomes infinite, which `cut` reports."""
    return array if array.dtype == np.float32 else copy_float32(array)


def copy_float32(array: np.ndarray) -> np.ndarray:
    """A float32 copy in memory of its own, see `memory.empty`."""
    copy = memory.empty(array.shape, np.float32)
    with np.errstate(over='ignore'):
        copy[...] = array
    return copy


def need(path: str, fields: Iterable[str], there: Iterable[str], cure: str = '') -> None:
    """Raises UserError for the first of `fields` that is not `there`; `cure` is what to do then."""
    there = sorted(there)
    cure = cure or 'fetch the file again, or write the field into it'
    for field in fields:
        if field not in there:
            plain = [name if name.isprintable() else ascii(name) for name in there[:12]]
            some = ', '.join(plain) + (', ...' if len(there) > 12 else '')
            raise UserError(
                f'{path}: the field {field} is missing (there is: {some or "nothing"}); {cure}'
            )
