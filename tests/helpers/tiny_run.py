"""A run of two updates in a maze whose episodes are cut short."""

import pytest

import dtql_jax
from dtql_jax.collect.wander import Wander
from dtql_jax.collect.write import collect
from dtql_jax.report.console import Console
from dtql_jax.tasks.registry import TASKS


def collect_umaze(steps):
    """Collects the own set of pointmaze-umaze, as a run does that lacks it."""
    task = TASKS['pointmaze-umaze']
    return collect(Wander(task), task.datasets[0], steps)


def train_tiny_run(folder):
    """Trains the run on a set of its own under `folder`; returns its run folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MINARI_DATASETS_PATH', str(folder / 'sets'))
        collect_umaze(600)
        dtql_jax.run(
            {
                'env': 'pointmaze-umaze',
                'agent': 'iql',
                'num_seeds': 1,
                'steps': 2,
                'batch_size': 8,
                'eval_every': 2,
                'eval_episodes': 1,
                'settings': {'hidden': 8},
            },
            out=folder / 'run',
            console=Console((folder / 'log.txt').open('w')),
        )
    return folder / 'run'
