"""The forms of a flat table. Packages that are not installed skip their tests."""

import csv
import math
import sys

import numpy as np
import pytest

from dtql_jax.studies import frames
from dtql_jax.studies.frames import column, to_frame, write_results
from dtql_jax.studies.results import load_results
from dtql_jax.types import UserError
from tests.helpers.result_files import write_config, write_results_of


@pytest.fixture
def table(tmp_path):
    """The results of two runs, of which one lacks a setting."""
    write_results_of(tmp_path / 'runs/a', deep=True, beta=0.1)
    write_results_of(tmp_path / 'runs/b', deep=False, beta=1 / 3)
    write_results_of(tmp_path / 'runs/c', agent='bc', variants=['a, "b"'])
    return load_results(tmp_path / 'runs')


@pytest.fixture
def nothing(tmp_path):
    """The table of a run without evaluations."""
    write_config(tmp_path / 'new', [('dtql', 0, {})])
    return load_results(tmp_path / 'new')


def known(values):
    """Values with NaN as None."""
    return [None if isinstance(v, float) and math.isnan(v) else v for v in values]


@pytest.mark.parametrize(('values', 'dtype', 'expected'), [
    ([1, 2], int, [1, 2]),
    ([1, None], float, [1.0, None]),
    ([1, 2.5], float, [1.0, 2.5]),
    ([True, None], object, [True, None]),
    (['a', None], object, ['a', None]),
    (['a', 1, True, [1, 2]], object, ['a', '1', 'true', '[1, 2]']),
    ([], object, []),
])  # fmt: skip
def test_column__has_one_type(values, dtype, expected):
    found = column(values)
    assert (found.dtype, found.ndim) == (dtype, 1)
    assert known(found.tolist()) == expected


@pytest.mark.parametrize('frame', ['pandas', 'polars'])
def test_to_frame__has_the_columns_and_values(frame, table, nothing):
    pytest.importorskip(frame)
    found = to_frame(table, frame)
    assert list(found.columns) == list(table)
    for name, values in table.items():
        assert known(found[name].to_list()) == known(values.tolist())
    empty = to_frame(nothing, frame)
    assert empty.shape == (0, len(nothing))
    assert to_frame(table, None) is table


def test_to_frame__polars_knows_text_and_numbers(table, nothing):
    polars = pytest.importorskip('polars')
    for frame in (to_frame(table, 'polars'), to_frame(nothing, 'polars')):
        kinds = [frame.schema[name] for name in ('job', 'seed', 'score', 'failed')]
        assert kinds == [polars.String, polars.Int64, polars.Float64, polars.String]
    assert to_frame(table, 'polars').schema['set/deep'] == polars.Boolean


@pytest.mark.parametrize('package', ['pandas', 'polars', 'pyarrow'])
def test_packages__an_absent_one_is_one_line(package, table, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # an import of it fails
    ask = {
        True: lambda: write_results(table, tmp_path / 'x.parquet'),
        False: lambda: load_results(tmp_path / 'missing', frame=package),  # nothing is read yet
    }
    with pytest.raises(UserError) as error:
        ask[package == 'pyarrow']()
    assert str(error.value).endswith(f"): pip install '{package}'")
    assert '\n' not in str(error.value)
    assert not (tmp_path / 'x.parquet').exists()


def test_write_results__csv_reads_back_exactly(table, tmp_path, monkeypatch):
    monkeypatch.setattr(frames, 'BLOCK', 5)  # of 12 rows
    path = tmp_path / 'new/results.csv'
    assert write_results(table, str(path)) == path
    with path.open(newline='', encoding='utf-8') as file:
        heading, *rows = csv.reader(file)
    assert heading == list(table)
    for i, values in enumerate(table.values()):
        cells = [row[i] for row in rows]
        if values.dtype == float:
            np.testing.assert_array_equal([float(cell or 'nan') for cell in cells], values)
        else:
            assert cells == ['' if value is None else str(value) for value in values]
    assert [entry.name for entry in path.parent.iterdir()] == ['results.csv']


def test_write_results__parquet_reads_back_exactly(table, nothing, tmp_path):
    parquet = pytest.importorskip('pyarrow.parquet')
    for written in (nothing, table):  # the second replaces the first
        read = parquet.read_table(write_results(written, tmp_path / 'results.parquet'))
        assert read.column_names == list(written)
        for name, values in written.items():
            assert known(read[name].to_pylist()) == known(values.tolist())
        assert str(read.schema.field('failed').type) == 'string'


@pytest.mark.parametrize('ending', ['csv', 'parquet'])
def test_write_results__replaces_only_such_a_table(ending, table, tmp_path):
    if ending == 'parquet':
        pytest.importorskip('pyarrow')
    path = tmp_path / f'x.{ending}'
    write_results(table, path)
    before = path.read_bytes()
    write_results({name: values[:3] for name, values in table.items()}, path)
    assert path.read_bytes() != before
    path.write_text('name,grade\nme,1\n')
    with pytest.raises(UserError, match=r'x\.(csv exists and has no such table|parquet cannot be)'):
        write_results(table, path)
    assert path.read_text() == 'name,grade\nme,1\n'


def test_write_results__mistakes(table, tmp_path):
    with pytest.raises(UserError, match=r"`path`='x.xls': end its name in .csv or .parquet"):
        write_results(table, 'x.xls')
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match=r'file cannot be made: File exists .*; name another f'):
        write_results(table, tmp_path / 'file/x.csv')
    (tmp_path / 'folder.csv').mkdir()
    with pytest.raises(UserError, match=r'folder.csv cannot be read: Is a directory'):
        write_results(table, tmp_path / 'folder.csv')
