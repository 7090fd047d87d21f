"""Real studies on a Ray cluster of several nodes on this machine, of which one is lost."""

import os
import signal

import pytest

from dtql_jax.studies.folder import log_file
from dtql_jax.studies.status import read_state
from tests.helpers.small_study import BC, IQL, assert_same_study, ended, under_way, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope='session')
def installed():
    """Skips before any other fixture of the session trains."""
    pytest.importorskip('ray', reason='ray is not installed')


@pytest.fixture(scope='module')
def cluster():
    """A head without a core, so that a node must be added for a job to run."""
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={'num_cpus': 0})
    yield found
    found.shutdown()


def starts(study, job):
    return log_file(study, job).read_text().count(f'--- {job}, process')


def test_launch__a_lost_node_and_a_killed_driver_cost_no_bit(driver, whole, cluster):
    name, study = 'ray', driver.folder / 'ray'
    flags = ('--launcher=ray', f'--address={cluster.address}')
    first = cluster.add_node(num_cpus=1)
    process = driver.begin(name, *flags)
    under_way(study, BC)
    cluster.add_node(num_cpus=1)
    cluster.remove_node(first, allow_graceful=False)
    worker = under_way(study, IQL)
    process.kill()
    wait_for(lambda: ended(worker))  # by Ray, at once

    process = driver.start(name, *flags)
    wait_for(lambda: read_state(study, IQL).pid != worker)
    under_way(study, IQL)
    os.killpg(process.pid, signal.SIGINT)
    code, text = driver.finish(process, name)
    assert code == 130, text
    assert 'stopping: the jobs save their checkpoints' in text

    code, text = driver.finish(driver.start(name, *flags), name)
    assert code == 0, text
    assert '2 jobs: 2 done' in text
    assert_same_study(study, whole)
    assert starts(study, BC) > 1
    assert starts(study, IQL) > 2


def test_launch__a_job_that_fails_is_not_tried_again(driver, cluster):
    cluster.add_node(num_cpus=1)
    name = 'ray-fails'
    module = driver.folder / 'fails.py'
    module.write_text(
        'import sys\n'
        "if 'dtql_jax.studies.job' in sys.orig_argv: raise ValueError('as it was told')\n"
    )
    flags = ('--launcher=ray', f'--address={cluster.address}', f'--modules={module}')
    code, text = driver.finish(driver.begin(name, *flags), name)
    assert code == 1, text
    assert f'{BC}: failed: ' in text
    assert 'as it was told' in text
    assert starts(driver.folder / name, BC) == 1


def test_launch__a_cluster_of_its_own_on_this_machine(driver, whole):
    name = 'ray-here'
    code, text = driver.finish(driver.begin(name, '--launcher=ray', '--address=local'), name)
    assert code == 0, text
    assert_same_study(driver.folder / name, whole)
