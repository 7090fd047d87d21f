"""Which datasets are files of the user's own, and not Minari sets.

Worker processes import this module, so it imports no jax.
"""

import re
from pathlib import Path

from dtql_jax.tasks.minari_sets import ID, is_folder
from dtql_jax.tasks.unreadable import explained

SUFFIXES = ('.hdf5', '.npz', '.csv', '.parquet')


def is_own(name: str) -> bool:
    """Whether a dataset is a file, which may be absent, or a folder of files."""
    if Path(name).suffix in SUFFIXES:
        return True
    return not (ID.fullmatch(name) or is_folder(Path(name, 'data'))) and bool(files_in(name))


def files_in(folder: str) -> list[Path]:
    """The files in a folder by name, with numbers in their order; none where it is absent."""
    with explained(folder):
        found = [path for path in Path(folder).glob('*') if path.suffix in SUFFIXES]
    return sorted(found, key=lambda path: _in_order(path.name))


def _in_order(name: str) -> list[tuple[int, str]]:
    """A name as a key for sorting: `e10` comes after `e9`."""
    parts = re.split(r'(\d+)', name)
    return [(int(part), '') if part.isdecimal() else (-1, part) for part in parts]
