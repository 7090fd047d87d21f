"""An agent in a user's own file: trained, and found again by processes that know the run alone."""

import os
import textwrap
from pathlib import Path

import pytest

import dtql_jax
from dtql_jax.agents import registry
from dtql_jax.cli import train
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
SCRIPT = f'''
import my_agents

import dtql_jax

dtql_jax.register_agent('mine', my_agents.Linear)


class Here(my_agents.Linear):
    """Defined in the script that is run."""


dtql_jax.register_agent('here', Here)

if __name__ == '__main__':
    names = ('mine', 'here', 'my_agents:Linear', 'files/other.py:Linear')
    for i, name in enumerate(names):
        request = {{'env': {ENV!r}, 'agent': name, 'num_seeds': 1, 'eval_episodes': 1}}
        dtql_jax.run(request, out=f'runs/{{i}}')
'''
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
    """A registry, modules and a path of the test's own."""
    monkeypatch.setattr(registry, 'AGENTS', dict(registry.AGENTS))
    monkeypatch.setattr('sys.modules', dict(__import__('sys').modules))
    monkeypatch.setattr('sys.path', list(__import__('sys').path))


def write(path, *texts):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(texts).lstrip())


def test_run__finds_an_own_agent_again_from_elsewhere(here, tmp_path_factory):
    project, elsewhere = here / 'project', tmp_path_factory.mktemp('elsewhere')
    write(project / 'my_agents.py', AGENT, TABLE)
    write(project / 'files' / 'other.py', AGENT)
    write(project / 'script.py', SCRIPT)
    result = process('script.py', cwd=project)
    assert result.returncode == 0, result.stderr
    recorded = [read_run(project / 'runs' / str(i)) for i in range(4)]
    files = ['my_agents.py', 'script.py', 'my_agents.py', 'files/other.py']
    assert [run['agent_file'] for run in recorded] == [str(project / file) for file in files]
    labels = ['mine', 'here', 'Linear', 'Linear']
    assert [run['identity']['agent'] for run in recorded] == labels
    # Only the third has a table, the module's.
    assert [run['identity']['config']['lr'] for run in recorded] == [0.1, 0.1, 0.05, 0.1]
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
        page = capsys.readouterr().out
        assert '\nSettings of Linear (many tasks have defaults of their own):\n' in page
        assert '  --[no]bias          whether the policy has a bias (default: true)\n' in page
        error = refused(capsys, train.main, f'--agent={agent}', '--expectile=0.7')
        assert error.startswith('unknown flag --expectile')
        error = refused(capsys, train.main, f'--agent={agent}', f'--env={ENV}', '--bias=maybe')
        assert error == '--bias=maybe: not true or false'


def test_run__an_agents_file_that_is_gone_is_one_line_and_another_may_be_named(
    here, no_training, capsys
):
    write(here / 'gone_agents.py', AGENT)
    flags = ['--agent=gone_agents.py:Linear', f'--env={ENV}', '--out=x']
    assert train.main(['dtql train', *flags]) == 0
    os.rename('gone_agents.py', 'moved_agents.py')
    for name in [name for name in registry.AGENTS if 'gone' in name]:
        del registry.AGENTS[name]
    message = f'{here}/gone_agents.py, which does not exist: restore the file'
    assert refused(capsys, train.main, '--out=x', '--resume').endswith(message)
    with pytest.raises(UserError, match='^x: the agent is defined in .*restore the file$'):
        dtql_jax.load_policy('x')
    moved = ['--out=x', '--resume', '--agent=moved_agents.py:Linear']
    assert train.main(['dtql train', *moved]) == 0
    assert [resume for _, resume in no_training] == [False, True]


def test_run__an_agent_of_a_session_is_found_once_it_is_registered(here, no_training):
    """A notebook has no file: the name is all that a run can record."""
    module = {'__name__': 'session'}
    exec(textwrap.dedent(AGENT).replace('"""A linear clone of the data."""', ''), module)
