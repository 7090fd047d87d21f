"""Fixtures of the tests of studies."""

import pytest

from dtql_jax.collect.wander import Wander
from dtql_jax.collect.write import collect
from dtql_jax.studies import local, sweep
from dtql_jax.studies.launch import Machine
from dtql_jax.studies.prepare import Needs, Prepared
from dtql_jax.tasks.registry import TASKS
from tests.helpers.small_runs import here, minari_root, trained
from tests.helpers.small_study import Driver

__all__ = ['here', 'launched', 'minari_root', 'prepared', 'trained']


@pytest.fixture
def prepared(monkeypatch):
    """Replaces the preparation by one in which a lane takes 10 bytes of 1,000.

    Returns the needs of each job, which a test may change, and the calls.
    """
    needs, calls = {}, []

    def prepare(plan, jobs, side_by_side, forecast):
        calls.append([job.name for job in jobs])
        usual = Needs(shared=100, lane=10, free=1000, seconds=2.0)
        found = {job.name: needs.get(job.name, usual) for job in jobs} if forecast else {}
        return Prepared(Machine(), found)

    monkeypatch.setattr(sweep, 'prepare', prepare)
    return needs, calls


@pytest.fixture
def launched(prepared, monkeypatch):
    """Replaces the start of jobs by nothing; returns what the launcher was given."""
    works = []
    monkeypatch.setattr(local, 'launch', works.append)
    return works


@pytest.fixture(scope='session')
def driver(tmp_path_factory):
    """Starts studies in processes of their own, on a dataset that takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp('studies')
        patch.setenv('MINARI_DATASETS_PATH', str(folder / 'minari'))
        path = collect(Wander(TASKS['pointmaze-umaze']), 'dtql/few-v0', 900).path
        driver = Driver(path, folder)
        yield driver
        for process in driver.processes:
            process.kill()  # does nothing where it has ended


@pytest.fixture(scope='session')
def whole(driver):
    """A study that nothing disturbed, two jobs side by side."""
    code, text = driver.finish(driver.begin('whole', '--jobs_per_device=2'), 'whole')
    assert code == 0, text
    assert '2 jobs: 2 done' in text
    return driver.folder / 'whole'
