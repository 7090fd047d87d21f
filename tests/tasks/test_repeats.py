"""Environments whose episodes do not repeat."""

import gymnasium as gym
import pytest
from gymnasium.wrappers import NormalizeObservation, NormalizeReward

from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.repeats import check_repeats
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError
from tests.helpers.recorded_sets import Counting, Line


@pytest.fixture
def registered(request):
    gym.register('Wrapped-v0', lambda: request.param(Line()))
    yield Task('own', env_id='Wrapped-v0', horizon=5)
    del gym.registry['Wrapped-v0']


@pytest.mark.parametrize('registered', [NormalizeObservation, NormalizeReward], indirect=True)
def test_check_running__a_normaliser_that_learns_is_refused_in_any_environment(registered):
    with pytest.raises(UserError, match=r'^own: its environment has the wrapper Normalize\w+, '):
        make_env(registered)


def fixed(env):
    env = NormalizeObservation(env)
    env.update_running_mean = False
    return env


@pytest.mark.parametrize('registered', [fixed], indirect=True)
def test_check_running__fixed_statistics_are_welcome(registered):
    assert make_env(registered).reset(seed=0)[0].shape == (2,)


def test_check_repeats__tells_states_from_none():
    check_repeats(Line(), 'own', 'mend it')
    with pytest.raises(UserError, match=r'^own was recorded through wrappers with a state'):
        check_repeats(Counting(Line()), 'own', 'mend it')


def test_check_repeats__an_environment_that_does_not_run():
    class Broken(Line):
        def step(self, action):
            raise RuntimeError('no\nserver')

    with pytest.raises(UserError, match=r'^own: its .* does not run: RuntimeError: no server; men'):
        check_repeats(Broken(), 'own', 'mend it')
