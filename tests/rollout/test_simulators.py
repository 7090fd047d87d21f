"""Simulators of one process: their rows, their failures, their success."""

import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

from dtql_jax.rollout.simulators import Simulators, succeeded
from dtql_jax.types import UserError
from tests.helpers import fake_env


@pytest.mark.parametrize(('info', 'expected'), [
    ({'success': True}, 1.0), ({'success': False}, 0.0), ({'is_success': 1.0}, 1.0),
    ({'is_success': np.float32(0)}, 0.0), ({'is_success': np.bool_(True)}, 1.0),
    ({'success': np.array([True])}, 1.0), ({'is_success': np.array([[0.0]])}, 0.0),
    ({'success': False, 'is_success': True}, 1.0), ({'success': None, 'is_success': 0}, 0.0),
    ({}, np.nan), (None, np.nan), ([], np.nan), ({'success': None}, np.nan),
    ({'success': 0.3}, np.nan), ({'success': -1}, np.nan), ({'success': np.nan}, np.nan),
    ({'succeeded': True}, np.nan),
])  # fmt: skip
def test_succeeded__knows_two_names_and_what_it_does_not_know(info, expected):
    np.testing.assert_equal(succeeded(info), expected)


@pytest.mark.parametrize('value', ['yes', np.array([True, False]), object()])
def test_succeeded__a_value_of_many_or_of_no_number_is_an_error(value):
    with pytest.raises((TypeError, ValueError)):
        succeeded({'success': value})


def test_Simulators__an_environment_that_failed_is_made_anew():
    made = []

    def make():
        made.append(fake_env.Broken())
        return made[-1]

    simulators = Simulators(make, [4, 7])
    simulators.answer('reset', [4, 7], np.array([1, 2]))
    steps = simulators.answer('step', [7, 4], np.array([[1.5, 0], [0, 0]]))
    assert list(steps.failure) == ['its step failed: ValueError: the joint broke', '']
    assert len(made) == 2
    simulators.answer('reset', [4, 7], np.array([1, 2]))
    assert len(made) == 3
    simulators.close()


def test_Simulators__an_environment_that_cannot_be_made_anew_fails_its_episode():
    making = iter([fake_env.Broken()])
    simulators = Simulators(lambda: next(making), [0])
    simulators.answer('step', [0], np.array([[1.5, 0]]))
    for _ in range(2):
        (failure,) = simulators.answer('reset', [0], np.array([1])).failure
        assert 'its reset failed: a simulator cannot be made: StopIteration' in failure


@pytest.mark.parametrize('make_env', [fake_env.Unbuildable, lambda: exit(3)])
def test_Simulators__what_cannot_be_made_is_one_line(make_env):
    with pytest.raises(UserError, match=r'^a simulator cannot be made: \w+: .*; mend it, or name'):
        Simulators(make_env, [0])


def test_close__an_environment_that_raises_does_no_harm():
    simulators = Simulators(fake_env.Unstartable, [0, 1])
    simulators.close()


def test_Simulators__an_episode_beyond_its_horizon_fails():
    def make():
        env = fake_env.Walk()
        env.spec = EnvSpec('Walk-v0', max_episode_steps=2)
        return env

    simulators = Simulators(make, [0])
    for _ in range(2):  # the count begins again with each episode
        simulators.answer('reset', [0], np.array([3]))
        rows = [simulators.answer('step', [0], np.zeros((1, 2))) for _ in range(3)]
        assert [row.failure[0] for row in rows] == [
            '', '', 'its step failed: ValueError: the episode goes on after the 2 steps of its '
            'horizon',
        ]  # fmt: skip
