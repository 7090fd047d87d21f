"""What the tests of flat files share: a task with Hopper's actions, tables, the data read back."""

import numpy as np

from dtql_jax.data.load import load, with_dataset
from dtql_jax.tasks.task import Task

OWN = Task('own', ('none',), env_id='Hopper-v5', horizon=100)
ROW = np.arange(7.0)


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
