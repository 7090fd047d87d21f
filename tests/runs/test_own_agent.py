"""An agent in a user's own file: trained, and found again by processes that know the run alone."""

import os
import re
import sys
from pathlib import Path

import pytest

import dtql_jax
from dtql_jax.agents import registry
from dtql_jax.cli import train
from dtql_jax.runs import folder
from dtql_jax.runs.folder import read_run
from dtql_jax.runs.plan import make_plan, make_request
from dtql_jax.types import UserError
from tests.helpers.small_runs import ENV, process, refused

pytestmark = pytest.mark.usefixtures('here')

AGENT = '''
"""A linear clone of the data."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

import dtql_jax
from dtql_jax import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(dtql_jax.Config):
    """Its settings."""

    steps: int = setting(4, 'updates', least=1)
    eval_every: int = setting(4, 'updates between evaluations', least=1)
    batch_size: int = setting(8, 'transitions per update', least=1)
    lr: float = setting(0.1, 'learning rate')
    bias: bool = setting(True, 'whether the policy has a bias')


class Linear(dtql_jax.Agent):
    """L = E |a - pi(s)|^2."""

    config_class = Config

    @property
    def pi(self):
        return nn.Dense(self.spec.action_dim, use_bias=self.config.bias)

    def networks(self):
        return {'pi': (self.pi, self.examples[:1])}

    def phases(self):
        return (dtql_jax.Phase('train', self.train, self.config.steps, self.config.batch_size),)

    def train(self, state, batch):
        state, metrics = self.descend(state, 'pi', state.hparams['lr'], self.loss, batch)
        return state.replace(step=state.step + 1), metrics

    def loss(self, state, batch):
        predicted = self.act(state.params['pi'], batch.obs, None)
        loss = ((predicted - batch.action) ** 2).mean()
        return loss, {'pi/loss': loss}

    def acting(self, state):
        return state.params['pi']

    def act(self, acting, obs, key):
        return self.spec.max_action * jnp.tanh(self.pi.apply({'params': acting}, obs))
'''
TABLE = f"\nTABLE = {{'{ENV}': {{'lr': 0.05}}}}\n"
# Trains by a registered name, a module and a file.
SCRIPT = f"""
import my_agents

import dtql_jax

dtql_jax.register_agent('mine', my_agents.Linear)

if __name__ == '__main__':
    for i, name in enumerate(('mine', 'my_agents:Linear', 'files/other.py:Linear')):
        request = {{'env': {ENV!r}, 'agent': name, 'num_seeds': 1, 'eval_episodes': 1}}
        dtql_jax.run(request, out=f'runs/{{i}}')
"""
# Follows the agent in its own file, which is run.
MAIN = f"""
dtql_jax.register_agent('here', Linear)

if __name__ == '__main__':
    request = {{'env': {ENV!r}, 'agent': 'here', 'num_seeds': 1, 'eval_episodes': 1}}
    dtql_jax.run(request, out='runs/3')
"""
# Reads the runs back, from another folder and without the script.
READER = """
import sys

import numpy as np

import dtql_jax
from dtql_jax.cli import evaluate, train

for i in range(4):
    run_dir = f'{sys.argv[1]}/runs/{i}'
    assert evaluate.main(['x', f'--run={run_dir}', '--episodes=1']) == 0
    assert dtql_jax.load_policy(run_dir)(np.zeros(4)).shape == (1,)
    assert train.main(['x', f'--out={run_dir}', '--resume', '--bias']) == 0
    assert train.main(['x', f'--out={run_dir}', '--resume', '--nobias']) == 2
    assert train.main(['x', f'--out={run_dir}', '--resume', '--hidden=8']) == 2
"""


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """The registry, the modules and the path are as before after each test."""
    agents, modules = dict(registry.AGENTS), set(sys.modules)
    monkeypatch.setattr(sys, 'path', list(sys.path))
    yield
    registry.AGENTS.clear()
    registry.AGENTS.update(agents)
    for name in set(sys.modules) - modules:
        if name.endswith('agents'):
            del sys.modules[name]


def write(path, *texts):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(texts).lstrip())


@pytest.mark.slow
def test_run__finds_an_own_agent_again_from_elsewhere(here, tmp_path_factory):
    project, elsewhere = here / 'project', tmp_path_factory.mktemp('elsewhere')
    write(project / 'my_agents.py', AGENT, TABLE)
    write(project / 'files' / 'other.py', AGENT)
    write(project / 'script.py', SCRIPT)
    write(project / 'tools' / 'here_agents.py', AGENT, MAIN)
    for script in ('script.py', 'tools/here_agents.py'):
        result = process(script, cwd=project)
        assert result.returncode == 0, result.stderr
    recorded = [read_run(project / 'runs' / str(i)) for i in range(4)]
    files = ['my_agents.py', 'my_agents.py', 'files/other.py', 'tools/here_agents.py']
    assert [run['agent_file'] for run in recorded] == [str(project / file) for file in files]
    labels = ['mine', 'Linear', 'Linear', 'here']
    assert [run['identity']['agent'] for run in recorded] == labels
    # Only the second has a table, the module's.
    assert [run['identity']['config']['lr'] for run in recorded] == [0.1, 0.05, 0.1, 0.1]
    tables = [(project / 'runs' / str(i) / 'table.txt').read_text() for i in range(4)]
    assert all(label in table for label, table in zip(labels, tables, strict=True))
    # Of the file only the class counts: it may change meanwhile.
    with (project / 'files' / 'other.py').open('a') as file:
        file.write('\nCHANGED = True\n')
    result = process('-c', READER, project, cwd=elsewhere)
    assert result.returncode == 0, result.stderr
    first, second, *_ = result.stderr.splitlines()
    assert 'config.bias: the run has True, asked for False' in first
    assert second.startswith('error: unknown flag --hidden; nearest: ')
    assert 'Traceback' not in result.stderr


