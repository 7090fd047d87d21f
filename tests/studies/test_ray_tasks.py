"""The launcher for Ray: what needs no cluster."""

import socket
import subprocess
import sys

import pytest

from dtql_jax.studies import ray_tasks
from dtql_jax.studies.folder import Job, StudyPlan, make, write_plan
from dtql_jax.studies.launch import LaunchOptions
from dtql_jax.studies.ray_tasks import check, resources, run_job, variables
from dtql_jax.studies.status import DONE, JobStatus
from dtql_jax.types import UserError

CPUS, GPUS = {'CPU': 8.0, 'memory': 2.0**33}, {'CPU': 8.0, 'GPU': 4.0}


def test_resources__a_core_and_a_gpu_where_there_are_any():
    assert resources(LaunchOptions(), CPUS) == {'num_cpus': 1.0, 'num_gpus': 0.0}
    assert resources(LaunchOptions(), GPUS) == {'num_cpus': 1.0, 'num_gpus': 1.0}


def test_resources__are_those_that_are_asked_for():
    asked = LaunchOptions(cpus=4, gpus=0.25, memory_gb=0.5)
    expected = {'num_cpus': 4.0, 'num_gpus': 0.25, 'memory': 2.0**29}
    assert resources(asked, CPUS) == resources(asked, GPUS) == expected
    assert resources(LaunchOptions(gpus=0), GPUS)['num_gpus'] == 0


def test_resources__a_part_of_several_gpus_is_refused():
    with pytest.raises(UserError, match=r'`gpus`=1\.5: Ray lends a part of one GPU or whole ones'):
        resources(LaunchOptions(gpus=1.5), GPUS)


def test_variables__carries_what_decides_data_and_numbers():
    kept = {'XLA_FLAGS': '--a', 'MINARI_DATASETS_PATH': '/a', 'JAX_PLATFORMS': 'cpu'}
    given = {**kept, 'HOME': '/a', 'HF_TOKEN': 'secret', 'WANDB_API_KEY': 'secret'}
    assert variables(given, 0) == variables(given, 1) == kept


def test_variables__shares_the_memory_of_a_gpu():
    name = 'XLA_PYTHON_CLIENT_MEM_FRACTION'
    assert variables({}, 0.5) == {name: '0.375'}
    assert variables({name: '0.9'}, 0.5) == {name: '0.450'}
    assert variables({}, 2) == {}


@pytest.fixture
def study(tmp_path):
    make(tmp_path / 'logs')
    write_plan(tmp_path, StudyPlan({}, str(tmp_path), (Job('a', {}, 1),)))
    return tmp_path


class MadeUpChild:
    end = None
    asked: list[str]

    def __init__(self, study_dir, job, changes):
        type(self).asked = [job, *changes]

    def run(self):
        if isinstance(self.end, BaseException):
            raise self.end
        return self.end

    def signal(self):
        self.asked.append('save')

    def wait(self):
        self.asked.append('wait')


@pytest.fixture
def child(monkeypatch):
    monkeypatch.setattr(ray_tasks, 'Child', MadeUpChild)
    return lambda end: monkeypatch.setattr(MadeUpChild, 'end', end)


def test_run_job__is_the_state_of_the_job(child, study):
    child(JobStatus(name='a', state=DONE, reason='no lane has a score'))
    assert run_job(str(study), 'a', {'X': '1'}) == ('done', 'no lane has a score')
    assert MadeUpChild.asked == ['a', 'X']


def test_run_job__leaves_a_job_that_another_process_has(child, study):
    assert run_job(str(study), 'a', {}) == ('left out', 'another process has it')


def test_run_job__a_node_without_the_folder_says_so(tmp_path):
    state, reason = run_job(str(tmp_path / 'absent'), 'a', {})
    assert state == 'not started'
    assert f'the node {socket.gethostname()} has no {tmp_path / "absent"}: put the' in reason


def test_run_job__has_a_job_save_where_its_task_is_cancelled(child, study):
    child(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_job(str(study), 'a', {})
    assert MadeUpChild.asked == ['a', 'save', 'wait']


# Addresses.


@pytest.fixture
def no_address(monkeypatch):
    pytest.importorskip('ray', reason='ray is not installed')
    monkeypatch.delenv('RAY_ADDRESS', raising=False)


@pytest.fixture
def port():
    """A port at which somebody listens who is no Ray cluster."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize('address', [None, 'auto', 'local'])
def test_check__asks_nobody_without_an_address(address, no_address):
    check(LaunchOptions(address=address))


def test_check__names_an_address_without_a_port(no_address):
    with pytest.raises(UserError, match=r'`address`=somewhere: write HOST:PORT'):
        check(LaunchOptions(address='somewhere'))


def test_check__nobody_listens(no_address, monkeypatch):
    with socket.create_server(('127.0.0.1', 0)) as server:
        free = server.getsockname()[1]
    with pytest.raises(UserError, match=r'nobody answers there: Connection refused; check the'):
        check(LaunchOptions(address=f'127.0.0.1:{free}'))
    monkeypatch.setenv('RAY_ADDRESS', f'ray://127.0.0.1:{free}')
    with pytest.raises(UserError, match='nobody answers'):
        check(LaunchOptions())


def test_check__somebody_else_listens(no_address, port, monkeypatch):
    """Ray itself would try for minutes."""
    asked = []

    def run(line, **options):
        asked.append((line[-1], options['env']['RAY_ADDRESS'], options['timeout']))
        raise subprocess.TimeoutExpired(line, 60)

    monkeypatch.setattr(ray_tasks.subprocess, 'run', run)
    with pytest.raises(UserError, match='who answers there is no Ray cluster'):
        check(LaunchOptions(address=f'127.0.0.1:{port}'))
    assert asked == [('status', f'127.0.0.1:{port}', ray_tasks.ANSWER_S)]


def test_check__names_the_package_that_is_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(UserError, match=r"needs the package ray \(.*\): pip install 'ray'"):
        check(LaunchOptions())
