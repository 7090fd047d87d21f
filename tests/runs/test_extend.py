"""A resume that asks for more: what it may, what it may not, and what it leaves."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dtql_jax
from dtql_jax.agents.registry import AGENTS
from dtql_jax.agents.settings import kinds
from dtql_jax.cli import evaluate, train
from dtql_jax.runs import extend, folder
from dtql_jax.runs.policy import Run
from dtql_jax.types import UserError
from tests.helpers import toy
from tests.helpers.extended import CLONED, assert_extended, by_step, rows
from tests.helpers.small_runs import ENV

pytestmark = pytest.mark.usefixtures('quick_compile', 'here')

SMALL = {
    'hidden': 8, 'candidates': 2, 'batch_size': 8, 'pretrain_steps': 2, 'behaviour_steps': 2,
    'behaviour_batch_size': 8, 'critic_steps': 2,
}  # fmt: skip
DECAYS = {'iql', 'idql', 'srpo'}  # always; for the others it is a setting
NO_DECAY = {'dtql': False, 'dql_kl': False, 'bc': False, 'diffusion_ql': 'none'}


def request(agent, **changes):
    """A run of 5 updates with an evaluation every 2."""
    known = kinds(AGENTS[agent].agent.config_class)
    asked = {name: value for name, value in SMALL.items() if name in known}
    if agent in NO_DECAY:
        asked['lr_decay'] = NO_DECAY[agent]
    asked |= {'env': ENV, 'agent': agent, 'steps': 5, 'eval_every': 2, 'eval_episodes': 1}
    return {**asked, **changes}


def refusal(asked, out='x'):
    """The one line that refuses a resume, which leaves every file as it is."""
    files = [path for path in Run(out).run_dir.rglob('*') if path.is_file()]
    before = {path: path.read_bytes() for path in files if path.name != '.lock'}
    with pytest.raises(UserError) as error:
        dtql_jax.run(asked, out=out, resume=True)
    assert '\n' not in str(error.value)
    assert {path: path.read_bytes() for path in before} == before
    return str(error.value)


# What may change.


@pytest.mark.slow
@pytest.mark.parametrize('agent', AGENTS)
def test_run__more_steps_give_the_bits_of_a_run_that_was_asked_for_them(agent, here):
    """Or they are refused, where the agent's learning rate always decays over `steps`."""
    dtql_jax.run(request(agent), out='x')
    last = Run('x').cursor.step
    if agent in DECAYS:
        assert f'{here}/x cannot be resumed with `steps`=9: the updates of {agent} depend on ' in (
            refusal({'steps': 9})
        )
        return
    result = dtql_jax.run({'steps': 9}, out='x', resume=True)
    dtql_jax.run(request(agent, steps=9), out='whole')
    assert_extended(here / 'x', here / 'whole')
    assert {key[0] for key in by_step(here / 'x').keys() - by_step(here / 'whole')} == {last}
    assert len(result.evals) == len(rows(here / 'x'))


@pytest.mark.slow
@pytest.mark.parametrize('agent', AGENTS)
def test_run__other_evaluations_change_no_update_of_any_agent(agent, here):
    dtql_jax.run(request(agent), out='x')
    before = Run('x').progress.state
    dtql_jax.run({'eval_every': 3, 'eval_episodes': 2}, out='x', resume=True)
    assert toy.equal(Run('x').progress.state, before)
    assert Run('x').agent.config.eval_every == 3


@pytest.mark.slow
@pytest.mark.parametrize('agent', [*DECAYS, *NO_DECAY])
def test_run__a_decay_forbids_other_steps(agent, here):
    decay = dict.fromkeys(NO_DECAY, True) | {'diffusion_ql': 'released'}
    changes = {'lr_decay': decay[agent]} if agent in decay else {}
    dtql_jax.run(request(agent, steps=2, **changes), out='x')
    for steps in (9, 1):
        assert '`steps`' in refusal({'steps': steps})


