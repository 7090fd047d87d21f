"""A run that starts from the networks of another one."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

import dtql_jax
from dtql_jax.cli import train
from dtql_jax.data.columns import one_row
from dtql_jax.runs.origin import origin_lanes, take_networks
from dtql_jax.runs.plan import make_plan, make_request
from dtql_jax.runs.policy import Run
from dtql_jax.training import loop
from dtql_jax.training.engine import Engine
from dtql_jax.training.progress import fresh_progress
from dtql_jax.types import Lane, UserError
from tests.helpers import toy
from tests.helpers.extended import CLONED, rows
from tests.helpers.small_runs import ENV, refused

pytestmark = pytest.mark.usefixtures('quick_compile', 'here')


def plan(**asked):
    return make_plan(make_request({'env': ENV, 'agent': 'dtql', 'init_from': 'a', **asked}))


def lanes(*names):
    """Lanes from `weak 3`."""
    return [Lane(*name.split()[:1], int(name.split()[1])) for name in names]


# Which lane starts from which.


def test_origin_lanes__are_those_of_the_same_seed_and_variant():
    theirs = lanes('weak 1', 'weak 0', 'strong 0', 'strong 1')
    assert origin_lanes(plan(variants={'strong': {}, 'weak': {}}), theirs) == [2, 3, 1, 0]


def test_origin_lanes__are_those_of_the_only_variant_that_is_no_clone():
    theirs = lanes('dtql 0', 'dtql 1', 'clone 0', 'clone 1')
    assert origin_lanes(plan(variants={'x': {'alpha': 2}, 'y': {}}), theirs) == [0, 1, 0, 1]
    assert origin_lanes(plan(clone_seeds=2), theirs) == [0, 1, 2, 3]
    assert origin_lanes(plan(clone_seeds=1), theirs[:2]) == [0, 1, 0]


def test_origin_lanes__one_that_is_missing_or_unclear_is_one_line(here):
    with pytest.raises(UserError) as error:
        origin_lanes(plan(seed=1), lanes('dtql 0', 'dtql 1'))
    assert str(error.value) == (
        f'`init_from`={here}/a has no seed 2 of dtql; there are: 0, 1. Ask for these with `seed` '
        'and `num_seeds`'
    )
    with pytest.raises(UserError) as error:
        origin_lanes(plan(), lanes('weak 0', 'strong 0'))
    assert str(error.value) == (
        f"`init_from`={here}/a has no variant 'dtql', and several others: weak, strong; call the "
        'lanes of this run like one of them (`variants`)'
    )


# Runs.


def test_take_networks__of_a_run_with_other_units(other):
    """Its networks see observations on another scale."""
    run = Run(other)
    spec = dataclasses.replace(run.agent.spec, obs_mean=(0.0,) * 4, obs_std=(1.0,) * 4)
    agent = dataclasses.replace(run.agent, spec=spec)
    engine = Engine(agent, one_row(spec, ()), run.lanes)
    with pytest.raises(UserError, match='has other units: `normalize_obs` or the action box'):
        take_networks(plan(agent='bc', init_from=str(other)), engine)


@pytest.fixture
def other(cloned, here):
    """A copy of a finished run, which must stay as it is."""
    folder = shutil.copytree(cloned, here / 'other')
    before = {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}
    yield folder
    if folder.exists():
        after = {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}
        assert after == before


ASKED = {**CLONED, 'init_from': 'other', 'lr': 0.001, 'eval_episodes': 1}


class Killed(BaseException):
    """The end of the process."""


def kill(*_, **__):
    raise Killed


@pytest.mark.slow
def test_run__starts_from_the_networks_and_resumes_without_the_other_run(
    other, here, monkeypatch, capsys
):
    theirs = Run(other).progress.state
    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, 'run_phase', kill)
        with pytest.raises(Killed):
            dtql_jax.run(ASKED, out='x')
    assert f'start      the networks of {other} at update 5\n' in capsys.readouterr().out
    begun = Run('x')
    assert toy.equal(begun.progress.state.params, theirs.params)
    assert begun.cursor.step == 0
    moments = jax.tree.leaves(toy.bits(begun.progress.state.opt))
    assert not any(np.any(moment) for moment in moments)
    origin = begun.description['identity']['init_from']
    assert (origin['run'], origin['step'], len(origin['sha256'])) == (str(other), 5, 64)
    assert begun.description['request']['init_from'] == str(other)
    dtql_jax.run(ASKED, out='whole')
    other.rename(here / 'elsewhere')
    dtql_jax.run({}, out='x', resume=True)
    assert rows(here / 'x') == rows(here / 'whole')
    assert toy.equal(Run('x').progress, Run('whole').progress)
    assert not toy.equal(Run('x').progress.state.params, theirs.params)
    dtql_jax.run({'init_from': 'other', 'steps': 6}, out='x', resume=True)
    error = refused(capsys, train.main, '--out=x', '--resume', '--init_from=elsewhere')
    assert error.startswith(
        f"{here}/x cannot be resumed with these settings: init_from.run: the run has '{other}', "
        f"asked for '{here}/elsewhere'. Leave out"
    )
    (here / 'elsewhere').rename(other)


@pytest.mark.slow
def test_run__that_was_killed_before_its_first_save_needs_the_same_other_run(
    other, here, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, 'run', kill)
        with pytest.raises(Killed):
            dtql_jax.run(ASKED, out='x')
        with pytest.raises(Killed):
            dtql_jax.run({}, out='x', resume=True)
    other.rename(here / 'elsewhere')
    with pytest.raises(UserError, match='other is no run folder'):
        dtql_jax.run({}, out='x', resume=True)
    dtql_jax.run({'steps': 6}, out='elsewhere', resume=True)
    (here / 'elsewhere').rename(other)
    with pytest.raises(UserError, match='other has trained on since this run was made, which has'):
        dtql_jax.run({}, out='x', resume=True)
    shutil.rmtree(other)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'init_from': 'nowhere'}, 'nowhere is no run folder (no config.json): check the path'),
        ({'agent': 'iql'}, 'other is a run of bc, and this one of iql: ask for the same `agent`'),
        ({'seed': 1}, 'other has no seed 2 of bc; there are: 0, 1. Ask for these'),
        (
            {'hidden': 9},
            'other has other networks: params/mu/first/bias is [8] there and [9] here; give the '
            'settings of that run, such as `hidden`',
        ),
        (
            {'mu_layers': 2},
            'other has other networks: params/mu/trunk/Linear_2/bias is [8] there and ',
        ),
    ],
)
def test_run__an_origin_that_does_not_fit_is_one_line_before_anything_is_compiled(
    other, here, compiled, change, message
):
    with pytest.raises(UserError) as error:
        dtql_jax.run({**ASKED, **change}, out='x')
    assert message in str(error.value)
    assert '\n' not in str(error.value)
    assert not compiled
    assert not (here / 'x').exists()


@pytest.mark.parametrize(
    ('spec', 'message'),
    [
        (dtql_jax.Spec(5, 1), 'observations of size 4, this run of size 5'),
        (dtql_jax.Spec(4, 2), 'actions of size 1, this run of size 2'),
    ],
)
def test_take_networks__of_another_task_is_one_line(other, spec, message):
    asked = make_plan(make_request(ASKED))
    agent = asked.agent(spec, asked.config)
    engine = Engine(agent, one_row(spec, ()), asked.lanes)
    with pytest.raises(UserError) as error:
        take_networks(asked, engine)
    assert str(error.value) == f'`init_from`={other} has {message}: start from another run'


def test_take_networks__of_those_that_the_agent_inherits_alone(other, monkeypatch):
    asked = make_plan(make_request({**ASKED, 'hidden': 9}))
    monkeypatch.setattr(asked.agent, 'inherited', ())
    agent = asked.agent(dtql_jax.Spec(4, 1, 3.0), asked.config)
    engine = Engine(agent, one_row(agent.spec, ()), asked.lanes)
    _, networks = take_networks(asked, engine)
    assert networks == {'params': {}, 'target': {}}
    fresh = fresh_progress(engine).state
    assert toy.equal(fresh_progress(engine, networks).state, fresh)
    theirs = {'params': {'mu': jax.tree.map(lambda x: x + 1, fresh.params['mu'])}}
    taken = fresh_progress(engine, theirs).state
    assert toy.equal(taken.params, theirs['params'])
    assert toy.equal(taken.opt, fresh.opt)


def test_run__an_origin_with_a_damaged_checkpoint_is_told(other, here, caplog):
    for path in other.rglob('checkpoints/*/state/**/*'):
        if path.is_file():
            path.write_bytes(b'')
    with pytest.raises(UserError, match='no checkpoint can be restored'):
        dtql_jax.run(ASKED, out='x')
    shutil.rmtree(other)


def test_run__a_lane_that_diverged_is_no_origin(other, here, monkeypatch):
    monkeypatch.setattr(Run, 'missing', lambda *_: 'bc seed 0 diverged at update 3: use ...')
    with pytest.raises(UserError) as error:
        dtql_jax.run(ASKED, out='x')
    assert str(error.value) == (
        f'`init_from`={other}: bc seed 0 diverged at update 3; start from another run'
    )
