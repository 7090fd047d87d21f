"""Behaviours and `record`: episodes that are functions of two numbers, cut, noisy, finite."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers

from dtql_jax.collect.base import evaluation_spec, record, without_marks
from dtql_jax.tasks.registry import TASKS
from dtql_jax.tasks.task import Task
from tests.helpers import fake_env, recorded_sets
from tests.helpers.drifting import HORIZON, Drift, Fixed


def test_record__cuts_an_episode_at_the_horizon():
    episode = record(fake_env.Walk(), Drift(), 3, 0.0, 5, 0)
    assert episode['truncations'].tolist() == [False, False, True]
    assert not episode['terminations'].any()


def test_record__noise_stays_in_the_box():
    actions = record(fake_env.Walk(), Fixed(0.9), 12, 0.5, 0, 0)['actions']
    assert actions.dtype == np.float32
    assert np.abs(actions).max() == 1
    assert len(np.unique(actions)) > 4
    assert (record(fake_env.Walk(), Fixed(0.5), 12, 0.0, 0, 0)['actions'] == 0.5).all()


def test_record__what_is_not_finite_is_refused():
    with pytest.raises(RuntimeError, match='episode 3 of seed 5: rewards not finite'):
        record(fake_env.BadReward(), Drift(), HORIZON, 0.0, 5, 3)


def test_evaluation_spec__has_the_tasks_horizon_and_maze():
    spec = evaluation_spec(TASKS['pointmaze-umaze'])
    assert spec.max_episode_steps == 300
    assert spec.kwargs['maze_map'] == TASKS['pointmaze-umaze'].env_kwargs['maze_map']


def test_evaluation_spec__has_the_wrappers_of_a_recorded_environment(tmp_path, monkeypatch):
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path))
    recorded_sets.record(wrappers.NormalizeReward, wrappers.TimeAwareObservation)
    spec = evaluation_spec(Task('own', (recorded_sets.NAME,)))
    assert [wrapper.name for wrapper in spec.additional_wrappers] == ['TimeAwareObservation']
    assert gym.make(spec).observation_space.shape == (4,)
    assert evaluation_spec(TASKS['pointmaze-umaze']).additional_wrappers == ()


def test_without_marks__leaves_walls_and_free_cells():
    assert without_marks([[1, 'r', 0, 'g', 1]]) == [[1, 0, 0, 0, 1]]


@pytest.mark.parametrize(
    ('told', 'expected'),
    [({'is_success': True}, 1), ({'success': 0.0}, 0), ({}, -1), ({'success': np.nan}, -1)],
)
def test_record__success_by_either_key_or_not_known(told, expected, monkeypatch):
    step = fake_env.Walk.step
    monkeypatch.setattr(fake_env.Walk, 'step', lambda *x: (*step(*x)[:4], told))
    success = record(fake_env.Walk(), Drift(), 3, 0.0, 5, 0)['success']
    assert (success, success.dtype) == (expected, np.int8)
