"""Trained policies, read back."""

import copy
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import dtql_jax
from dtql_jax.runs import policy
from dtql_jax.types import UserError
from tests.helpers.small_runs import process

pytestmark = pytest.mark.usefixtures('quick_compile')


@pytest.fixture(scope='module')
def run(trained, quick_compile):
    return policy.Run(trained[0])


def test_run__lanes_and_policies_that_there_are_not(run):
    assert [run.lane(None), run.lane(1), run.lane(0, 'clone')] == [0, 1, 2]
    with pytest.raises(UserError, match='has no seed 7 of dtql; there are: 0, 1'):
        run.lane(7)
    with pytest.raises(UserError, match="has no variant 'iql'; there are: dtql, clone"):
        run.lane(0, 'iql')
    with pytest.raises(UserError, match="`which`='worst': use 'last' or 'best'"):
        run.acting('worst')
    # A lane that diverged before any evaluation has neither policy.
    run = copy.copy(run)
    run.cursor = dataclasses.replace(run.cursor, diverged={'1': 3})
    run.progress = run.progress.replace(best_score=np.array([1.0, -np.inf, 1.0]))
    for which, reason in {
        'last': 'diverged at update 3',
        'best': 'no evaluation, so no best policy',
    }.items():
        with pytest.raises(UserError, match=f'dtql seed 1 .*{reason}'):
            policy.policy_of(run, 1, which)


def test_run__step_is_that_of_the_last_or_of_the_best_policy(run):
    assert run.step(0, 'last') == 5
    assert run.step(0, 'best') in (2, 4, 5)


def test_run__an_agent_that_is_gone_is_named_with_the_folder(trained, tmp_path, monkeypatch):
    shutil.copytree(trained[0], tmp_path / 'run')
    config = json.loads((tmp_path / 'run' / 'config.json').read_text())
    config['request']['agent'] = 'mine'
    config['agent_file'] = str(tmp_path / 'gone.py')
    monkeypatch.setattr(policy, 'read_run', lambda run_dir: config)  # the file itself is sealed
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r'/run: .*gone\.py.*: restore the file$'):
        policy.Run('run')


def test_load_policy__needs_a_run():
    with pytest.raises(UserError, match='no run folder'):
        dtql_jax.load_policy('nowhere')


def test_load_policy__acts_on_one_observation_or_many(cloned):
    act = dtql_jax.load_policy(cloned, seed=1, which='best', batch=3)
    obs = np.random.default_rng(0).normal(size=(3, 4))
    one, many = act(obs[0]), act(obs)
    assert (one.shape, many.shape) == ((1,), (3, 1))
    assert np.abs(many).max() <= 3
    assert many.dtype == np.float32
    with pytest.raises(UserError, match=r'4 observations at once: load_policy\(\.\.\., batch=4\)'):
        act(np.zeros((4, 4)))
    with pytest.raises(UserError, match=r'shape \(5,\): the policy takes \[4\] or \[B, 4\]'):
        act(np.zeros(5))


@pytest.mark.slow
def test_load_policy__acts_alike_in_every_process(trained):
    ours = dtql_jax.load_policy(trained[0])
    obs = np.linspace(-1, 1, 4)
    code = (
        'import sys, numpy as np, dtql_jax\n'
        'policy = dtql_jax.load_policy(sys.argv[1])\n'
        'print([policy(np.linspace(-1, 1, 4)).tobytes().hex() for _ in range(3)])'
    )
    result = process('-c', code, trained[0])
    actions = [ours(obs).tobytes().hex() for _ in range(3)]
    assert result.stdout.strip() == str(actions), result.stderr
    assert len(set(actions)) == 3


def test_trained_behaviour__acts_by_the_last_policy_of_the_first_seed(cloned, here):
    behaviour = policy.trained_behaviour(cloned, noise=0.5)
    assert (behaviour.noise, behaviour.origin) == (0.5, 'bc seed 0 at update 5')
    with pytest.raises(UserError, match='no run folder'):
        policy.trained_behaviour(Path('nowhere'), noise=0.0)
