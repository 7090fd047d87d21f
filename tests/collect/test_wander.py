"""The wanderer: where it acts, and how it walks."""

import numpy as np
import pytest

from dtql_jax.collect.base import record
from dtql_jax.collect.wander import Wander
from dtql_jax.tasks.registry import TASKS
from dtql_jax.types import UserError

UMAZE = TASKS['pointmaze-umaze']


def test_Wander__refuses_other_families_and_noise():
    with pytest.raises(UserError, match=r'hopper-medium: only pointmazes .*`policy`=RUN_DIR'):
        Wander(TASKS['hopper-medium'])
    with pytest.raises(UserError, match=r'`noise`=0\.1: wandering has its own noise'):
        Wander(UMAZE, 0.1)


def test_Wander_env_spec__any_free_cell_may_be_start_or_goal():
    spec = Wander(UMAZE).env_spec()
    assert spec.kwargs['maze_map'] == [
        [1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1],
    ]  # fmt: skip


def test_Wander_open__visits_several_cells_by_bounded_actions():
    env, controller = Wander(UMAZE).open()
    episode = record(env, controller, UMAZE.horizon, 0.0, 0, 0)
    env.close()
    assert np.abs(episode['actions']).max() <= 1
    assert len(episode['actions']) == UMAZE.horizon
    cells = np.floor(episode['observations/achieved_goal'])
    assert len(np.unique(cells, axis=0)) > 2
