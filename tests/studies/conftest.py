"""Fixtures of the tests of studies."""

import pytest

from dtql_jax.studies import local, sweep
from dtql_jax.studies.launch import Machine
from dtql_jax.studies.prepare import Needs, Prepared
from tests.helpers.small_runs import here, minari_root

__all__ = ['here', 'launched', 'minari_root', 'prepared']


@pytest.fixture
def prepared(monkeypatch):
    """Replaces the preparation by one in which a lane takes 10 bytes of 1,000.

    Returns the needs of each job, which a test may change, and the calls.
    """
    needs, calls = {}, []

    def prepare(jobs, modules, side_by_side, forecast):
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
