"""The states of a study's jobs: written by each job's process, read by anybody, on any machine."""

import dataclasses
import fcntl
import json
import os
import pathlib
import socket
import time
from typing import Any

from dtql_jax.studies.folder import lock_file, read_json, read_plan, state_file, write_whole
from dtql_jax.types import UserError

RUNNING, DONE, FAILED, STOPPED, WAITING = 'running', 'done', 'failed', 'stopped', 'waiting'
STATES = (RUNNING, DONE, FAILED, STOPPED, WAITING)
# A job writes its state at least every ten seconds while its process lives.
HEARTBEAT_S = 10.0
SILENT_S = 60.0  # so old is the state of a job whose process is gone
GONE = 'its process is gone'


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobStatus:
    """The state of a job. None and '' stand for what is not known.

    Args:
        name: the job.
        state: 'done', 'running', 'failed', 'stopped', or 'waiting' where it was never started.
        reason: why it failed or stopped.
        host: the machine of its process.
        pid: the number of its process there.
        started: when that process began, in seconds since 1970.
        updated: when it told its state last.
        step: the updates that are made.
        total: the updates of the whole run.
        updates_per_s: its rate.
        left_s: the seconds that are left, about.
    """

    name: str
    state: str
    reason: str = ''
    host: str = ''
    pid: int | None = None
    started: float | None = None
    updated: float | None = None
    step: int | None = None
    total: int | None = None
    updates_per_s: float | None = None
    left_s: float | None = None


def write_state(study_dir: pathlib.Path, status: JobStatus) -> None:
    """Writes the state of a job, at once as a whole."""
    fields = dataclasses.asdict(status)
    del fields['name']
    write_whole(state_file(study_dir, status.name), json.dumps(fields))


def read_state(study_dir: pathlib.Path, job: str) -> JobStatus:
    """The state of a job as its process wrote it; 'waiting' where none did.

    Raises:
        UserError: the file is damaged.
    """
    path = state_file(study_dir, job)
    if not path.exists():
        return JobStatus(name=job, state=WAITING)
    cure = 'delete the file: its job goes on from its last checkpoint'
    found = read_json(path, cure)
    known = {field.name for field in dataclasses.fields(JobStatus)} - {'name'}
    fields: dict[str, Any] = {name: value for name, value in found.items() if name in known}
    if wrong := [name for name, value in fields.items() if not _sound(name, value)]:
        raise UserError(f'{path}: {wrong[0]}={fields[wrong[0]]!r} is no state of a job: {cure}')
    return JobStatus(name=job, **{'state': STOPPED, **fields})


def _sound(name: str, value: Any) -> bool:
    """Whether a field of a state can have a value."""
    if name == 'state':
        return value in STATES
    if name in ('reason', 'host'):
        return isinstance(value, str)
    kinds = (int,) if name in ('pid', 'step', 'total') else (int, float)
    return value is None or (isinstance(value, kinds) and not isinstance(value, bool))


def read_status(study_dir: pathlib.Path) -> list[JobStatus]:
    """The states of all jobs of a study, in its order.

    A job whose state says that it is running counts as stopped where its process is gone.

    Raises:
        UserError: the folder is no study, or a file in it is damaged.
    """
    return [job_status(study_dir, name) for name in read_plan(study_dir).names()]


def job_status(study_dir: pathlib.Path, job: str) -> JobStatus:
    """The state of a job; see `read_status`."""
    status = read_state(study_dir, job)
    if status.state == RUNNING and not alive(study_dir, status):
        return dataclasses.replace(status, state=STOPPED, reason=GONE, left_s=None)
    return status


def alive(study_dir: pathlib.Path, status: JobStatus) -> bool:
    """Whether the process of a job that says it is running still is."""
    silent = time.time() - (status.updated or 0.0) > SILENT_S
    gone = status.host == socket.gethostname() and not _exists(status.pid)
    # The lock is looked at only where there is a doubt: looking holds it for a moment.
    return locked(study_dir, status.name) if silent or gone else True


def _exists(pid: int | None) -> bool:
    """Whether this machine has a process of this number."""
    try:
        os.kill(pid or 0, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def locked(study_dir: pathlib.Path, job: str) -> bool:
    """Whether a process holds the lock of a job, as far as the file system tells."""
    try:
        with lock_file(study_dir, job).open('rb') as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or a file system without locks
        return False
    return False
