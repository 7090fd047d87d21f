"""The forms of a flat table: arrays by column, a frame of pandas or polars, CSV, and Parquet."""

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dtql_jax.types import UserError, needed, outside, user_path

if TYPE_CHECKING:
    import pandas
    import polars

Table = dict[str, np.ndarray]  # equally long arrays by column; text and True or False as objects
Frame = Literal['pandas', 'polars']
FIRST = ('job', 'run', 'task', 'dataset', 'source', 'agent', 'variant')  # columns of every table
BLOCK = 10_000  # rows of a CSV file that are converted at once, to save memory


def column(values: Sequence[Any]) -> np.ndarray:
    """The values as an array: int, float (None becomes NaN), or objects: text, bool and None."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int} and None not in values:
        return np.array(values, int)
    if kinds and kinds <= {int, float}:
        return np.array(values, float)
    if not kinds <= {bool}:
        values = [value if value is None else _text(value) for value in values]
    return np.array(values, object)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def check_frame(frame: Frame | None) -> None:
    """Raises UserError where a frame is unknown or its package is not installed."""
    if frame is not None:
        to_frame({}, frame)


def to_frame(table: Table, frame: Frame | None) -> 'Table | pandas.DataFrame | polars.DataFrame':
    """The table as a frame of 'pandas' or 'polars', or as it is for None.

    Raises:
        UserError: the frame is unknown, or its package is not installed.
    """
    if frame is None:
        return table
    if frame == 'pandas':
        pandas = needed('a frame of pandas', 'pandas')
        return pandas.DataFrame(table)
    if frame == 'polars':
        polars = needed('a frame of polars', 'polars')
        text = {n: polars.String for n, of in table.items() if _is_text(of)}
        return polars.DataFrame(
            {n: of.tolist() if of.dtype == object else of for n, of in table.items()},
            schema_overrides=text,
        )
    raise UserError(f"`frame`={frame!r}: use 'pandas', 'polars' or None")


def write_results(table: Table, path: str | os.PathLike[str]) -> Path:
    """Writes a table of `load_results` to a file and returns its path.

    Floats read back exactly. In CSV a cell is empty where a value is unknown.

    Args:
        table: the arrays by column.
        path: the file; it ends in `.csv` or `.parquet`. Only a file of such a table is replaced.

    Raises:
        UserError: the ending is another one, the file has something else, it cannot be written, or
            Parquet's package is not installed.
    """
    path = user_path('path', path)
    forms = {'.csv': (_csv_names, _write_csv), '.parquet': (_parquet_names, _write_parquet)}
    if path.suffix not in forms:
        raise UserError(f'`path`={str(path)!r}: end its name in .csv or .parquet')
    names_of, write = forms[path.suffix]
    if path.suffix == '.parquet':
        _pyarrow()
    with outside(f'{path} cannot be read', 'name another file'):
        ours = not path.exists() or tuple(names_of(path)[: len(FIRST)]) == FIRST
    if not ours:
        raise UserError(f'{path} exists and has no such table: name another file')
    with outside(f'{path.parent} cannot be made', 'name another folder'):
        path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        with outside(f'{path} cannot be written', 'make room or give permission'):
            write(table, new)
            new.replace(path)
    finally:
        new.unlink(missing_ok=True)  # of a full disk
    return path


def _csv_names(path: Path) -> list[str]:
    with path.open(newline='', encoding='utf-8') as file:
        return next(csv.reader(file), [])


def _write_csv(table: Table, path: Path) -> None:
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(table)
        for start in range(0, len(next(iter(table.values()))), BLOCK):
            block = [column[start : start + BLOCK].tolist() for column in table.values()]
            rows = zip(*block, strict=True)
            # NaN is the only value that is not equal to itself.
            writer.writerows([value if value == value else '' for value in row] for row in rows)


def _parquet_names(path: Path) -> list[str]:
    return _pyarrow().parquet.read_schema(path).names


def _write_parquet(table: Table, path: Path) -> None:
    arrow = _pyarrow()
    columns = {
        name: arrow.array(of, arrow.string() if _is_text(of) else None)
        for name, of in table.items()
    }
    arrow.parquet.write_table(arrow.table(columns), path)


def _pyarrow() -> Any:
    needed('a Parquet file', 'pyarrow', 'pyarrow.parquet')
    return needed('a Parquet file', 'pyarrow')


def _is_text(column: np.ndarray) -> bool:
    return column.dtype == object and not any(isinstance(value, bool) for value in column)
