"""The plan of a study and the state of its jobs as text."""

import math
from collections.abc import Sequence

from dtql_jax.report.console import duration
from dtql_jax.report.tables import table
from dtql_jax.studies.folder import Job
from dtql_jax.studies.launch import Machine
from dtql_jax.studies.status import DONE, FAILED, RUNNING, STOPPED, WAITING, JobStatus

UNKNOWN = '-'


def plan_table(
    jobs: Sequence[Job], notes: Sequence[str], machine: Machine, workers: int, states: Sequence[str]
) -> str:
    """The jobs with what each takes, and the totals.

    Args:
        jobs: the jobs.
        notes: lines that follow.
        machine: the devices of this machine.
        workers: how many jobs run side by side.
        states: the state of each job.
    """
    rows = [('job', 'state', 'lanes', 'memory from', 'time, roughly')]
    for job, state in zip(jobs, states, strict=True):
        rows.append((job.name, state, str(job.lanes), _size(job.memory), _time(job.seconds)))
    lanes = sum(job.lanes for job in jobs)
    left = [
        job.seconds for job, state in zip(jobs, states, strict=True) if state not in (DONE, FAILED)
    ]
    total = None
    if all(seconds is not None for seconds in left):
        total = makespan([seconds or 0.0 for seconds in left], workers)
    devices = f'{machine.count} x {machine.kind}'
    lines = [
        table(rows),
        '',
        f'{_count(len(jobs), "job")}, {_count(lanes, "lane")}; {_count(len(left), "job")} to run, '
        f'{workers} at a time ({devices}), in roughly {_time(total)}',
        *(f'note: {note}' for note in notes),
    ]
    return '\n'.join(lines)


def status_table(statuses: Sequence[JobStatus]) -> str:
    """The state of each job, and how many there are of each state."""
    rows = [('job', 'state', 'updates', 'left', 'where')]
    for status in statuses:
        where = status.host if status.state == RUNNING else ''
        rows.append((status.name, status.state, updates(status), _left(status), where))
    reasons = [
        f'{status.name} {status.state}: {status.reason}' for status in statuses if status.reason
    ]
    return '\n'.join([table(rows), '', summary(statuses), *reasons])


def summary(statuses: Sequence[JobStatus]) -> str:
    """How many jobs there are of each state."""
    states = [status.state for status in statuses]
    counts = [
        f'{states.count(state)} {state}'
        for state in (DONE, RUNNING, FAILED, STOPPED, WAITING)
        if state in states
    ]
    return f'{_count(len(states), "job")}: {", ".join(counts)}'


def updates(status: JobStatus) -> str:
    """`1,200/2,000` of a job that has told."""
    if status.step is None or status.total is None:
        return UNKNOWN
    return f'{status.step:,}/{status.total:,}'


def makespan(seconds: Sequence[float], workers: int) -> float:
    """How long jobs take that start in order, each on the worker that is free first."""
    busy = [0.0] * workers
    for job in seconds:
        busy[busy.index(min(busy))] += job
    return max(busy)


def _left(status: JobStatus) -> str:
    return _time(status.left_s) if status.state == RUNNING else ''


def _time(seconds: float | None) -> str:
    return UNKNOWN if seconds is None or not math.isfinite(seconds) else duration(seconds)


def _size(size: int | None) -> str:
    return UNKNOWN if size is None else f'{size / 2**20:,.0f} MiB'


def _count(number: int, noun: str) -> str:
    return f'{number:,} {noun}' + ('' if number == 1 else 's')
