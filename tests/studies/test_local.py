"""The launcher of this machine, without training."""

import os
import signal

import pytest

from dtql_jax.studies.launch import LaunchOptions, Machine
from dtql_jax.studies.local import settle, worker_environments
from dtql_jax.studies.status import (
    DONE,
    FAILED,
    RUNNING,
    STOPPED,
    JobStatus,
    read_state,
    write_state,
)
from dtql_jax.types import UserError

GPUS = Machine('gpu', 4, 'H100')


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in ('CUDA_VISIBLE_DEVICES', 'XLA_PYTHON_CLIENT_MEM_FRACTION'):
        monkeypatch.delenv(name, raising=False)


def test_worker_environments__one_worker_for_each_gpu():
    found = worker_environments(LaunchOptions(), GPUS)
    assert found == [{'CUDA_VISIBLE_DEVICES': name} for name in '0123']
    assert len(worker_environments(LaunchOptions(devices=2), GPUS)) == 2


def test_worker_environments__keeps_to_the_gpus_that_the_user_chose(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '5,GPU-ab')
    found = worker_environments(LaunchOptions(), Machine('gpu', 2, 'H100'))
    assert [changes['CUDA_VISIBLE_DEVICES'] for changes in found] == ['5', 'GPU-ab']


def test_worker_environments__shares_the_memory_of_a_gpu(monkeypatch):
    options = LaunchOptions(devices=1, jobs_per_device=3)
    found = worker_environments(options, GPUS)
    assert [changes['XLA_PYTHON_CLIENT_MEM_FRACTION'] for changes in found] == ['0.250'] * 3
    monkeypatch.setenv('XLA_PYTHON_CLIENT_MEM_FRACTION', '0.9')
    assert worker_environments(options, GPUS)[0]['XLA_PYTHON_CLIENT_MEM_FRACTION'] == '0.300'


def test_worker_environments__more_devices_than_there_are():
    with pytest.raises(UserError, match='`devices`=5: this machine has 4 x H100'):
        worker_environments(LaunchOptions(devices=5), GPUS)
    with pytest.raises(UserError, match='1 x cpu; `jobs_per_device` runs more'):
        worker_environments(LaunchOptions(devices=2), Machine())


def test_worker_environments__another_platform_is_one_worker():
    assert worker_environments(LaunchOptions(), Machine('tpu', 8, 'v5e')) == [{}]


@pytest.mark.skipif(not hasattr(os, 'sched_getaffinity'), reason='cores cannot be chosen here')
def test_worker_environments__a_cpu_gives_each_worker_its_cores(monkeypatch):
    assert worker_environments(LaunchOptions(), Machine()) == [{}]
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {0, 2, 4, 6, 8})
    found = worker_environments(LaunchOptions(jobs_per_device=2), Machine())
    assert [changes['DTQL_CORES'] for changes in found] == ['0,2', '4,6,8']
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {1, 3})
    found = worker_environments(LaunchOptions(jobs_per_device=3), Machine())
    assert {changes['DTQL_CORES'] for changes in found} == {'1', '3'}


class Ended:
    """A process that has ended."""

    def __init__(self, code, pid=7):
        self.returncode, self.pid = code, pid


ENDS = {
    'wrote it': (0, JobStatus(name='a', state=DONE, pid=7), DONE, ''),
    'failed': (2, JobStatus(name='a', state=FAILED, pid=7, reason='no data'), FAILED, 'no data'),
    'killed': (-9, JobStatus(name='a', state=RUNNING, pid=7), FAILED, 'by signal 9 (memory?)'),
    'crashed': (-11, JobStatus(name='a', state=RUNNING, pid=7), FAILED, 'killed by signal 11'),
    'no program': (1, JobStatus(name='a', state=RUNNING, pid=3), FAILED, 'exit code 1: see'),
    'early': (-signal.SIGTERM, JobStatus(name='a', state=RUNNING, pid=3), STOPPED, ''),
    'late': (143, JobStatus(name='a', state=RUNNING, pid=7), STOPPED, ''),
    'elsewhere': (3, JobStatus(name='a', state=RUNNING, pid=3), RUNNING, ''),
}


@pytest.mark.parametrize('name', ENDS)
def test_settle__writes_what_the_process_could_not(name, tmp_path):
    code, wrote, state, reason = ENDS[name]
    write_state(tmp_path, wrote)
    found = settle(tmp_path, 'a', Ended(code))
    assert found.state == state
    assert reason in found.reason
    assert read_state(tmp_path, 'a') == found
