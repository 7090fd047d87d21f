"""The plan of a study and the state of its jobs as text."""

from dtql_jax.studies.folder import Job
from dtql_jax.studies.launch import Machine
from dtql_jax.studies.status import JobStatus
from dtql_jax.studies.tables import makespan, plan_table, status_table

JOBS = [Job('a', {}, 4, 3 * 2**20, 100.0), Job('bcd', {}, 1, None, 60.0), Job('e', {}, 1, 0, 60.0)]


def test_plan_table__shows_each_job_and_the_totals():
    states, pending = ['done', 'waiting', 'failed'], ('bcd', 'e')
    lines = plan_table(JOBS, states, pending, Machine('gpu', 2, 'H100'), 2).splitlines()
    assert lines[2].split() == ['a', 'done', '4', '3', 'MiB', '1:40', 'min']
    assert lines[3].split() == ['bcd', 'waiting', '1', '-', '1:00', 'min']
    assert lines[-1] == (
        '3 jobs, 6 lanes; 2 jobs to run, 2 at a time (2 x H100), in roughly 1:00 min'
    )
    text = plan_table(JOBS, states, pending, Machine('gpu', 2, 'H100'), None)
    assert text.endswith('2 jobs to run, roughly 2:00 min of work for one H100')
    assert plan_table(JOBS, states, (), Machine(), 1).endswith('\n3 jobs, 6 lanes')


def test_plan_table__does_not_guess_what_is_unknown():
    text = plan_table([Job('a', {}, 1)], ['waiting'], ('a',), Machine(), 1)
    assert text.endswith('1 job, 1 lane; 1 job to run, 1 at a time (1 x cpu), in roughly -')


def test_makespan__is_that_of_workers_side_by_side():
    assert makespan([3, 1, 1, 1], 2) == 3
    assert makespan([1, 1, 3], 2) == 4
    assert makespan([], 2) == 0


def test_status_table__shows_progress_and_reasons():
    text = status_table([
        JobStatus(name='a', state='running', step=1500, total=3000, left_s=90.0, host='node1'),
        JobStatus(name='b', state='failed', reason='no memory', step=1, total=3000, left_s=5.0),
        JobStatus(name='c', state='waiting'),
    ])  # fmt: skip
    lines = [line.split() for line in text.splitlines()]
    assert lines[2] == ['a', 'running', '1,500/3,000', '1:30', 'min', 'node1']
    assert lines[3] == ['b', 'failed', '1/3,000']
    assert lines[4] == ['c', 'waiting', '-']
    assert text.endswith('3 jobs: 1 running, 1 failed, 1 waiting\nb failed: no memory')
