import json
import math
import sys
import types

import numpy as np
import pytest

from dtql_jax.report.loggers import JsonlLog, make_sinks, read_jsonl
from dtql_jax.types import UserError


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'metrics.jsonl'


def test_JsonlLog__floats_read_back_exactly(path):
    values = [0.1, 1 / 3, 1e-310, -0.0, 5e300, np.float32(0.1), np.float64(math.pi)]
    with JsonlLog(path) as log:
        log.write({f'v{i}': value for i, value in enumerate(values)})
    (row,) = read_jsonl(path)
    assert list(row.values()) == [float(value) for value in values]
    assert math.copysign(1, row['v3']) == -1


def test_JsonlLog__every_line_is_strict_json(path):
    def refuse(name):
        raise AssertionError(f'{name} is not JSON')

    with JsonlLog(path) as log:
        log.write({'a': math.nan, 'b': math.inf, 'c': np.float32('-inf'), 'variant': 'dtql'})
    row = json.loads(path.read_text(), parse_constant=refuse)
    assert row == {'a': 'nan', 'b': 'inf', 'c': '-inf', 'variant': 'dtql'}
    (row,) = read_jsonl(path)
    assert math.isnan(row['a'])
    assert (row['b'], row['c'], row['variant']) == (math.inf, -math.inf, 'dtql')


def test_JsonlLog__rows_are_visible_before_a_flush(path):
    log = JsonlLog(path)
    log.write({'step': 1})
    assert read_jsonl(path) == [{'step': 1}]
    log.close()


def test_JsonlLog__refuses_arrays(path):
    with JsonlLog(path) as log:
        with pytest.raises(TypeError):
            log.write({'loss': np.zeros(2)})
        assert log.flush() == 0


def test_JsonlLog__a_resumed_file_equals_an_uninterrupted_one(path, tmp_path):
    rows = [{'step': i, 'loss': 1 / (i + 1)} for i in range(10)]
    whole = tmp_path / 'whole.jsonl'
    with JsonlLog(whole) as log:
        for row in rows:
            log.write(row)

    with JsonlLog(path) as log:
        for row in rows[:4]:
            log.write(row)
        offset = log.flush()
        for row in rows[4:7]:
            log.write(row)
    with path.open('ab') as file:
        file.write(b'{"step":7,"lo')  # killed while writing
    assert read_jsonl(path) == rows[:7]

    with JsonlLog(path, resume_at=offset) as log:
        for row in rows[4:]:
            log.write(row)
        assert log.flush() == path.stat().st_size
    assert path.read_bytes() == whole.read_bytes()


def test_JsonlLog__appends_without_an_offset(path):
    for step in range(2):
        with JsonlLog(path) as log:
            log.write({'step': step})
    assert read_jsonl(path) == [{'step': 0}, {'step': 1}]


def test_JsonlLog__resumes_at_the_start(path):
    for _ in range(2):
        with JsonlLog(path, resume_at=0) as log:
            log.write({'step': 0})
    assert read_jsonl(path) == [{'step': 0}]


@pytest.mark.parametrize('content', [None, b'', b'{"step":0}\n'])
def test_JsonlLog__refuses_a_file_shorter_than_the_checkpoint(path, content):
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r'metrics\.jsonl .*byte 100.*`out`'):
        JsonlLog(path, resume_at=100)
    assert (path.read_bytes() if path.exists() else None) == content


def test_JsonlLog__refuses_an_offset_within_a_row(path):
    path.write_bytes(b'{"step":0}\n{"step":1}\n')
    with pytest.raises(UserError, match='no row that ends at byte 5'):
        JsonlLog(path, resume_at=5)
    assert len(read_jsonl(path)) == 2


def test_read_jsonl__names_the_file_and_the_line(path):
    with pytest.raises(UserError, match=r'metrics\.jsonl does not exist'):
        read_jsonl(path)
    path.write_text('{"step":0}\n[1]\n')
    with pytest.raises(UserError, match=r'metrics\.jsonl, line 2'):
        read_jsonl(path)


def test_make_sinks__names_an_unknown_and_a_missing_one(tmp_path, monkeypatch):
    assert make_sinks([], tmp_path) == []
    with pytest.raises(UserError, match="'tensorbord': choose from tensorboard, wandb"):
        make_sinks(['tensorbord'], tmp_path)
    for name in ('tensorboard', 'wandb'):
        monkeypatch.setitem(sys.modules, name, None)  # an import of it fails
        monkeypatch.setitem(sys.modules, f'{name}.summary', None)
        with pytest.raises(UserError, match=f"pip install '{name}'"):
            make_sinks([name], tmp_path)


ROW = {'step': 5, 'phase': 'train', 'seed': 1, 'variant': 'dtql', 'pi/q': np.float32(2.5)}


def test_TensorBoardSink__writes_one_run_per_variant_and_seed(tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, folder):
            self.folder = folder

        def add_scalar(self, tag, value, step):
            written.append((self.folder, tag, value, step))

        def close(self):
            written.append('closed')

    monkeypatch.setitem(sys.modules, 'tensorboard', types.ModuleType('tensorboard'))
    monkeypatch.setitem(sys.modules, 'tensorboard.summary', types.SimpleNamespace(Writer=Writer))
    (sink,) = make_sinks(['tensorboard'], tmp_path, {})
    sink.write(5, ROW)
    sink.close()
    folder = str(tmp_path / 'tensorboard' / 'dtql' / 'seed1')
    assert written == [(folder, 'pi/q', 2.5, 5), 'closed']


def test_TensorBoardSink__with_the_package_itself(tmp_path):
    pytest.importorskip('tensorboard')
    (sink,) = make_sinks(['tensorboard'], tmp_path, {})
    sink.write(5, ROW)
    sink.close()
    (events,) = (tmp_path / 'tensorboard' / 'dtql' / 'seed1').iterdir()
    assert b'pi/q' in events.read_bytes()


def test_WandbSink__continues_the_run(tmp_path, monkeypatch):
    calls = []

    class Run:
        def define_metric(self, name, step_metric):
            calls.append((name, step_metric))

        def log(self, row):
            calls.append(row)

        def finish(self):
            calls.append('finished')

    ids = []

    def init(**kwargs):
        ids.append(kwargs['id'])
        assert kwargs['resume'] == 'allow'
        assert kwargs['config'] == {'alpha': 1.0}
        return Run()

    monkeypatch.setitem(sys.modules, 'wandb', types.SimpleNamespace(init=init))
    for _ in range(2):
        (sink,) = make_sinks(['wandb'], tmp_path, {'alpha': 1.0})
        sink.write(5, ROW)
        sink.close()
    assert ids[0] == ids[1]
    assert calls[:3] == [('*', 'update'), {'update': 5, 'pi/q/dtql/seed1': 2.5}, 'finished']
