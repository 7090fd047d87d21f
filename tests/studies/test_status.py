"""The states of a study's jobs."""

import dataclasses
import fcntl
import json
import os
import time

import pytest

from dtql_jax.studies import status as status_module
from dtql_jax.studies.folder import Job, StudyPlan, lock_file, state_file, write_plan
from dtql_jax.studies.status import (
    DONE,
    GONE,
    RUNNING,
    STOPPED,
    WAITING,
    JobStatus,
    read_state,
    read_status,
    write_state,
)
from dtql_jax.types import UserError


@pytest.fixture
def study(tmp_path):
    """A study of two jobs that were never started."""
    write_plan(tmp_path, StudyPlan({}, '/', (Job('a', {}, 2), Job('b', {}, 2))))
    return tmp_path


def running(**fields):
    """The state of a job that this process would run."""
    now = time.time()
    values = {'host': status_module.socket.gethostname(), 'pid': os.getpid(), 'updated': now}
    return JobStatus(name='a', state=RUNNING, **{**values, **fields})


def test_write_state__is_read_back(study):
    written = running(step=3, total=10, left_s=1.5, updates_per_s=4.0, started=1.0)
    write_state(study, written)
    assert read_state(study, 'a') == written
    assert not [path for path in (study / 'state').iterdir() if path.name.startswith('.a.json')]


def test_read_status__lists_all_jobs_in_order(study):
    write_state(study, JobStatus(name='b', state=DONE))
    assert [(s.name, s.state) for s in read_status(study)] == [('a', WAITING), ('b', DONE)]


def test_read_status__leaves_out_fields_of_a_later_version(study):
    state_file(study, 'a').parent.mkdir()
    state_file(study, 'a').write_text('{"state": "done", "mood": "good"}')
    assert read_state(study, 'a') == JobStatus(name='a', state=DONE)


def first_state(study, **fields):
    write_state(study, running(**fields))
    return read_status(study)[0]


def test_read_status__a_living_process_is_running(study):
    assert first_state(study).state == RUNNING
    assert first_state(study, host='elsewhere', pid=1).state == RUNNING


def test_read_status__a_process_that_is_gone_is_stopped(study):
    found = first_state(study, pid=2**22 + 1)  # above Linux's highest
    assert (found.state, found.reason) == (STOPPED, GONE)


def test_read_status__an_old_state_counts_while_the_lock_is_held(study):
    old = {'host': 'elsewhere', 'updated': time.time() - 3600}
    assert first_state(study, **old).state == STOPPED
    with lock_file(study, 'a').open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert first_state(study, **old).state == RUNNING
    assert first_state(study, **old).state == STOPPED


def test_read_status__names_what_is_damaged(study, tmp_path):
    with pytest.raises(UserError, match='is no folder of a study'):
        read_status(tmp_path / 'none')
    state_file(study, 'a').parent.mkdir()
    wrong = ('"state": 5', '"state": "odd"', '"step": "x"', '"updated": "x"', '"reason": 3')
    for text in ('', '[]', '{"state": ', *(f'{{{field}}}' for field in wrong)):
        state_file(study, 'a').write_text(text)
        with pytest.raises(UserError, match=r'a\.json'):
            read_status(study)
    plan = json.loads((study / 'plan.json').read_text())
    (study / 'plan.json').write_text(json.dumps({**plan, 'format': 99}))
    with pytest.raises(UserError, match='has format 99'):
        read_status(study)


def test_job_status__of_a_study_is_plain_data():
    assert json.loads(json.dumps(dataclasses.asdict(running())))
