"""Data of the toy tasks, which are made in memory: `dtql_jax.tasks.toys`."""

import numpy as np

from dtql_jax.data import flat
from dtql_jax.data.boxes import simulator_bound
from dtql_jax.data.episodes import Episodes
from dtql_jax.tasks import toys
from dtql_jax.tasks.task import Task


def read(name: str, task: Task) -> Episodes:
    """The toy set `name` with the rewards of the task, as episodes of one step."""
    action = toys.actions(name)
    size = len(action)
    bound = simulator_bound(task)
    ends = np.ones(size, bool)
    arrays = {
        'observations': np.zeros((size, 1), np.float32),
        'actions': flat.copy_float32(action),
        'rewards': toys.rewards(name, task.env_kwargs['reward'], action),
        'next_observations': np.zeros((size, 1), np.float32),
    }
    none = np.zeros(size, bool)
    return flat.assemble(name, bound, arrays, flat.Ends(ends, none, ends, reached=none.copy()))
