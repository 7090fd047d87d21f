"""The data's action box and the simulator's: the same, stretched, or refused."""

import contextlib
import dataclasses
import re

import gymnasium as gym
import minari
import numpy as np
import pytest

from dtql_jax.data.load import load
from dtql_jax.tasks.env import check_env, make_env
from dtql_jax.tasks.task import Task
from dtql_jax.types import Spec, UserError
from tests.helpers.flat_files import fields, load_file, table
from tests.helpers.minari_sets import episode, write


class Torque(gym.Env):
    """Its actions lie in ±bound."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)

    def __init__(self, bound=2.0, shape=(2,)):
        self.action_space = gym.spaces.Box(-bound, bound, shape, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3), {}

    def step(self, action):
        return np.zeros(3), 0.0, False, False, {}


@pytest.fixture(autouse=True)
def torque():
    """The environment is registered."""
    gym.register('own-torque-v0', Torque)
    yield
    del gym.registry['own-torque-v0']


TASK = Task('own', ('me/own-v0',), env_id='own-torque-v0', horizon=100)
STRETCHED = dataclasses.replace(TASK, rescale_actions=True)
ACTIONS = np.array([[-1, 0.5], [1, 0.25], [0, 1]], np.float32)


def box(low, high, shape=(2,)):
    return gym.spaces.Box(np.float32(low), np.float32(high), shape, np.float32)


def refused(task, data=None):
    with pytest.raises(UserError) as caught:
        check_env(task, load(task, arrays=data).spec)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_to_simulator__a_set_of_another_box_is_refused_or_stretched(root):
    write('me/own-v0', [episode(0, 3, actions=ACTIONS)])
    assert refused(TASK) == (
        'own: the environment has actions in ±2, the data in ±1: is it the data of another task? '
        'If the two mean the same, stretch those of the data: `rescale_actions`=true'
    )
    data = load(STRETCHED)
    assert data.transitions.action.tolist() == (2 * ACTIONS).tolist()
    assert data.transitions.action.dtype == np.float32
    assert data.spec.max_action == data.card['max_action'] == 2
    note = "actions rescaled from ±1 to the simulator's ±2 (rescale_actions)"
    assert data.card['notes'] == [note]
    check_env(STRETCHED, data.spec)
    same = dataclasses.replace(TASK, env_kwargs={'bound': 1.0})
    check_env(same, load(same).spec)
    plain = load(dataclasses.replace(same, rescale_actions=True))
    assert plain.transitions.action.tolist() == ACTIONS.tolist()
    assert plain.card['notes'] == []


def test_to_simulator__a_wider_box_of_the_data_is_shrunk(root):
    write('me/own-v0', [episode(0, 3, actions=4 * ACTIONS)], actions=box(-4, 4))
    assert 'the environment has actions in ±2, the data in ±4' in refused(TASK)
    assert load(STRETCHED).transitions.action.tolist() == (2 * ACTIONS).tolist()


def test_to_bound__an_asymmetric_box_needs_the_setting(root):
    low, high = np.float32([0, -3]), np.float32([4, 1])
    actions = low + (ACTIONS + 1) / 2 * (high - low)
    write('me/own-v0', [episode(0, 3, actions=actions)], actions=box(low, high))
    text = refused(TASK)
    assert text.startswith('me/own-v0: the action box Box(')
    assert 'RescaleAction(env, -1, 1), and let the data follow: register_task(Task(' in text
    unit = dataclasses.replace(STRETCHED, env_kwargs={'bound': 1.0})
    assert load(unit).transitions.action.tolist() == ACTIONS.tolist()
    assert load(STRETCHED).transitions.action.tolist() == (2 * ACTIONS).tolist()


@pytest.mark.parametrize('most', [np.inf, np.finfo(np.float32).max, 1e30])
def test_recorded_bound__a_box_without_bounds_is_taken_from_the_simulator(root, most):
    write('me/own-v0', [episode(0, 3, actions=ACTIONS)], actions=box(-most, most))
    data = load(TASK)
    assert data.spec.max_action == 2
    assert data.transitions.action.tolist() == ACTIONS.tolist()
    check_env(TASK, data.spec)
    small = dataclasses.replace(TASK, env_kwargs={'bound': 0.5})
    assert 'field actions[0]: -1 is outside of the box [-0.5, 0.5]' in refused(small)


@pytest.mark.parametrize(('shape', 'size'), [((), 1), ((1, 2), 2)])
def test_to_bound__actions_of_another_shape_are_flattened(root, shape, size):
    actions = ACTIONS.ravel()[: 3 * size].reshape(3, *shape)
    write('me/own-v0', [episode(0, 3, actions=actions)], actions=box(-1, 1, shape))
    assert load(dataclasses.replace(TASK, env_id=None)).transitions.action.shape == (3, size)
    strange = dataclasses.replace(TASK, env_kwargs={'bound': 1.0, 'shape': shape})
    text = refused(strange)
    assert 'is no vector; register the environment within gymnasium.wrappers.Transf' in text


def test_flat_bound__arrays_and_files_are_taken_to_be_in_the_unit_box(d4rl_file):
    action = table(np.where(np.arange(7) == 3, -1, 0.5), 2)
    data = load(dataclasses.replace(STRETCHED, datasets=()), arrays=fields(action=action))
    assert data.transitions.action.tolist() == (2 * action).tolist()
    assert data.spec.max_action == 2
    assert load_file(d4rl_file(actions=action), STRETCHED).transitions.action[2, 0] == -2
    assert load_file(d4rl_file(actions=action), STRETCHED).spec.max_action == 2
    text = refused(dataclasses.replace(STRETCHED, datasets=()), fields(action=2 * action))
    assert 'field actions[0]: -2 is outside of the box [-1, 1]' in text


def test_narrow__actions_that_fill_the_unit_box_of_a_wider_one_are_noted():
    task = dataclasses.replace(TASK, datasets=())
    action = table(np.where(np.arange(7) == 3, -1, 0.5), 2)
    (note,) = load(task, arrays=fields(action=action)).card['notes']
    assert note == (
        "no action exceeds 1, the simulator's box is ±2: were they recorded in ±1, set "
        '`rescale_actions`=true'
    )
    for factor in (0.2, 1.5, 2):
        assert load(task, arrays=fields(action=factor * action)).card['notes'] == []
    unit = dataclasses.replace(task, env_kwargs={'bound': 1.0})
    assert load(unit, arrays=fields(action=action)).card['notes'] == []


def test_check_values__rounding_at_the_edge_of_a_box_passes_and_more_does_not():
    for bound in (0.4, 1.0, 2.0, 1000.0):
        task = dataclasses.replace(TASK, datasets=(), env_kwargs={'bound': bound})
        edge = np.float32(bound) * np.full((7, 2), 1 + 1e-7)
        load(task, arrays=fields(action=edge))
        assert 'is outside of the box' in refused(task, fields(action=1.001 * edge))


def test_clipped__a_set_recorded_through_ClipAction_is_clipped_as_it_was_played(root):
    """Policies of SB3 and others give actions beyond the box, which that wrapper clips."""
    env = gym.make('Pendulum-v1', disable_env_checker=True)
    env = minari.DataCollector(gym.wrappers.ClipAction(env))
    env.reset(seed=0)
    for action in (-7.0, 1.5, 2.0, 3.0):
        env.step(np.float32([action]))
    env.create_dataset('me/own-v0')
    for env_id in (None, 'Pendulum-v1'):
        task = Task('own', ('me/own-v0',), env_id=env_id)
        data = load(task)
        assert data.transitions.action.ravel().tolist() == [-2, 1.5, 2, 2]
        assert data.spec.max_action == 2
        assert '2 actions clipped to ±2, as they were when recorded' in data.card['notes']
        check_env(task, data.spec)


@pytest.mark.parametrize('twice', [False, True])
def test_check_env__behind_ClipAction_is_the_box_that_it_clips_to(root, twice):
    def make():
        env = gym.wrappers.ClipAction(Torque())
        return gym.wrappers.ClipAction(env) if twice else gym.wrappers.RecordEpisodeStatistics(env)

    gym.register('own-clipped-v0', make)
    task = dataclasses.replace(TASK, env_id='own-clipped-v0')
    with contextlib.closing(make_env(task)) as env:
        assert env.action_space == box(-2, 2)
    del gym.registry['own-clipped-v0']


def test_check_env__a_policy_that_was_trained_for_another_environment():
    for spec, text in (
        (
            Spec(3, 2, 1.0),
            'has actions in ±2, the policy in ±1: the policy was trained',
        ),
        (
            Spec(4, 2, 2.0),
            'has observation size 3, the policy 4: the policy was trained',
        ),
        (Spec(3, 1, 2.0), 'has action size 2, the policy 1: the policy was trained'),
    ):
        with pytest.raises(UserError, match=re.escape(text)):
            check_env(TASK, spec, 'the policy')
