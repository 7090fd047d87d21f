"""Data of OGBench's hands, collected by its own oracles."""

import numpy as np
import pytest

from dtql_jax.data import ogbench
from dtql_jax.tasks.registry import TASKS
from tests.helpers.scripts import run_script

pytestmark = pytest.mark.slow


def collect(out, env, kind, seed=0):
    pytest.importorskip('ogbench')
    given = (f'--env={env}', f'--kind={kind}', f'--seed={seed}', '--episodes=2', '--length=40')
    run_script('experiments/studies/hands.py', *given, f'--out={out}')
    with np.load(out) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize(('env', 'kind'), [('cube-single', 'play'), ('scene', 'noisy')])
def test_hands__writes_a_file_that_the_tasks_read(tmp_path, env, kind):
    out = tmp_path / 'data.npz'
    arrays = collect(out, env, kind)
    assert np.flatnonzero(arrays['terminals']).tolist() == [39, 79]
    assert np.abs(arrays['actions']).max() <= 1
    episodes = ogbench.read(str(out), TASKS[f'{env}-{kind}-singletask-v0'])
    assert episodes.length.tolist() == [39, 39]
    assert set(np.unique(episodes.reward)) <= set(range(-5, 1))
    np.testing.assert_array_equal(episodes.next_obs[:38], episodes.obs[1:39])


def test_hands__a_seed_decides_every_row(tmp_path):
    one, again, other = (
        collect(tmp_path / f'{i}.npz', 'cube-single', 'play', seed)
        for i, seed in enumerate((0, 0, 1))
    )
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert not np.array_equal(one['actions'], other['actions'])
