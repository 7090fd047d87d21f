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
    for low, high in ((-1, 2), (-np.inf, np.inf), (0, 1)):
        with pytest.raises(UserError, match=r'own: the action box .*\.RescaleAction'):
            action_bound(gym.spaces.Box(low, high, (3,)), 'own')
    with pytest.raises(UserError, match='own: actions of type Discrete; only a Box can be learnt'):
        action_bound(gym.spaces.Discrete(3), 'own')
