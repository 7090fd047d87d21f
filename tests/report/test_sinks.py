"""wandb and TensorBoard, beside the files of a run."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest

from dtql_jax.report.sinks import Event, make_sinks
from dtql_jax.types import UserError


def test_make_sinks__names_an_unknown_and_a_missing_one(tmp_path, monkeypatch):
    assert make_sinks([], tmp_path, {}, pytest.fail) == []
    with pytest.raises(UserError, match="'tensorbord': choose from tensorboard, wandb"):
        make_sinks(['tensorbord'], tmp_path, {}, pytest.fail)
    for name in ('tensorboard', 'wandb'):
        monkeypatch.setitem(sys.modules, name, None)  # an import of it fails
        monkeypatch.setitem(sys.modules, f'{name}.summary', None)
        with pytest.raises(UserError, match=f"pip install '{name}'"):
            make_sinks([name], tmp_path, {}, pytest.fail)


ROW = {'step': 5, 'phase': 'train', 'seed': 1, 'variant': 'dtql', 'pi/q': np.float32(2.5)}
ROW['episode/return'] = [1.0, 2.0]  # no curve


def tell(sink):
    """What a run tells of a row and of its end."""
    sink(Event('log', 5, Path(), [ROW]))
    sink(Event('end', 5, Path()))


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
    (sink,) = make_sinks(['tensorboard'], tmp_path, {}, pytest.fail)
    tell(sink)
    folder = str(tmp_path / 'tensorboard' / 'dtql' / 'seed1')
    assert written == [(folder, 'pi/q', 2.5, 5), 'closed']


def test_TensorBoardSink__with_the_package_itself(tmp_path):
    pytest.importorskip('tensorboard')
    (sink,) = make_sinks(['tensorboard'], tmp_path, {}, pytest.fail)
    tell(sink)
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
        (sink,) = make_sinks(['wandb'], tmp_path, {'alpha': 1.0}, pytest.fail)
        tell(sink)
    assert ids[0] == ids[1]
    assert calls[:3] == [('*', 'update'), {'update': 5, 'pi/q/dtql/seed1': 2.5}, 'finished']


def test_make_sinks__one_that_cannot_be_opened_is_left_out(tmp_path, monkeypatch):
    def init(**_):
        raise ConnectionError('no route to\nthe host')

    monkeypatch.setitem(sys.modules, 'wandb', types.SimpleNamespace(init=init))
    warnings = []
    assert make_sinks(['wandb'], tmp_path, {}, warnings.append) == []
    assert warnings == [
        'logging to wandb failed (ConnectionError: no route to the host): '
        'the run goes on without it'
    ]
