"""What the tests of flat files share: a task with Hopper's actions, tables, the data read back."""

import numpy as np
import pytest

from dtql_jax.data.load import load, with_dataset
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError

OWN = Task('own', ('none',), env_id='Hopper-v5', horizon=100)
ARRAYS = Task('own', (), env_id='Hopper-v5', horizon=100)  # its data are handed over
ROW = np.arange(7.0)
THEIRS = {  # names of `data.arrays` -> D4RL's
    'obs': 'observations',
    'action': 'actions',
    'reward': 'rewards',
    'mask': 'masks',
    'terminal': 'terminals',
    'next_obs': 'next_observations',
    'timeout': 'timeouts',
}


def table(column, size=3):
    """`[N, size]`, every column the same."""
    return np.repeat(np.asarray(column)[:, None], size, axis=1)


def flags(*rows, count=7):
    """`[count]` bool, True in these rows."""
    return np.isin(np.arange(count), rows)


def load_file(path, task=OWN, **kwargs):
    """The file as the data of a task."""
    return load(with_dataset(task, path), **kwargs)


def first_numbers(data):
    """The first number of each of the five columns, as lists."""
    return [array.reshape(len(array), -1)[:, 0].tolist() for array in data.transitions[:5]]


def columns(path, task=OWN, **kwargs):
    """The first number of each column of a file."""
    return first_numbers(load_file(path, task, **kwargs))


def fields(**changes):
    """Data as a dict of arrays, with some fields changed, or left out where they are None.

    Rows 0 to 2 end by a time-out, 3 to 5 by a terminal, and row 6 begins an unfinished episode.
    """
    arrays = {
        'obs': table(ROW),
        'action': table(0.5 * np.ones(7), 2),
        'reward': 1 + ROW,
        'mask': 1.0 - flags(5),
        'timeout': flags(2),
        'next_obs': table(ROW + 1),
    }
    return {name: value for name, value in (arrays | changes).items() if value is not None}


def message(path, task=OWN):
    """The one line that loading the file raises, without the path that it begins with."""
    with pytest.raises(UserError) as caught:
        load_file(path, task)
    text = str(caught.value)
    assert '\n' not in text
    assert text.startswith(str(path))
    return text.removeprefix(str(path))
