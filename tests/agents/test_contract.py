"""What every agent keeps to: its states, updates and settings.

Every agent of the registry is held to all of it, one that is added to `AGENTS` too. Only the agents
without chance are named, in `contract`. `test_contract_acting` and `test_contract_engine` hold the
rest.
"""

import collections
import dataclasses
import re
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.registry import AGENTS, task_config
from dtql_jax.agents.settings import parse
from dtql_jax.training import checkpoint
from dtql_jax.types import Rare
from tests.helpers import contract

pytestmark = pytest.mark.usefixtures('quick_compile')


@pytest.fixture(scope='module', params=contract.marked())
def subject(request, quick_compile):
    return contract.subject(request.param)


# A state and its initialisation.


def test_init__is_a_function_of_the_key(subject):
    first, other, again = (subject.state(i) for i in range(3))
    assert contract.same(first, again)
    for name, params in first.params.items():
        assert not contract.same(params, other.params[name]), f'{name} is the same for every seed'
    assert not contract.same(first.key, other.key)


def test_init__has_no_leaf_of_weak_type_and_vmap_adds_one_axis(subject):
    one = jax.eval_shape(subject.agent.init, jax.eval_shape(lambda: jax.random.key(0)))
    assert not any(getattr(x, 'weak_type', False) for x in jax.tree.leaves(one))
    lanes = jax.tree.map(lambda x: (x.shape[1:], x.dtype), subject.lanes)
    assert lanes == jax.tree.map(lambda x: (x.shape, x.dtype), one)
    floats = [x for x in jax.tree.leaves(one) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert {x.dtype for x in floats} == {jnp.dtype('float32')}


def test_init__starts_at_step_0_with_targets_equal_to_their_networks(subject):
    state, agent = subject.state(), subject.agent
    assert state.step == 0
    assert state.step.dtype == jnp.int32
    assert set(state.params) == set(agent.networks()) == set(state.opt)
    assert sorted(state.target) == sorted(agent.targets)
    for name, target in state.target.items():
        assert contract.same(target, state.params[name])


def test_init__the_key_of_the_run_is_not_one_that_initialised(subject):
    """Reusing it would tie the noise of training to the initial weights."""
    assert not contract.same(subject.state().key, jax.random.key(contract.SEEDS[0]))


def test_init__has_no_buffer_twice(subject):
    """Donation would refuse it."""
    pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(subject.init(contract.SEEDS))]
    assert len(set(pointers)) == len(pointers)


# Updates.


def test_update__keeps_structure_shapes_and_dtypes(subject):
    for name, update in subject.updates.items():
        state = subject.state()
        after, _ = update(state, contract.batch_of(0))
        assert contract.described(after) == contract.described(state), name


def test_update__one_trace_serves_many_updates_and_all_values_of_the_float_settings(subject):
    for name, update in subject.updates.items():
        state = subject.state()
        for i in range(3):
            state, _ = update(state, contract.batch_of(i))
        changed = {k: v * 0.5 for k, v in state.hparams.items()}
        update(state.replace(hparams=changed), contract.batch_of(3))
        assert subject.traces[name] == 1


def test_update__adds_one_to_the_step_and_leaves_key_and_hyper_parameters(subject):
    for _, update in subject.updates.items():
        state = subject.state()
        for i in range(1, 4):
            after, _ = update(state, contract.batch_of(i))
            assert after.step == i
            assert contract.same(after.key, state.key)
            assert contract.same(after.hparams, state.hparams)
            state = after


def test_update__is_a_function_of_state_and_batch(subject):
    for name, update in subject.updates.items():
        state = subject.state()
        assert contract.same(
            update(state, contract.batch_of(0)), update(state, contract.batch_of(0))
        )
        moved = update(state, contract.batch_of(1))[0].params
        assert not contract.same(update(state, contract.batch_of(0))[0].params, moved), (
            f'{name} ignores its batch'
        )


def test_update__draws_new_noise_at_every_step(subject):
    """A constant key, a known slip, gives the same noise at every step.

    A delayed update may be the only one that draws, so only steps that draw are compared. Adam's
    first step hardly depends on the size of a gradient, so they are later ones.
    """
    for name, update in subject.updates.items():
        state, _ = update(subject.state(), contract.batch_of(1))
        other, batch = subject.state(1).key, contract.batch_of(0)
        drawn = []
        for step in range(2 * contract.DELAY):
            now = state.replace(step=state.step + step)
            params = update(now, batch)[0].params
            if not contract.same(params, update(now.replace(key=other), batch)[0].params):
                drawn.append(params)
            if len(drawn) == 2:
                break
        draws = (subject.name, name) not in contract.NO_NOISE
        assert draws == bool(drawn), f'{name}: noise and the key of the run'
        assert not (draws and contract.same(*drawn)), f'{name}: noise that ignores the step'