def test_make_plan__an_own_agent_has_the_settings_of_its_module(here):
    write(here / 'plain_agents.py', AGENT)
    write(here / 'table_agents.py', AGENT, TABLE)
    for name, lr in (('plain_agents', 0.1), ('table_agents', 0.05), ('table_agents.py', 0.05)):
        plan = make_plan(make_request({'env': ENV, 'agent': f'{name}:Linear'}))
        assert (plan.config.lr, plan.lanes[0].variant) == (lr, 'Linear')
        assert plan.run_dir() == Path('runs/minari-test-pendulum-v0-Linear')
    plan = make_plan(make_request({'env': ENV, 'agent': 'table_agents:Linear', 'lr': '1'}))
    assert plan.config.lr == 1.0


def test_define__the_flags_are_the_settings_of_the_own_agent(here, capsys):
    write(here / 'flag_agents.py', AGENT)
    for agent in ('flag_agents:Linear', 'flag_agents.py:Linear', f'{here}/flag_agents.py:Linear'):
        assert train.main(['dtql train', f'--agent={agent}', '--help']) == 0
        page = re.sub(' {3,}', '  ', capsys.readouterr().out)  # columns are as wide as they need
        assert '\nSettings of Linear (many tasks have defaults of their own):\n' in page
        assert '  --[no]bias  whether the policy has a bias (default: true)\n' in page
        error = refused(capsys, train.main, f'--agent={agent}', '--expectile=0.7')
        assert error.startswith('unknown flag --expectile')
        error = refused(capsys, train.main, f'--agent={agent}', f'--env={ENV}', '--bias=maybe')
        assert error == '--bias=maybe: not true or false'


def test_run__an_agents_file_that_is_gone_is_one_line_and_another_may_be_named(
    here, no_training, capsys
):
    write(here / 'files' / 'gone_agents.py', AGENT)
    flags = ['--agent=files/gone_agents.py:Linear', f'--env={ENV}', '--out=x']
    assert train.main(['dtql train', *flags]) == 0
    os.renames('files/gone_agents.py', 'moved/moved_agents.py')
    for name in [name for name in registry.AGENTS if 'gone' in name]:
        del registry.AGENTS[name]
    error = refused(capsys, train.main, '--out=x', '--resume')
    assert f'{here}/files/gone_agents.py' in error
    assert error.endswith(': restore the file')
    with pytest.raises(UserError, match=r'/x: .*gone_agents\.py.*: restore the file$'):
        dtql_jax.load_policy('x')
    moved = ['--out=x', '--resume', '--agent=moved/moved_agents.py:Linear']
    assert train.main(['dtql train', *moved]) == 0
    assert [resume for _, resume in no_training] == [False, True]


def test_restore_agent__leaves_what_is_registered(here):
    registry.register_agent('mine', registry.AGENTS['bc'].agent)
    folder.restore_agent({'request': {'agent': 'mine'}, 'agent_file': 'gone.py'})
    assert registry.AGENTS['mine'].agent is registry.AGENTS['bc'].agent


def test_restore_agent__an_agent_without_a_file_has_to_be_registered(here):
    """As in a notebook."""
    with pytest.raises(UserError, match=r"call register_agent\('mine', \.\.\.\) before the run"):
        folder.restore_agent({'request': {'agent': 'mine'}, 'agent_file': None})


def test_restore_agent__never_trains(here):
    """A script without a guard would begin its training anew in the folder of the reader."""
    for i in range(2):
        file = here / str(i) / f'unguarded{i}.py'
        write(file, AGENT, "\ndtql_jax.run({}, out='x')\n")
        name = f'{file}:Linear' if i else 'mine'
        recorded = {'request': {'agent': name}, 'agent_file': str(file), 'agent_class': 'Linear'}
        with pytest.raises(UserError, match=r'\.py defines the agent and trains when it is impor'):
            folder.restore_agent(recorded)
    assert sorted(path.name for path in here.iterdir()) == ['0', '1']
    assert not folder._importing


def test_restore_agent__a_file_beside_the_script_that_reads(here, monkeypatch):
    write(here / 'beside.py', AGENT)
    monkeypatch.syspath_prepend(here)
    recorded = {
        'request': {'agent': 'mine'},
        'agent_file': str(here / 'beside.py'),
        'agent_class': 'Linear',
    }
    folder.restore_agent(recorded)
    assert registry.AGENTS['mine'].agent.__name__ == 'Linear'


def test_restore_agent__takes_the_recorded_file_before_a_module_of_its_name(here, monkeypatch):
    write(here / 'files' / 'twin_agents.py', AGENT)
    write(here / 'twin_agents.py', 'Linear = None')
    monkeypatch.chdir(here)
    recorded = {
        'request': {'agent': 'twin_agents:Linear'},
        'agent_file': str(here / 'files' / 'twin_agents.py'),
        'agent_class': 'Linear',
    }
    folder.restore_agent(recorded)
    assert registry.agent_file(registry.AGENTS['twin_agents:Linear'].agent) == (
        str(here / 'files' / 'twin_agents.py')
    )
