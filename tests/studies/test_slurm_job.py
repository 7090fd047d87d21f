"""What submitit calls on a node, with a job that is made up."""

import os
import pickle
import signal
import subprocess

import pytest

from dtql_jax.studies import slurm_job
from dtql_jax.studies.slurm_job import BARREN, SlurmJob
from dtql_jax.studies.status import (
    DONE,
    FAILED,
    RUNNING,
    STOPPED,
    JobStatus,
    read_state,
    write_state,
)


class MadeUpChild:
    """A job that ends as it is told; keeps what is asked of it."""

    end = JobStatus(name='a', state=DONE)
    asked: list[str]

    def __init__(self, study_dir, job, changes):
        type(self).asked = [job]

    def run(self):
        return self.end() if callable(self.end) else self.end

    def signal(self):
        self.asked.append('save')

    def wait(self):
        self.asked.append('wait')


@pytest.fixture
def child(monkeypatch):
    monkeypatch.setattr(slurm_job, 'Child', MadeUpChild)
    return lambda end: monkeypatch.setattr(MadeUpChild, 'end', end)


@pytest.fixture
def squeue(monkeypatch):
    """Sets what SLURM says of this job; returns what it was asked."""
    asked = []

    def put(state):
        def run(line, **_):
            asked.append(line)
            return subprocess.CompletedProcess(line, 0, stdout=f'{state}\n')

        monkeypatch.setattr(slurm_job.subprocess, 'run', run)
        return asked

    return put


def test_call__is_the_state_of_a_job_that_is_done(child, tmp_path):
    child(JobStatus(name='a', state=DONE))
    assert SlurmJob(str(tmp_path), 'a', 60)() == DONE
    assert MadeUpChild.asked == ['a']
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    ('end', 'said'),
    [
        (JobStatus(name='a', state=FAILED, reason='no data'), 'a: no data; see .*logs/a.log'),
        (JobStatus(name='a', state=STOPPED), 'a: stopped; see'),
        (None, 'a: another process has it'),
    ],
)
def test_call__counts_as_failed_where_the_job_is_not_done(end, said, child, squeue, tmp_path):
    child(end)
    squeue('COMPLETING')
    with pytest.raises(RuntimeError, match=said):
        SlurmJob(str(tmp_path), 'a', 60)()


def test_call__passes_sigterm_on_to_the_job(child, squeue, tmp_path):
    def end(_):
        os.kill(os.getpid(), signal.SIGTERM)
        return JobStatus(name='a', state=STOPPED)

    child(end)
    squeue('')
    with pytest.raises(RuntimeError, match='a: stopped'):
        SlurmJob(str(tmp_path), 'a', 60)()
    assert MadeUpChild.asked == ['a', 'save']


def test_call__a_job_that_is_preempted_soon_goes_to_the_queue(child, squeue, tmp_path):
    """SIGTERM has stopped it, and SLURM says that it runs."""
    pytest.importorskip('submitit', reason='submitit is not installed')
    child(JobStatus(name='a', state=STOPPED))
    squeue('RUNNING')

    def leave(*_):
        raise SystemExit  # as submitit's handler does in the end

    before = signal.signal(signal.SIGUSR2, leave)
    try:
        with pytest.raises(SystemExit):
            SlurmJob(str(tmp_path), 'a', 60)()
    finally:
        signal.signal(signal.SIGUSR2, before)


@pytest.mark.parametrize(
    ('variables', 'job'),
    [
        ({'JOB_ID': '7'}, '7'),
        # The last element has the number of the array.
        ({'JOB_ID': '7', 'ARRAY_JOB_ID': '7', 'ARRAY_TASK_ID': '2'}, '7_2'),
    ],
)
def test_call__asks_slurm_for_its_own_job(variables, job, child, squeue, tmp_path, monkeypatch):
    for name in ('JOB_ID', 'ARRAY_JOB_ID', 'ARRAY_TASK_ID'):
        monkeypatch.delenv(f'SLURM_{name}', raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(f'SLURM_{name}', value)
    child(JobStatus(name='a', state=STOPPED))
    asked = squeue('COMPLETING')
    with pytest.raises(RuntimeError):
        SlurmJob(str(tmp_path), 'a', 60)()
    assert asked == [['squeue', '-h', '-j', job, '-o', '%T']]


class Turns:
    """Turns of a job, each of which ends by `checkpoint`."""

    def __init__(self, study, monkeypatch):
        self.study, self.now = study, 0.0
        monkeypatch.setattr(slurm_job.time, 'monotonic', lambda: self.now)
        self.job = SlurmJob(str(study), 'a', 60)

    def turn(self, seconds, step):
        """Returns whether the job goes to the queue again."""
        self.job()
        self.now += seconds
        write_state(self.study, JobStatus(name='a', state=RUNNING, step=step))
        again = self.job.checkpoint()
        self.job = None if again is None else pickle.loads(pickle.dumps(again.function))
        return self.job is not None


@pytest.fixture
def turns(child, tmp_path, monkeypatch):
    pytest.importorskip('submitit', reason='submitit is not installed')
    child(JobStatus(name='a', state=DONE))
    return Turns(tmp_path, monkeypatch)


def test_checkpoint__saves_and_goes_on(turns):
    for step in range(2 * BARREN):
        assert turns.turn(3400, step)
        assert MadeUpChild.asked == ['a', 'save', 'wait']


def test_checkpoint__gives_up_a_job_that_makes_no_update_in_its_turns(turns, capsys):
    assert turns.turn(3400, 5)
    assert [turns.turn(3400, 5) for _ in range(BARREN)] == [True] * (BARREN - 1) + [False]
    reason = 'no update in 3 turns of 60 minutes: raise the time limit'
    assert f'a: {reason}' in capsys.readouterr().out
    found = read_state(turns.study, 'a')
    assert (found.state, found.reason, found.step) == (FAILED, reason, 5)


def test_checkpoint__an_update_makes_up_for_turns_without(turns):
    steps = [5, 5, 5, 6, 6, 6, 7]
    assert all(turns.turn(3400, step) for step in steps)


def test_checkpoint__preemptions_do_not_count(turns):
    assert all(turns.turn(60, None) for _ in range(3 * BARREN))


def test_checkpoint__may_come_before_the_job_began(tmp_path):
    pytest.importorskip('submitit', reason='submitit is not installed')
    again = SlurmJob(str(tmp_path), 'a', 60, barren=2).checkpoint().function
    assert (again.study_dir, again.job, again.barren) == (str(tmp_path), 'a', 2)
