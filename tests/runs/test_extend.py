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
from dtql_jax.runs.plan import make_plan, make_request
from dtql_jax.runs.policy import Run
from dtql_jax.training.engine import Engine
from dtql_jax.types import Lane, UserError
from tests.helpers import contract, toy, toy_run
from tests.helpers.extended import CLONED, by_step, rows

pytestmark = pytest.mark.usefixtures('quick_compile', 'here')

PHASES = {'pretrain_steps': 2, 'behaviour_steps': 2, 'behaviour_batch_size': 8, 'critic_steps': 2}
DECAYS = ('iql', 'idql', 'srpo')  # always; for the others it is a setting
NO_DECAY = {'dtql': False, 'dql_kl': False, 'bc': False, 'diffusion_ql': 'none'}
DECAY = {'dtql': True, 'dql_kl': True, 'bc': True, 'diffusion_ql': 'released'}


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
@pytest.mark.parametrize('name', AGENTS)
def test_run__more_steps_give_the_bits_of_a_run_that_was_asked_for_them(name, here):
    """Of each agent: evaluations at 2 and 3 of its last phase, and then 2, 4, 5."""
    short, long = agent(name, NO_DECAY), agent(name, NO_DECAY, steps=5, eval_every=2)
    changed = ['train'] if name in DECAYS else []
    assert extend.different_programs(short, long) == changed
    if changed:  # what may change of these agents is how they are evaluated
        long = dataclasses.replace(short, config=dataclasses.replace(short.config, eval_every=1))
        assert extend.different_programs(short, long) == []
    engine = Engine(long, contract.batch_of(0, 32), LANES)
    toy_run.trainer(here / 'x', Engine(short, engine.data, LANES), score).run()
    progress = toy_run.trainer(here / 'x', engine, score).run(resume=True)
    whole = toy_run.trainer(here / 'whole', engine, score).run()
    for part in ('state', 'sums', 'snapshot'):
        assert toy.equal(getattr(progress, part), getattr(whole, part)), part
    ours, theirs = by_step(here / 'x'), by_step(here / 'whole')
    if not changed:
        assert theirs.items() <= ours.items()
        assert len(ours) == len(theirs) + len(LANES)  # the old end
    # TD3+BC's policy moves at every second update only.
    alike = 2 if name == 'td3_bc' else 1
    assert alike * len({row['eval/score'] for row in ours.values()}) == len(ours)


@pytest.mark.slow
@pytest.mark.parametrize('name', [*DECAYS, *NO_DECAY])
def test_different_programs__tells_of_every_decay(name):
    short, long = agent(name, DECAY), agent(name, DECAY, steps=5)
    assert extend.different_programs(short, long) == ['train']


def test_check_resume__a_decay_is_one_line(here):
    asked = {**CLONED, 'lr_decay': True}
    plan = make_plan(make_request(asked))
    recorded = {'identity': plan.identity(), 'spec': {'obs_dim': 4, 'action_dim': 1}}
    extend.check_resume(plan, recorded, here)
    for steps in (9, 4):
        more = make_plan(make_request({**asked, 'steps': steps}))
        with pytest.raises(UserError) as error:
            extend.check_resume(more, recorded, here)
        assert str(error.value) == (
            f'{here} cannot be resumed with `steps`={steps}: the updates of bc depend on it '
            '(train), like a learning rate that decays over `steps`, so those made so far would '
            'have been others. Leave it out, or start a new run in another folder with `out`'
        )


LANES = [Lane('x', seed) for seed in (3, 1)]


def agent(name, decay, **changes):
    """A small agent with 3 updates in its last phase."""
    made = contract.make(name)
    known = kinds(type(made.config))
    settings = {'eval_every': 2, 'steps': 3, **PHASES, **changes}
    settings |= {'lr_decay': decay[name]} if name in decay else {}
    settings = {key: value for key, value in settings.items() if key in known}
    return dataclasses.replace(made, config=dataclasses.replace(made.config, **settings))


def score(acting, lanes):
    """An evaluation that depends on the policy's parameters alone."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(acting)]
    return {i: {'eval/score': sum(float(leaf[i].sum()) for leaf in leaves)} for i in lanes}


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