@pytest.mark.slow
def test_run__what_was_asked_for_is_kept_in_config_and_checkpoints(cloned, here, capsys):
    shutil.copytree(cloned, 'x')
    dtql_jax.run({'steps': 8, 'eval_episodes': 1}, out='x', resume=True)
    assert 'from update 5 on: steps 5 -> 8, eval_episodes 2 -> 1' in capsys.readouterr().out
    flags = ['--out=x', '--resume', '--eval_every=4', '--steps=9']
    assert train.main(['dtql train', *flags]) == 0
    recorded = json.loads((here / 'x/config.json').read_text())
    first, second = ({k: v for k, v in e.items() if k != 'sha256'} for e in recorded['extended'])
    assert first == {'step': 5, 'changed': {'steps': [5, 8], 'eval_episodes': [2, 1]}}
    assert second == {'step': 8, 'changed': {'steps': [8, 9], 'eval_every': [2, 4]}}
    config, asked = recorded['identity']['config'], recorded['request']
    assert (config['steps'], config['eval_every']) == (9, 4)
    assert (recorded['identity']['eval_episodes'], asked['eval_episodes']) == (1, 1)
    assert (asked['settings']['steps'], asked['settings']['eval_every']) == (9, 4)
    assert Run('x').cursor.config == folder.read_run(here / 'x')
    episodes = {row['step']: row['eval/episodes'] for row in rows(here / 'x')}
    assert episodes == {2: 2, 4: 2, 5: 2, 6: 1, 8: 1, 9: 1}
    # A resume that asks for nothing new, or for what the run has, changes nothing.
    text = (here / 'x/config.json').read_text()
    dtql_jax.run({}, out='x', resume=True)
    dtql_jax.run({**CLONED, 'steps': 9, 'eval_every': 4, 'eval_episodes': 1}, out='x', resume=True)
    assert (here / 'x/config.json').read_text() == text
    assert evaluate.main(['x', '--run=x', '--episodes=1']) == 0
    assert dtql_jax.load_policy('x', which='best')(np.zeros(4)).shape == (1,)


@pytest.mark.slow
def test_run__what_may_not_change_is_refused_as_before(cloned, here):
    shutil.copytree(cloned, 'x')
    assert refusal({'steps': 4}) == (
        f'`steps`=4: {here}/x has made 5 updates already, and would end after 4: ask for '
        '5 or more, or leave it out'
    )
    for change, text in (
        ({'lr': 1.0}, 'config.lr: the run has 0.0003, asked for 1.0'),
        ({'batch_size': 9}, 'config.batch_size: the run has 8, asked for 9'),
        ({'num_seeds': 3}, 'lanes: the run has '),
        ({'init_from': 'x'}, "init_from.run: the run has None, asked for '"),
    ):
        message = refusal({**change, 'steps': 9})
        assert message.startswith(f'{here}/x cannot be resumed with these settings: {text}')
        assert 'steps' not in message
    assert 'extended' not in folder.read_run(here / 'x')


def test_run__a_dry_run_of_more_steps_writes_nothing(cloned, here, capsys):
    shutil.copytree(cloned, 'x')
    before = (here / 'x/config.json').read_bytes()
    dtql_jax.run({'steps': 9}, out='x', resume=True, dry_run=True)
    assert 'train 9 x 8' in capsys.readouterr().out
    assert (here / 'x/config.json').read_bytes() == before


# Which programs depend on a setting.


class Table(toy.Toy):
    """Its learning rates stand in a table whose length is that of the run."""

    def update(self, state, batch):
        rates = jnp.asarray(np.linspace(1.0, 0.0, 8) / self.config.steps)
        state = state.replace(hparams={**state.hparams, 'lr': rates[state.step % 8]})
        return super().update(state, batch)


class Calling(toy.Toy):
    """A function of Python that jax cannot see into gives its learning rate."""

    def update(self, state, batch):
        shape = jax.ShapeDtypeStruct((), jnp.float32)
        rate = jax.pure_callback(lambda step: np.float32(0.1), shape, state.step)
        return super().update(state.replace(hparams={**state.hparams, 'lr': rate}), batch)


class Born(toy.Toy):
    """Its first parameters depend on the length of the run."""

    def init(self, key):
        state = super().init(key)
        return state.replace(params=jax.tree.map(lambda x: x / self.config.steps, state.params))


class Actor(toy.Toy):
    """It acts otherwise in a longer run."""

    def act(self, acting, obs, key):
        return super().act(acting, obs, key) / self.config.steps


class Entering(toy.Entering):
    """Its last phase starts from parameters that depend on the length of the run."""

    def enter(self, state):
        return state.replace(params=jax.tree.map(lambda x: x * self.config.steps, state.params))


@pytest.mark.parametrize(
    ('agent', 'different'),
    [
        (toy.Toy, []),
        (toy.Entering, []),
        (toy.Delayed, []),
        (Table, ['pretrain', 'train']),
        (Calling, ['pretrain', 'train']),
        (Born, ['the first state']),
        (Actor, ['the actions']),
        (Entering, ['the start of train']),
    ],
)
def test_different_programs__finds_whatever_depends_on_a_setting(agent, different):
    spec = dtql_jax.Spec(3, 2)
    first = agent(spec, agent.config_class())
    other = dataclasses.replace(first, config=dataclasses.replace(first.config, steps=99))
    assert extend.different_programs(first, other) == different
