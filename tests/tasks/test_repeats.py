"""Environments whose episodes do not repeat."""

import contextlib

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import NormalizeObservation, NormalizeReward

from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.registry import TASKS
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


MAZES = ['pointmaze-teleport-navigate-singletask-v0', 'antmaze-medium-navigate-singletask-v0']


@pytest.mark.parametrize(
    'name', [*MAZES, pytest.param('cube-single-play-singletask-v0', marks=pytest.mark.slow)]
)
def test_own_draws__ogbenchs_episodes_repeat_side_by_side_and_leave_numpys_generator(name):
    """They draw from NumPy's global generator, and the teleporting maze does so as it steps."""
    pytest.importorskip('ogbench', reason='ogbench, an extra, is not installed')
    with (
        contextlib.closing(make_env(TASKS[name])) as one,
        contextlib.closing(make_env(TASKS[name])) as other,
    ):
        np.random.seed(5)  # noqa: NPY002
        alone = list(episode(one, seed=3))
        assert np.random.random() == np.random.RandomState(5).random()  # noqa: NPY002
        turns = zip(episode(one, seed=3), episode(other, seed=4), strict=True)
        assert [met for met, _ in turns] == alone
        assert list(episode(other, seed=4)) != alone


def episode(env, seed, steps=20):
    """Observations and rewards under actions of the same seed."""
    rng = np.random.default_rng(0)
    yield env.reset(seed=seed)[0].tobytes()
    for _ in range(steps):
        obs, reward, *_ = env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))
        yield obs.tobytes(), reward
