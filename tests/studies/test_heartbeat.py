"""The pulse of a job."""

import io
import os
import time

import numpy as np
import pytest

from dtql_jax.studies import heartbeat
from dtql_jax.studies.heartbeat import Heartbeat, StateConsole
from dtql_jax.studies.status import DONE, RUNNING, JobStatus, read_state, write_state
from dtql_jax.types import Lane, Phase, UserError

PHASE = Phase('train', lambda *_: None, 10, 1)


@pytest.fixture
def always(monkeypatch):
    """Writes at each call."""
    monkeypatch.setattr(heartbeat, 'OFTEN_S', -1.0)


def test_heartbeat__tells_that_the_job_runs_and_how_it_ended(tmp_path):
    write_state(tmp_path, JobStatus(name='a', state='stopped', reason='x', step=3, total=10))
    with Heartbeat(tmp_path, 'a') as beat:
        state = read_state(tmp_path, 'a')
        assert (state.state, state.reason, state.pid) == (RUNNING, '', os.getpid())
        assert (state.step, state.total) == (3, 10)
        beat.end(DONE, 'no score')
    state = read_state(tmp_path, 'a')
    assert (state.state, state.reason, state.left_s) == (DONE, 'no score', None)


def test_heartbeat__beats_while_nothing_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, 'HEARTBEAT_S', 0.01)
    with Heartbeat(tmp_path, 'a'):
        first = read_state(tmp_path, 'a').updated
        end = time.monotonic() + 30
        while read_state(tmp_path, 'a').updated == first:
            assert time.monotonic() < end


def test_heartbeat__writes_progress_not_too_often(tmp_path, monkeypatch):
    with Heartbeat(tmp_path, 'a') as beat:
        beat.tell(step=1)
        assert read_state(tmp_path, 'a').step is None
        monkeypatch.setattr(heartbeat, 'OFTEN_S', -1.0)
        beat.tell(step=2)
        assert read_state(tmp_path, 'a').step == 2


def test_heartbeat__a_full_disk_stops_no_job(tmp_path, monkeypatch, always):
    def full(*_):
        raise UserError('no space')

    with Heartbeat(tmp_path, 'a') as beat:
        monkeypatch.setattr(heartbeat, 'write_state', full)
        beat.tell(step=1)
        beat.end(DONE)


def test_state_console__tells_the_progress(tmp_path, always):
    with Heartbeat(tmp_path, 'a') as beat:
        console = StateConsole(beat)
        console.stream = io.StringIO()
        console.progress(PHASE, 5, 10, 2.0)
        state = read_state(tmp_path, 'a')
        assert (state.step, state.total, state.updates_per_s, state.left_s) == (5, 10, 2.0, 2.5)
        console.evaluated(6, [Lane('a', 0)], np.array([1.0]), 3.0)
        assert read_state(tmp_path, 'a').step == 6
        assert 'score a 1.0' in console.stream.getvalue()
