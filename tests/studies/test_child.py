"""The process of a job below a worker, with programs of a line in the place of jobs."""

import pathlib
import signal
import sys
import threading
import time

import pytest

from dtql_jax.studies import child, local
from dtql_jax.studies.child import Child
from dtql_jax.studies.status import DONE, RUNNING, STOPPED, JobStatus, write_state

STOPS_AT_SIGTERM = """
import pathlib, signal, sys, time
def stop(*_):
    pathlib.Path('saved').touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
pathlib.Path('begun').touch()
time.sleep(60)
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Sets the program that stands for a job; its working folder is the study's."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path('logs').mkdir()

    def put(text):
        command = [sys.executable, '-S', '-c', text]
        monkeypatch.setattr(local, 'command', lambda study_dir, job: command)

    return put


def wait_for(path):
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_run__is_the_state_that_the_job_wrote(program, tmp_path):
    program('')
    write_state(tmp_path, JobStatus(name='a', state=DONE))
    assert Child(tmp_path, 'a', {}).run().state == DONE


def test_run__a_handler_may_stop_the_job_that_is_waited_for(program, tmp_path):
    """As submitit's does: it runs inside of the waiting."""
    program(STOPS_AT_SIGTERM)
    ours = Child(tmp_path, 'a', {})

    def handle(*_):
        ours.signal()
        ours.wait()
        assert pathlib.Path('saved').exists()

    before = signal.signal(signal.SIGUSR2, handle)
    try:
        wait_for(tmp_path / 'begun')
        threading.Timer(0.5, signal.raise_signal, [signal.SIGUSR2]).start()
        assert ours.run().state == STOPPED
    finally:
        signal.signal(signal.SIGUSR2, before)
    ours.signal()  # its process number may be another's: nothing is sent


def test_run__tries_again_where_another_process_has_the_job(program, tmp_path, monkeypatch):
    monkeypatch.setattr(child, 'HELD_S', 0.01)
    program("""
import pathlib, sys
path = pathlib.Path('tries')
tries = int(path.read_text()) + 1 if path.exists() else 1
path.write_text(str(tries))
sys.exit(3 if tries < 3 else 0)
""")
    write_state(tmp_path, JobStatus(name='a', state=DONE))
    assert Child(tmp_path, 'a', {}).run().state == DONE
    assert pathlib.Path('tries').read_text() == '3'


def test_run__gives_up_where_another_process_keeps_the_job(program, tmp_path, monkeypatch):
    monkeypatch.setattr(child, 'HELD_S', 0.01)
    monkeypatch.setattr(child, 'HELD_TRIES', 2)
    program('raise SystemExit(3)')
    write_state(tmp_path, JobStatus(name='a', state=RUNNING))
    assert Child(tmp_path, 'a', {}).run() is None


def test_init__gives_the_job_its_variables_and_a_pipe(program, tmp_path):
    program("""
import os, pathlib
pathlib.Path('seen').write_text(os.environ['MINE'] + os.environ['DTQL_DRIVER_PIPE'])
""")
    Child(tmp_path, 'a', {'MINE': 'x'}).run()
    assert pathlib.Path('seen').read_text() == 'x1'
