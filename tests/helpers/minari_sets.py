"""Tiny Minari sets, made on the spot under the root that the test has set."""

import warnings

import gymnasium as gym
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from dtql_jax.data.load import load
from dtql_jax.tasks.minari_sets import minari_folder
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError

OWN = Task('own', ('me/own-v0',))
BOX = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)
ACTIONS = gym.spaces.Box(-1, 1, (2,), np.float32)


def episode(first, length, *, end='truncated', **changes):
    """An episode whose numbers say where they come from: row t observes `first + t`, thrice."""
    flags = np.arange(length) == length - 1
    fields = {
        'observations': np.repeat(np.arange(first, first + length + 1.0)[:, None], 3, axis=1),
        'actions': np.full((length, 2), 0.5, np.float32),
        'rewards': np.arange(1.0, length + 1),
        'terminations': flags & (end == 'terminated'),
        'truncations': flags & (end == 'truncated'),
        'infos': {},
    }
    return EpisodeBuffer(**fields | changes)


def walk(positions, desired, rewards=None):
    """A maze episode through `positions` [T+1, 2] on its way to `desired` [2]."""
    at = np.array(positions, float)
    seen = {
        'achieved_goal': at,
        'desired_goal': np.tile(np.array(desired, float), (len(at), 1)),
        'observation': np.concatenate([at, 10 + at], axis=1),
    }
    length = len(at) - 1
    rewards = np.zeros(length) if rewards is None else np.array(rewards, float)
    return episode(0, length, observations=seen, rewards=rewards)


MAZE = gym.spaces.Dict(
    {
        key: gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)
        for key, size in (('achieved_goal', 2), ('desired_goal', 2), ('observation', 4))
    }
)


def write(name, episodes, space=BOX, actions=ACTIONS, **kwargs):
    """A Minari set of these episodes."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return minari.create_dataset_from_buffers(
            name, episodes, observation_space=space, action_space=actions, **kwargs
        )


def message(task=OWN, **kwargs):
    """The one line that loading the task raises; a good set can be read afterwards."""
    with pytest.raises(UserError) as caught:
        load(task, **kwargs)
    text = str(caught.value)
    assert '\n' not in text
    if not minari_folder('me/good-v0').exists():
        write('me/good-v0', [episode(0, 2)])
    assert load(Task('good', ('me/good-v0',))).card['transitions'] == 2
    return text
