"""Spaces: the order in which observations are flattened, and what agents cannot use."""

import gymnasium as gym
import numpy as np
import pytest

from dtql_jax.tasks.spaces import action_bound, flatten, leaf_paths, pick
from dtql_jax.types import UserError

BOX = gym.spaces.Box(-1, 1, (2,), np.float32)
NESTED = gym.spaces.Dict({'b': BOX, 'a': gym.spaces.Dict({'y': BOX, 'x': BOX})})


def test_leaf_paths__is_sorted_and_depth_first_without_keys():
    assert leaf_paths(BOX) == [()]
    assert leaf_paths(NESTED) == [('a', 'x'), ('a', 'y'), ('b',)]
    assert leaf_paths(NESTED, ('b', 'a')) == [('b',), ('a', 'x'), ('a', 'y')]


def test_leaf_paths__refuses_missing_keys_and_other_spaces():
    with pytest.raises(UserError, match=r"lack the key 'c' \(there are a, b\): mend Task\.obs_k"):
        leaf_paths(NESTED, ('c',))
    for space, keys in ((gym.spaces.Discrete(3), ()), (BOX, ('a',))):
        with pytest.raises(UserError, match='cannot be used: they must be a Box, or a Dict'):
            leaf_paths(space, keys)


def test_flatten__is_one_float32_vector_in_that_order():
    obs = {'b': np.array([5.0, 6.0]), 'a': {'y': np.array([3, 4]), 'x': np.array([[1], [2]])}}
    flat = flatten(obs, leaf_paths(NESTED))
    np.testing.assert_array_equal(flat, np.arange(1, 7, dtype=np.float32), strict=True)
    assert pick(obs, ('a', 'y')).tolist() == [3, 4]


def test_action_bound__takes_symmetric_boxes_only():
    assert action_bound(gym.spaces.Box(-2, 2, (3,)), 'own') == 2
    for low, high in (([-1], [2]), ([0], [1]), (np.array([-1, -2, -1]), np.array([1, 2, 1]))):
        with pytest.raises(UserError, match=r'own: the action box .*\.RescaleAction'):
            action_bound(gym.spaces.Box(np.float32(low), np.float32(high), dtype=np.float32), 'own')
    with pytest.raises(UserError, match='own: actions of type Discrete; only a Box can be learnt'):
        action_bound(gym.spaces.Discrete(3), 'own')


@pytest.mark.parametrize(
    ('space', 'expected'),
    [
        (gym.spaces.Box(-1, 1, (2,), np.int64), 'own: actions of type int64; only a Box of floats'),
        (gym.spaces.Box(0, 0, (2,)), 'own: the action box Box(0.0, 0.0, (2,), float32) has no ext'),
        (gym.spaces.Box(-1, 1, (0,)), 'own: the action box Box([], [], (0,), float32) has no exte'),
    ],
)
def test_action_bound__boxes_that_cannot_be_learnt(space, expected):
    with pytest.raises(UserError) as caught:
        action_bound(space, 'own')
    assert str(caught.value).startswith(expected)


class Bare(gym.Env):
    """An environment with this action box."""

    observation_space = BOX

    def __init__(self, low, high, shape):
        self.action_space = gym.spaces.Box(low, high, shape, np.float64)

    def step(self, action):
        assert action.shape == self.action_space.shape
        return np.zeros(2, np.float32), float(action.sum()), False, False, {}


@pytest.mark.parametrize(
    ('low', 'high', 'shape', 'bound'),
    [
        (-2, 2, (), 2),
        (-1, 1, (1, 2), 1),
        (-np.inf, np.inf, (2,), 3),
        (0, np.inf, (2,), 3),
        (0, 4, (2,), 1),
    ],
)
def test_action_bound__the_cure_is_one(low, high, shape, bound):
    """The code of the text is run as it stands."""
    env = Bare(low, high, shape)
    with pytest.raises(
        UserError, match=r'register the environment within gymnasium\.wrap'
    ) as error:
        action_bound(env.action_space, 'own')
    code = str(error.value).partition('environment within ')[2]
    code = code.partition(', with m')[0].partition(', and rescale')[0]
    names = {'low': env.action_space.low, 'high': env.action_space.high, 'm': 3, 'env': env}
    mended = eval(code, {'gymnasium': gym, **names})
    assert action_bound(mended.action_space, 'own') == bound
    mended.step(np.full(mended.action_space.shape, 0.5))
