"""Real studies on a SLURM cluster: cancelled, told to stop and requeued, they lose no bit.

They run where `squeue` answers, such as on a login node, and start no cluster.
"""

import shutil
import subprocess

import pytest

from dtql_jax.studies.folder import log_file, read_json
from dtql_jax.studies.status import RUNNING, read_status
from tests.helpers.small_study import BC, IQL, LIMIT_S, assert_same_study, under_way, wait_for

FLAGS = ('--launcher=slurm', '--cpus=1', '--memory_gb=2')


def slurm(*command):
    """The output of a command of SLURM."""
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def why_not():
    """Why the tests cannot run here; '' where they can."""
    if shutil.which('squeue') is None:
        return 'there is no SLURM'
    try:
        return '' if 'up' in slurm('sinfo', '--noheader') else 'SLURM has no partition that is up'
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        return f'SLURM does not answer: {error}'


@pytest.fixture(autouse=True, scope='session')
def cluster():
    """Skips before any other fixture of the session trains."""
    pytest.importorskip('submitit', reason='submitit is not installed')
    if reason := why_not():
        pytest.skip(reason)


def number(study, job):
    return read_json(study / 'state' / 'slurm.json', '').get(job)


def queued(name):
    return name in slurm('squeue', '--me', '--noheader', '--array', '--format=%i').split()


def start_soon(name):
    """A job that is in the queue again waits there for two minutes; here for some seconds.

    Not for none: SLURM refuses a job that starts in the second in which it was requeued.
    """
    wait_for(lambda: 'PENDING' in slurm('squeue', '--noheader', f'--jobs={name}', '--format=%T'))
    slurm('scontrol', 'update', f'JobId={name}', 'StartTime=now+5')


def starts(study, job):
    return log_file(study, job).read_text().count(f'--- {job}, process')


@pytest.mark.slow
def test_launch__stopped_in_every_way_it_ends_with_the_same_bits(driver, whole):
    name, study = 'slurm', driver.folder / 'slurm'
    code, text = driver.finish(driver.begin(name, *FLAGS, '--time_limit=60'), name)
    assert code == 0, text
    assert 'submitted to SLURM' in text
    bc, iql = number(study, BC), number(study, IQL)

    under_way(study, BC)
    slurm('scancel', '--signal=USR2', bc)  # as SLURM does near the time limit
    start_soon(bc)

    under_way(study, IQL)
    slurm('scancel', iql)
    wait_for(lambda: not queued(iql))

    under_way(study, BC)
    slurm('scontrol', 'requeue', bc)  # as a preemption does
    wait_for(lambda: all(s.state != RUNNING for s in read_status(study)))

    process = driver.start(name, *FLAGS, '--time_limit=60', '--wait')
    wait_for(lambda: number(study, IQL) != iql)
    start_soon(bc)
    code, text = driver.finish(process, name)
    assert code == 0, text
    assert 'SLURM has 1 of the jobs, which are not submitted again' in text
    assert '2 jobs: 2 done; 0 in the queue of SLURM' in text
    assert number(study, BC) == bc
    assert_same_study(study, whole)
    assert starts(study, BC) == 3
    assert starts(study, IQL) == 2


@pytest.mark.slow
def test_launch__a_partition_that_is_absent_is_one_line(driver):
    name = 'partition'
    process = driver.begin(name, *FLAGS, '--time_limit=1', '--partition=absent')
    code, text = driver.finish(process, name)
    assert (code, text.count('error: SLURM takes no job')) == (2, 1)
    assert 'invalid partition specified: absent' in text
    assert process.wait(LIMIT_S) == 2
