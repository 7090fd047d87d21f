"""An environment that sets are recorded in."""

import gymnasium as gym
import pytest


@pytest.fixture
def line(root):
    """The id of `recorded_sets.Line`, registered while the test runs."""
    gym.register('Line-v0', 'tests.helpers.recorded_sets:Line')
    yield 'Line-v0'
    del gym.registry['Line-v0']
