"""The process of one job."""

import contextlib
import fcntl
import signal
import subprocess
import sys

import pytest

from dtql_jax.runs.policy import Run
from dtql_jax.studies.folder import (
    Job,
    StudyPlan,
    lock_file,
    log_file,
    make,
    read_plan,
    run_dir,
    write_plan,
)
from dtql_jax.studies.launch import DRIVER_PIPE, command
from dtql_jax.studies.status import DONE, FAILED, STOPPED, JobStatus, read_state, write_state
from tests.helpers.small_runs import ENV, process
from tests.helpers.small_study import LIMIT_S, under_way

QUICK = {
    'env': ENV, 'agent': 'bc', 'num_seeds': 1, 'hidden': 8, 'batch_size': 8, 'steps': 4,
    'eval_every': 2, 'eval_episodes': 1,
}  # fmt: skip
LONG = {**QUICK, 'steps': 100_000_000, 'eval_every': 100_000_000}


def make_study(folder, **requests):
    """A study whose jobs have these requests."""
    for name in ('state', 'logs'):
        make(folder / name)
    jobs = tuple(Job(name, request, 1) for name, request in requests.items())
    write_plan(folder, StudyPlan({'modules': []}, str(folder), jobs))
    return folder


def job(study, name='a', **options):
    """The process of a job, which has ended."""
    return process('-m', 'dtql_jax.studies.job', study, name, **options)


def test_main__names_a_mistake(tmp_path):
    make_study(tmp_path, a=QUICK)
    result = job(tmp_path, 'b')
    assert (result.returncode, result.stderr) == (
        2, "error: the study has no job 'b': there are a\n",
    )  # fmt: skip
    assert job(tmp_path / 'none').returncode == 2


def test_main__says_that_a_job_is_done(tmp_path):
    make_study(tmp_path, a=QUICK, b=QUICK)
    write_state(tmp_path, JobStatus(name='a', state=DONE))
    write_state(tmp_path, JobStatus(name='b', state=DONE, reason='no lane has a score'))
    results = [job(tmp_path, name) for name in 'ab']
    assert [(r.returncode, r.stdout) for r in results] == [
        (0, 'a is done\n'), (1, 'b is done: no lane has a score\n'),
    ]  # fmt: skip


def test_main__leaves_a_job_to_the_process_that_has_it(tmp_path):
    make_study(tmp_path, a=QUICK)
    with lock_file(tmp_path, 'a').open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        result = job(tmp_path)
    assert (result.returncode, result.stderr) == (3, 'a is under way in another process\n')
    assert read_state(tmp_path, 'a').state == 'waiting'


@pytest.mark.slow
def test_main__trains_and_repeats_nothing(here):
    make_study(here, a=QUICK)
    result = job(here)
    assert result.returncode == 0, result.stderr + log_file(here, 'a').read_text()
    assert result.stdout.splitlines() == [
        f'a: its output goes to {log_file(here, "a")}', 'a: done',
    ]  # fmt: skip
    state = read_state(here, 'a')
    assert (state.state, state.step, state.total) == (DONE, 4, 4)
    assert 'bc on minari:test/pendulum-v0' in log_file(here, 'a').read_text()
    assert job(here).stdout == 'a is done\n'

    (here / 'state' / 'a.json').unlink()  # which only tells what the run folder has
    assert job(here).returncode == 0
    assert Run(run_dir(here, 'a')).cursor.step == 4


@pytest.mark.slow
def test_main__a_failure_is_one_line_and_in_the_state(here):
    make_study(here, a={**QUICK, 'env': 'minari:test/none-v0'})
    result = job(here)
    assert result.returncode == 2
    state = read_state(here, 'a')
    assert state.state == FAILED
    assert 'test/none-v0' in state.reason
    assert result.stdout.splitlines()[-1] == f'a: failed: {state.reason}'
    assert f'error: {state.reason}\n' in log_file(here, 'a').read_text()


@contextlib.contextmanager
def started(study, **options):
    """The process of a job that trains."""
    process = subprocess.Popen(command(study, 'a'), start_new_session=True, **options)
    try:
        under_way(study, 'a')
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    ('number', 'code'), [(signal.SIGINT, 130), (signal.SIGUSR1, 143), (signal.SIGUSR2, 143)]
)
def test_main__a_signal_saves_and_stops(number, code, here):
    make_study(here, a=LONG)
    with started(here) as process:
        process.send_signal(number)
        assert process.wait(LIMIT_S) == code
    assert read_state(here, 'a').state == STOPPED
    assert Run(run_dir(here, 'a')).cursor.step > 0


@pytest.mark.slow
def test_main__stops_with_its_driver(here, monkeypatch):
    monkeypatch.setenv(DRIVER_PIPE, '1')
    make_study(here, a=LONG)
    with started(here, stdin=subprocess.PIPE) as process:
        process.stdin.close()
        assert process.wait(LIMIT_S) == 143
    assert read_plan(here).names() == ('a',)
    assert read_state(here, 'a').state == STOPPED


@pytest.mark.slow
def test_main__a_second_start_says_who_has_the_job(here):
    make_study(here, a=LONG)
    with started(here):
        assert job(here).returncode == 3
        assert read_state(here, 'a').state == 'running'


def test_module__loads_no_jax_before_the_cores_are_chosen(tmp_path):
    code = 'import sys, dtql_jax.studies.job; print({"jax", "numpy"} & set(sys.modules))'
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.stdout == 'set()\n', result.stderr
