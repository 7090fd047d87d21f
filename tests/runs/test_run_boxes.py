"""`run` on data whose action box is not the simulator's: refused, or in the simulator's units."""

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import dtql_jax
from dtql_jax.cli import train
from dtql_jax.runs.policy import load_policy
from dtql_jax.tasks import registry as tasks
from tests.helpers.minari_sets import episode, write
from tests.helpers.small_runs import CLONING, refused

pytestmark = pytest.mark.usefixtures('quick_compile', 'here')
# The task of the flags: a simulator in ±3, the set of the test in ±1.
TASK = dtql_jax.Task('mine', ('me/box-v0',), env_id='InvertedPendulum-v5', horizon=9)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path / 'sets'))
    monkeypatch.setattr(tasks, 'TASKS', dict(tasks.TASKS))
    rng = np.random.default_rng(0)
    seen = gym.spaces.Box(-np.inf, np.inf, (4,), np.float64)
    rows = {
        'observations': rng.normal(size=(31, 4)),
        'actions': np.full((30, 1), 0.9, np.float32),
    }
    write('me/box-v0', [episode(0, 30, **rows)], seen, gym.spaces.Box(-1, 1, (1,), np.float32))
    return dtql_jax.register_task(TASK)


def test_check_env__another_action_box_is_one_line_before_training(mine, capsys, no_training):
    text = refused(capsys, train.main, '--env=mine', '--out=run', *CLONING)
    assert text == (
        'mine: the environment has actions in ±3, the data in ±1: is it the data of another task? '
        'If the two mean the same, stretch those of the data: --rescale_actions=true'
    )
    assert not no_training
    arguments = ['dtql train', '--env=mine', '--rescale_actions=true', '--out=run', *CLONING]
    assert train.main(arguments) == 0
    assert len(no_training) == 1
    assert "note     actions rescaled from ±1 to the simulator's ±3" in capsys.readouterr().out


@pytest.mark.slow
def test_run__a_policy_of_stretched_actions_acts_in_the_simulators_units(mine):
    asked = {'env': 'mine', 'agent': 'iql', 'num_seeds': 1, 'steps': 300, 'eval_every': 300}
    asked |= {'batch_size': 16, 'hidden': 16, 'lr': 0.01, 'eval_episodes': 1}
    dtql_jax.run({**asked, 'rescale_actions': True}, out='run')
    config = json.loads(Path('run', 'config.json').read_text())
    assert config['spec']['max_action'] == config['data']['max_action'] == 3
    assert config['identity']['task']['rescale_actions'] is True
    obs = np.random.default_rng(0).normal(size=(31, 4))
    policy = load_policy('run', batch=len(obs))
    assert np.abs(np.mean(policy(obs)) - 2.7) < 0.5  # what the data did, times three
