"""Flat files, one row a step: what D4RL's hdf5 and OGBench's npz have in common."""

import contextlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator

import numpy as np

from dtql_jax.data import memory, validate
from dtql_jax.data.episodes import ROWS, Episodes
from dtql_jax.types import UserError

# What h5py, zipfile and numpy raise for files that are cut short or hold something else.
DAMAGE = (OSError, KeyError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error)


def next_rows(obs: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Observation `[N, O]` of the row after each one; its own at the `end` `[N]` of an episode."""
    after = memory.empty(obs.shape, obs.dtype)
    after[:-1], after[-1] = obs[1:], obs[-1]
    after[end] = obs[end]
    return after


def cut(rows: Episodes, end: np.ndarray, keep: np.ndarray) -> Episodes:
    """`rows` without those outside of `keep` `[N]`, as episodes that `end` `[N]` closes; checked.

    Works in the memory of the columns of `rows`, each of which must have its own.

    A time-out whose row is dropped is told by the row before it, now the last of its episode.
    """
    if not keep.any():
        raise UserError(
            f'{rows.name}: no row has a successor (each one ends an episode without being '
            'terminal); mend the flags or add next_observations'
        )
    lost = rows.truncated & ~keep
    rows = rows._replace(truncated=rows.truncated | (np.append(lost[1:], False) & ~end))
    _, length = np.unique((np.cumsum(end) - end)[keep], return_counts=True)
    kept = rows._replace(length=length)
    if dropped := len(keep) - int(keep.sum()):
        columns = {field: memory.compact(getattr(rows, field), keep) for field in ROWS}
        kept = kept._replace(**columns)
        note = f'{dropped:,} rows at the end of episodes left out: what follows them is not known'
        kept = kept._replace(notes=(*kept.notes, note))
    validate.values(kept)
    return kept


def float32(array: np.ndarray) -> np.ndarray:
    """`array` as float32; what that cannot hold becomes infinite, which `cut` finds."""
    if array.dtype == np.float32:
        return array
    converted = memory.empty(array.shape, np.float32)
    with np.errstate(over='ignore'):
        converted[...] = array
    return converted


def need(path: str, fields: Iterable[str], there: Iterable[str]) -> None:
    """UserError for the first of `fields` that is not `there`."""
    there = sorted(there)
    for field in fields:
        if field not in there:
            some = ', '.join(there[:12]) + (', ...' if len(there) > 12 else '')
            raise UserError(
                f'{path}: the field {field} is missing (there is: {some or "nothing"}); '
                'fetch the file again, or write the field into it'
            )


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn what the storage layers raise for damaged files into one line."""
    try:
        yield
    except UserError:
        raise
    except DAMAGE as error:
        what = ' '.join(str(error).split())
        raise UserError(
            f'{path}: cannot be read, the file is truncated or of another kind ({what}); '
            'fetch or write it again'
        ) from error