def test_update__moves_what_its_phase_trains_and_nothing_else(subject):
    """A network moves exactly where its optimiser does, a target only towards its network.

    The network may be that from before the update or that from after it.
    A network may rest in most updates, but moves in one of `DELAY`.
    """
    moved_anywhere = set()
    for phase, update in subject.updates.items():
        before = update(subject.state(), contract.batch_of(0))[0]  # targets differ from networks
        for i in range(1, 1 + contract.DELAY):
            after, _ = update(before, contract.batch_of(i))
            for name, params in after.params.items():
                moved = not contract.same(params, before.params[name])
                stepped = not contract.same(after.opt[name], before.opt[name])
                assert moved == stepped, f'{phase}: {name}'
                moved_anywhere |= {name} if moved else set()
            for name, target in after.target.items():
                network = before.params[name], after.params[name]
                inside = contract.between(target, before.target[name], *network)
                assert inside, f'{phase}: {name}'
            before = after
    assert moved_anywhere == set(subject.agent.networks()), 'a network that nothing trains'


def test_offline_only__is_said_where_the_last_phase_leaves_networks_as_they_are(subject):
    """Such an agent cannot go on in the environment."""
    *_, update = subject.updates.values()
    before = state = subject.state()
    for i in range(contract.DELAY):
        state, _ = update(state, contract.batch_of(i))
    left = [n for n, params in state.params.items() if contract.same(params, before.params[n])]
    assert bool(left) == (subject.agent.offline_only is not None), left


def test_update__metrics_are_finite_float32_scalars_named_after_their_network(subject):
    """Those of a delayed update are `Rare`, and are made once in `DELAY` updates at least."""
    for name, update in subject.updates.items():
        state, made = subject.state(), collections.Counter()
        for i in range(contract.DELAY):
            state, metrics = update(state, contract.batch_of(i))
            assert metrics, name
            for key, value in metrics.items():
                assert re.fullmatch(r'[a-z]\w*/[a-z]\w*', key), key
                assert key.split('/')[0] in subject.agent.networks(), key
                for part in value if isinstance(value, Rare) else (value,):
                    assert (part.shape, part.dtype) == ((), jnp.float32), key
                    assert jnp.isfinite(part), key
                if isinstance(value, Rare):
                    assert value.count in (0, 1), key
                    assert value.count == 1 or value.total == 0, key
                made[key] += int(value.count) if isinstance(value, Rare) else 1
        assert all(made[key] for key in metrics), f'{name}: {made}'


def test_update__a_state_goes_through_a_checkpoint_and_on_with_the_same_bits(subject, tmp_path):
    for name, update in subject.updates.items():
        state, _ = update(subject.state(), contract.batch_of(0))
        like = jax.tree.map(contract.on_first_device, state)
        checkpoint.save(tmp_path / name, state, {'step': 1})
        restored, meta = checkpoint.restore(tmp_path / name, like, pytest.fail)
        assert meta == {'step': 1}
        assert contract.described(restored) == contract.described(state)
        assert contract.same(restored, state)
        assert contract.same(
            update(restored, contract.batch_of(1)), update(state, contract.batch_of(1))
        )


def test_update__states_stay_finite(subject):
    for _, update in subject.updates.items():
        state = subject.state()
        for i in range(5):
            state, _ = update(state, contract.batch_of(i))
        assert all(np.isfinite(x).all() for x in contract.raw(state))


# Phases.


@pytest.mark.parametrize('name', AGENTS)
def test_phases__have_names_of_their_own_and_the_last_has_the_steps(name):
    agent = contract.make(name)
    names = [phase.name for phase in agent.phases()]
    assert len(set(names)) == len(names)
    assert agent.phases()[-1].steps == agent.config.steps
    assert agent.phases()[-1].evaluate
    for phase in agent.phases()[:-1]:
        assert phase.steps == getattr(agent.config, f'{phase.name}_steps')


# Settings.


@pytest.mark.parametrize('name', AGENTS)
def test_config__float_settings_are_exactly_the_data_of_a_state(name):
    """An integer, switch or text in them could not differ between lanes; a float left out, too."""
    config_class = AGENTS[name].agent.config_class
    hints = typing.get_type_hints(config_class)
    floats = [f.name for f in dataclasses.fields(config_class) if hints[f.name] is float]
    agent = contract.make(name)
    assert sorted(agent.config.floats()) == sorted(floats)
    state = jax.eval_shape(agent.init, jax.eval_shape(lambda: jax.random.key(0)))
    assert sorted(state.hparams) == sorted(floats)
    assert {hints[f.name] for f in dataclasses.fields(config_class)} <= {int, float, bool, str}


@pytest.mark.parametrize('name', AGENTS)
def test_clone__changes_hyper_parameters_that_there_are(name):
    clone = AGENTS[name].agent.clone
    assert clone is None or set(clone) <= set(contract.make(name).config.floats())


@pytest.mark.parametrize('name', AGENTS)
def test_task_config__every_row_of_the_table_is_a_valid_configuration(name):
    table = AGENTS[name].table
    config_class = AGENTS[name].agent.config_class
    for task, row in table.items():
        config = task_config(name, task)
        for field, value in row.items():
            assert type(value) is type(parse(config_class, field, value)), f'{task}: {field}'
            assert getattr(config, field) == value
