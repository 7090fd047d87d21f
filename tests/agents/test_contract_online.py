"""Every agent goes on in the environment, or says why not."""

import dataclasses

import jax
import numpy as np
import pytest

from dtql_jax.agents.registry import AGENTS
from dtql_jax.agents.settings import kinds
from dtql_jax.training import loop
from dtql_jax.training.engine import Engine
from dtql_jax.types import Lane, Stopped
from tests.helpers import contract, toy, toy_online, toy_run

pytestmark = pytest.mark.usefixtures('quick_compile')

LANES = [Lane('contract', 3), Lane('contract', 4)]
LEARNS = {name for name, found in AGENTS.items() if found.agent.offline_only is None}
SLOW = {'dtql', 'rebrac'} | contract.SLOW  # without variants, which are slow too
ONLINE = [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in sorted(LEARNS)]


def make(name):
    """A small agent with 2 updates in its last phase on data, and 4 in the environment."""
    agent = contract.make(name)
    lengths = {'steps': 2, 'pretrain_steps': 0, 'online_steps': 4, 'eval_every': 4}
    known = kinds(type(agent.config))
    config = {key: value for key, value in lengths.items() if key in known}
    return dataclasses.replace(agent, config=dataclasses.replace(agent.config, **config))


def data(agent):
    batch = contract.batch_of(0, rows=32)
    return batch._replace(extra={name: batch.extra[name] for name in agent.columns})


def score(acting, lanes):
    return {i: {'eval/score': 0.0} for i in lanes}


@pytest.mark.parametrize('name', ONLINE)
def test_explore__an_agent_learns_in_the_environment_and_resumes_with_the_same_bits(
    name, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, 'DISPATCH_SECONDS', 0.0)
    agent = make(name)
    engine = Engine(agent, data(agent), LANES, jax.local_devices()[:1])
    end = sum(phase.steps for phase in agent.all_phases())
    for folder, stop in (('whole', None), ('cut', end - 2), ('cut', None)):
        with toy_online.trainer(tmp_path / folder, engine, evaluate=score) as trainer:
            trainer.online._program = programs.get(name)
            if stop is not None:
                trainer.report = toy_run.StopsAt(trainer.stop, stop)
                with pytest.raises(Stopped):
                    trainer.run()
            else:
                progress = trainer.run(resume=folder == 'cut')
            programs[name] = trainer.online._program
        if folder == 'whole':
            whole = tmp_path / 'whole', trainer, progress
    toy_run.assert_same_run(tmp_path / 'cut', trainer, progress, whole)
    buffer = jax.device_get(progress.buffer)
    assert np.abs(buffer.action).max() <= agent.spec.max_action + 1e-6
    assert not toy.equal(toy.lane(progress.buffer, 0), toy.lane(progress.buffer, 1))
    assert sorted(buffer.extra) == sorted(agent.columns)
    rows = [row for row in toy_run.rows(tmp_path / 'cut', 'metrics') if row['phase'] == 'online']
    assert [row['step'] for row in rows] == [end] * 2
    assert all(np.isfinite(value) for row in rows for value in row.values() if value is float)


programs = {}  # by agent: compiled once for its three trainers


def test_explore__agents_without_chance_explore_with_noise():
    """IQL, ReBRAC and TD3+BC act by a mean and explore around it, inside the box."""
    for name in ('iql', 'rebrac', 'td3_bc'):
        agent = contract.make(name, max_action=2.0)
        state = jax.jit(agent.init)(jax.random.key(0))
        obs = np.float32([0.1, 0.2, 0.3])
        acts = [np.asarray(agent.explore(state, obs, jax.random.key(i))) for i in range(4)]
        assert not np.allclose(acts[0], acts[1])
        assert np.abs(acts).max() <= 2
        np.testing.assert_array_equal(acts[0], agent.explore(state, obs, jax.random.key(0)))


def test_offline_only__is_said_by_srpo_alone():
    refused = {name: found.agent.offline_only for name, found in AGENTS.items()}
    assert {name for name, reason in refused.items() if reason} == {'srpo'}
