"""What the tests of flat files share: a task of Hopper's actions, tables, and what is read back."""

import numpy as np

from dtql_jax.data import load
from dtql_jax.tasks.task import Task

OWN = Task('own', ('none',), env_id='Hopper-v5', horizon=100)


def table(column, size=3):
    """`[N, size]`, every column the same."""
    return np.repeat(np.asarray(column)[:, None], size, axis=1)


def columns(path, task=OWN, **kwargs):
    """The first number of each field of each transition."""
    data = load(task, dataset_path=path, **kwargs).transitions
    return [array.reshape(len(array), -1)[:, 0].tolist() for array in data]
