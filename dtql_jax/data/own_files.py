"""Files of one's own: tables (CSV, Parquet), npz and hdf5 files, and folders of these.

A file holds fields by the names of `dtql_jax.data.arrays`, one row a step. `Task.columns` gives
other names: `{'obs': ('x', 'y'), 'action': 'command', 'reward': 'r'}`. What it does not name is not
read then. In a table without it, `obs_0`, `obs_1` or `obs.x`, `obs.y` are the numbers of `obs`, in
the order of the table. A column of a Parquet table may hold lists, as LeRobot's do.

A file is one episode, unless `timeout`, `terminal` or `episode` end more. In an hdf5 file whose
fields lie in groups, each group is one. The files of a folder have the same fields, and are read in
the order of their names (`files_in`).
"""

import csv
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dtql_jax.data import validate
from dtql_jax.data.arrays import CURES, NAMES, check_fields, read_arrays
from dtql_jax.data.episodes import Episodes
from dtql_jax.data.hdf5 import values
from dtql_jax.tasks.own_files import files_in
from dtql_jax.tasks.task import Task
from dtql_jax.tasks.unreadable import explained
from dtql_jax.types import UserError, needed, why

Fields = dict[str, np.ndarray]
WORDS = {'true': 1.0, 'false': 0.0}  # what some tables have in place of 1 and 0
TABLES = ('.csv', '.parquet')
LOOSE: tuple[str, ...] = ('is_success', 'episode_index')  # fields that `read_arrays` checks


def is_ours(path: Path, task: Task) -> bool:
    """Whether a dataset is to be read here, and not as a file of D4RL's or OGBench's."""
    if path.is_dir() or path.suffix in TABLES or task.columns:
        return True
    try:
        if path.suffix == '.npz':
            with zipfile.ZipFile(path) as archive:
                return 'obs.npy' in archive.namelist()
        with h5py.File(path, 'r') as file:
            return 'obs' in file or (len(file) > 0 and all(map(_has_fields, file.values())))
    except Exception:  # of damaged files, which their usual reader explains
        return False


def read(path: str, task: Task) -> Episodes:
    """Reads a file, or all files of a folder.

    Raises:
        UserError: a file is damaged, or its fields are wrong. The text names file, field and cure.
    """
    parts: list[tuple[str, Fields]] = []
    for file in files_in(path) or [Path(path)]:
        with explained(str(file)):
            found = list(_parts(file, task))
        for name, fields in found:
            parts.append((name, _checked(name, fields)))
            _same(parts[0], parts[-1])
    if not parts:
        raise UserError(f'{path}: there is no episode in it; name a folder with files')
    columns = {field: [fields[field] for _, fields in parts] for field in parts[0][1]}
    joined: dict[str, Any] = {}
    for field in list(columns):
        joined[field] = np.concatenate(columns.pop(field))
    return read_arrays(joined, task, path)


def _parts(file: Path, task: Task) -> Iterator[tuple[str, Fields]]:
    """The names and the fields of the parts of a file that end an episode each."""
    if file.suffix == '.csv':
        yield str(file), _csv(file, task.columns)
    elif file.suffix == '.parquet':
        yield str(file), _parquet(file, task.columns)
    elif file.suffix == '.npz':
        with np.load(file, allow_pickle=False) as archive:
            names = _named(file, archive.files, task.columns)
            yield str(file), {field: archive[name] for field, name in names.items()}
    else:
        with h5py.File(file, 'r') as storage:
            groups = [item for item in storage.values() if _has_fields(item)]
            for group in groups or [storage]:
                name = f'{file}{group.name}' if groups else str(file)
                names = _named(name, list(group), task.columns)
                yield name, {field: values(group[found]) for field, found in names.items()}


def _has_fields(item: Any) -> bool:
    """Whether something in an hdf5 file is a group with arrays."""
    return isinstance(item, h5py.Group) and any(isinstance(x, h5py.Dataset) for x in item.values())


def _checked(name: str, fields: Fields) -> Fields:
    """Fields by D4RL's names, checked, with time-outs that end an episode in the last row."""
    spelled = check_fields(name, fields, ends=False)
    arrays = {field: fields[called] for field, called in spelled.items()}
    loose = {field: arrays.pop(field) for field in LOOSE if field in arrays}
    arrays = validate.check_flat(name, arrays, spelled, CURES)
    rows = len(arrays['rewards'])
    for field, column in loose.items():
        if len(column) != rows:
            raise UserError(
                f'{name}: the field {spelled[field]} has {len(column):,} rows, '
                f'{spelled["rewards"]} has {rows:,}; {CURES.rows}'
            )
    terminal = arrays['terminals'] if 'terminals' in arrays else ~arrays['masks']
    timeout = arrays.get('timeouts', np.zeros(rows, bool)).copy()
    timeout[-1] = not terminal[-1]
    return {**arrays, **loose, 'timeouts': timeout}


def _same(first: tuple[str, Fields], other: tuple[str, Fields]) -> None:
    """Raises UserError where two parts have other fields, or fields of other sizes."""
    (name, ours), (path, theirs) = first, other
    if different := sorted(ours.keys() ^ theirs.keys()):
        lacks, has = (path, name) if different[0] in ours else (name, path)
        raise UserError(
            f'{lacks}: the field {different[0]} is missing, which {has} has; write the same fields '
            'into all files'
        )
    for field in ours:
        if ours[field].shape[1:] != theirs[field].shape[1:]:
            raise UserError(
                f'{path}: the field {field} has rows of shape {theirs[field].shape[1:]}, in {name} '
                f'they have {ours[field].shape[1:]}; write the same fields into all files'
            )


