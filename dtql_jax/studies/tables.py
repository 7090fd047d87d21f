"""The plan of a study and the state of its jobs as text."""

import math
from collections.abc import Collection, Sequence

from dtql_jax.report.console import duration
from dtql_jax.report.tables import table
from dtql_jax.studies.folder import Job
from dtql_jax.studies.launch import Machine
from dtql_jax.studies.status import DONE, FAILED, RUNNING, STOPPED, WAITING, JobStatus

UNKNOWN = '-'


def plan_table(
    jobs: Sequence[Job],
    states: Sequence[str],
    pending: Collection[str],
    machine: Machine,
    workers: int | None,
) -> str:
    """The jobs with what each takes, and the totals.

    Args:
        jobs: the jobs.
        states: the state of each job.
        pending: the names of those that are to start.
        machine: the devices of this machine.
        workers: how many jobs run side by side; None where another program decides that.
    """
    rows = [('job', 'state', 'lanes', 'memory from', 'time, roughly')]
    for job, state in zip(jobs, states, strict=True):
        rows.append((job.name, state, str(job.lanes), _size(job.memory), _time(job.seconds)))
    lanes = _count(sum(job.lanes for job in jobs), 'lane')
    text = f'{table(rows)}\n\n{_count(len(jobs), "job")}, {lanes}'
    seconds = [job.seconds for job in jobs if job.name in pending]
    if not seconds:
        return text
    known = [second for second in seconds if second is not None]
    total = makespan(known, workers or 1) if len(known) == len(seconds) else None
    text += f'; {_count(len(seconds), "job")} to run'
    if workers is None:
        return f'{text}, roughly {_time(total)} of work for one {machine.kind}'
    return (
        f'{text}, {workers} at a time ({machine.count} x {machine.kind}), in roughly {_time(total)}'
    )


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
