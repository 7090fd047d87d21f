"""The fuzzer, on a subject with a planted fault."""

import json
import signal

import pytest
from hypothesis import strategies as st

from tools.campaign import fuzz


@pytest.fixture
def tried(tmp_path, monkeypatch):
    """Tries a batch of numbers with a function; returns what was told, and the failures."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGALRM)

    def attempt_with(attempt):
        monkeypatch.setitem(fuzz.SUBJECTS, 'planted', lambda: (st.integers(0, 9), attempt))
        failures = tmp_path / 'failures'
        failures.mkdir()
        assert fuzz.examples('planted', '0/0', failures) == 0
        return json.loads((tmp_path / 'told.json').read_text()), sorted(failures.iterdir())

    yield attempt_with
    signal.signal(signal.SIGALRM, before)


def test_examples__nothing_is_wrong(tried):
    told, failures = tried(lambda number: None)
    assert told['tried'] >= 10
    assert told['failures'] == {}
    assert failures == []


def test_examples__a_planted_traceback_is_found_once_and_kept(tried):
    def attempt(number):
        if number > 4:
            raise KeyError(number)

    told, (failure,) = tried(attempt)
    assert list(told['failures']) == ['traceback KeyError in the campaign']
    assert json.loads((failure / 'example.json').read_text()) > 4
    assert 'raise KeyError(number)' in (failure / 'error.txt').read_text()


def test_examples__a_planted_hang_is_found(tried, monkeypatch):
    import time

    monkeypatch.setattr(fuzz, 'EXAMPLE_S', 1)
    slept = []

    def attempt(number):
        if not slept:
            slept.append(number)
            time.sleep(60)

    told, _ = tried(attempt)
    assert [name.split()[0] for name in told['failures']] == ['hang']


def test_failure__names_the_last_place_of_the_package():
    from dtql_jax.types import Spec

    with pytest.raises(TypeError) as caught:
        Spec()
    assert fuzz.failure(caught.value) == 'traceback TypeError in the campaign'