def _named(path: Any, there: list[str], columns: Mapping[str, Any]) -> dict[str, str]:
    """The name of each field in a file, by the name that `Task.columns` or the file gives it."""
    if not columns:
        known = {*NAMES, *NAMES.values()}
        return {name: name for name in there if name in known}
    names = {}
    for field, name in columns.items():
        _check_column(field)
        if not isinstance(name, str):
            raise UserError(f'{path}: columns[{field!r}]={name!r}: name one array of the file')
        names[field] = _found(path, name, there)
    return names


def _groups(path: Path, there: list[str], columns: Mapping[str, Any]) -> dict[str, list[str]]:
    """The columns of a table that make up each field."""
    found: dict[str, list[str]] = {}
    if not columns:
        known = '|'.join(map(re.escape, sorted({*NAMES, *NAMES.values()}, key=len, reverse=True)))
        for column in there:
            if match := re.fullmatch(rf'({known})(?:[._].+|\[.+\]|\d+)?', column):
                found.setdefault(match[1], []).append(column)
        return found
    for field, names in columns.items():
        _check_column(field)
        some = [names] if isinstance(names, str) else list(names)
        found[field] = [_found(path, name, there) for name in some]
    return found


def _check_column(field: str) -> None:
    if field not in NAMES:
        raise UserError(f'columns: there is no field {field!r}; there are {", ".join(NAMES)}')


def _found(path: Any, name: Any, there: list[str]) -> str:
    """The name of a column, which must be there."""
    if name not in there:
        some = ', '.join(there[:12]) + (', ...' if len(there) > 12 else '')
        raise UserError(f'{path}: there is no column {name!r} (there is: {some}); mend `columns`')
    return name


def _table(path: Path, groups: dict[str, list[str]], read: Any) -> Fields:
    """The fields of a table: `[N]` of one column of numbers, `[N, size]` of several or of lists."""
    fields = {}
    for field, names in groups.items():
        arrays = [read(name, field) for name in names]
        wide = NAMES.get(field, field) in validate.TABLES
        if wide or len(arrays) > 1:
            arrays = [array if array.ndim == 2 else array[:, None] for array in arrays]
            fields[field] = np.concatenate(arrays, axis=1)
        else:
            fields[field] = arrays[0]
    return fields


def _csv(path: Path, columns: Mapping[str, Any]) -> Fields:
    """The fields of a CSV file, whose first line names the columns."""
    with path.open(newline='', encoding='utf-8-sig') as file:
        line = file.readline()
    delimiter = max(',;\t', key=line.count)
    header = [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    groups = _groups(path, header, columns)
    names = [name for group in groups.values() for name in group]
    episodes = {name for field in groups for name in groups[field] if _is_episode(field)}
    options: dict[str, Any] = {
        'delimiter': delimiter, 'skiprows': 1, 'comments': None, 'quotechar': '"',
        'encoding': 'utf-8-sig', 'ndmin': 2,
    }  # fmt: skip
    numbers = [header.index(name) for name in names if name not in episodes]
    try:
        try:
            table = np.loadtxt(path, usecols=numbers, **options)
        except ValueError as error:
            if not re.search(r"'\s*(true|false)\s*'", str(error), re.IGNORECASE):
                raise
            words: Any = dict.fromkeys(numbers, _number)
            table = np.loadtxt(path, usecols=numbers, converters=words, **options)
        texts = {
            name: np.loadtxt(path, usecols=[header.index(name)], dtype=str, **options)[:, 0]
            for name in episodes
        }
    except ValueError as error:
        raise UserError(
            f'{path}: {why(error).removeprefix("ValueError: ")} (rows from 0 after the line of '
            'names, columns from 1); write a number there'
        ) from error
    at = {header[column]: table[:, i] for i, column in enumerate(numbers)}
    return _table(path, groups, lambda name, field: texts[name] if name in texts else at[name])


def _number(text: str) -> float:
    """A number, or a word for one."""
    word = text.strip().lower()
    return WORDS[word] if word in WORDS else float(text)


def _is_episode(field: str) -> bool:
    """Whether a field is the one that may hold names."""
    return NAMES.get(field, field) == NAMES['episode']


def _parquet(path: Path, columns: Mapping[str, Any]) -> Fields:
    """The fields of a Parquet table."""
    parquet = needed('reading a Parquet table', 'pyarrow', 'pyarrow.parquet')
    groups = _groups(path, parquet.read_schema(path).names, columns)
    table = parquet.read_table(path, columns=[name for group in groups.values() for name in group])

    def column(name: str, field: str) -> np.ndarray:
        array = table[name].combine_chunks()
        if 'list' not in str(array.type):
            return array.to_numpy(zero_copy_only=False)
        size = len(array.flatten())
        if len(array) == 0 or size % len(array) or len({*array.value_lengths().to_pylist()}) > 1:
            raise UserError(f'{path}: the lists of {name} are not equally long; write them so')
        return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)

    return _table(path, groups, column)
