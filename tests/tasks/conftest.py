"""A Minari root of the test's own, and an environment that sets are recorded in."""

import gymnasium as gym
import pytest


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty Minari root, which the test's process uses."""
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path))
    return tmp_path


@pytest.fixture
def line(root):
    """The id of `recorded_sets.Line`, registered while the test runs."""
    gym.register('Line-v0', 'tests.helpers.recorded_sets:Line')
    yield 'Line-v0'
    del gym.registry['Line-v0']
