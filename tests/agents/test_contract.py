"""What every agent of the registry keeps to: see 'Add an algorithm' in CONTRIBUTING.md.

One that is added to `AGENTS` is held to all of it; only those without chance are named.
"""

import dataclasses
import functools
import re
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.base import State
from dtql_jax.agents.candidates import best_by_q, draw_by_q
from dtql_jax.agents.registry import AGENTS, task_config
from dtql_jax.agents.settings import parse
from dtql_jax.training import checkpoint
from dtql_jax.types import Spec, Transition

pytestmark = pytest.mark.usefixtures('quick_compile')

OBS, ACTION, BATCH = 3, 2, 8
SMALL = {'hidden': 8, 'candidates': 4}  # where an agent has such settings
SEEDS = np.array([3, 4, 3], np.uint32)
# Whose updates, or actions, are without chance. Everything else must draw.
NO_NOISE = {('iql', 'train'), ('srpo', 'critic')}
NO_CHANCE = {'iql', 'srpo'}


def make(name, max_action=1.0, **changes):
    """A small agent."""
    fields = {field.name for field in dataclasses.fields(AGENTS[name].agent.config_class)}
    settings = {k: v for k, v in (SMALL | changes).items() if k in fields}
    settings |= {'steps': 50, 'batch_size': BATCH}
    return AGENTS[name].agent(Spec(OBS, ACTION, max_action), task_config(name, '', settings))


def batch_of(seed):
    rng = np.random.default_rng(seed)
    obs, next_obs = rng.normal(size=(2, BATCH, OBS))
    action = rng.uniform(-1, 1, (BATCH, ACTION))
    reward, mask = rng.normal(size=BATCH), rng.integers(0, 2, BATCH)
    return Transition(*(jnp.float32(x) for x in (obs, action, reward, mask, next_obs)))


class Subject:
    """One agent with its programs, each compiled once for all tests; `traces` counts."""

    def __init__(self, name):
        self.name = name
        self.agent = make(name)
        self.phases = [phase for phase in self.agent.phases() if phase.steps]
        self.traces = dict.fromkeys(['init', 'act', *(p.name for p in self.phases)], 0)
        self.init = self.jit('init', jax.vmap(lambda s: self.agent.init(jax.random.key(s))))
        self.updates = {p.name: self.jit(p.name, p.update) for p in self.phases}
        self.act = self.jit('act', jax.vmap(self.agent.act, (None, 0, 0)))
        self.lanes = self.init(SEEDS)

    def jit(self, name, function):
        @functools.wraps(function)
        def counted(*args):
            self.traces[name] += 1
            return function(*args)

        return jax.jit(counted)

    def state(self, lane=0) -> State:
        return jax.tree.map(lambda x: x[lane], self.lanes)


@pytest.fixture(scope='module', params=list(AGENTS))
def subject(request, quick_compile):
    return Subject(request.param)


def described(tree):
    """Structure, shapes and dtypes."""
    return jax.tree.map(lambda x: (x.shape, str(x.dtype), getattr(x, 'weak_type', False)), tree)


def raw(tree):
    """Leaves as numpy, keys as their words."""
    is_key = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)  # noqa: E731
    return [np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in jax.tree.leaves(tree)]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(raw(a), raw(b), strict=True))


def on_first_device(x):
    """Shape, dtype and device, as a restore asks for them."""
    where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)


def phases(subject):
    """Each phase's name, with its program."""
    return subject.updates.items()


# A state and its initialisation.


def test_init_is_a_function_of_the_key(subject):
    first, other, again = (subject.state(i) for i in range(3))
    assert same(first, again)
    for name, params in first.params.items():
        assert not same(params, other.params[name]), f'{name} is the same for every seed'
    assert not same(first.key, other.key)


def test_init_has_no_leaf_of_weak_type_and_vmap_adds_one_axis(subject):
    one = jax.eval_shape(subject.agent.init, jax.eval_shape(lambda: jax.random.key(0)))
    assert not any(getattr(x, 'weak_type', False) for x in jax.tree.leaves(one))
    lanes = jax.tree.map(lambda x: (x.shape[1:], x.dtype), subject.lanes)
    assert lanes == jax.tree.map(lambda x: (x.shape, x.dtype), one)
    floats = [x for x in jax.tree.leaves(one) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert {x.dtype for x in floats} == {jnp.dtype('float32')}


def test_a_state_starts_at_step_0_with_targets_equal_to_their_networks(subject):
    state, agent = subject.state(), subject.agent
    assert state.step == 0
    assert state.step.dtype == jnp.int32
    assert set(state.params) == set(agent.networks()) == set(state.opt)
    assert sorted(state.target) == sorted(agent.targets)
    for name, target in state.target.items():
        assert same(target, state.params[name])


def test_the_key_of_the_run_is_not_one_that_initialised(subject):
    """Reusing it would tie the noise of training to the initial weights."""
    assert not same(subject.state().key, jax.random.key(SEEDS[0]))


def test_a_state_has_no_buffer_twice(subject):
    """Donation would refuse it."""
    pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(subject.init(SEEDS))]
    assert len(set(pointers)) == len(pointers)


# Updates.


def test_updates_keep_structure_shapes_and_dtypes(subject):
    for name, update in phases(subject):
        state = subject.state()
        after, _ = update(state, batch_of(0))
        assert described(after) == described(state), name


def test_one_trace_serves_many_updates_and_all_values_of_the_float_settings(subject):
    for name, update in phases(subject):
        state = subject.state()
        for i in range(3):
            state, _ = update(state, batch_of(i))
        changed = {k: v * 0.5 for k, v in state.hparams.items()}
        update(state.replace(hparams=changed), batch_of(3))
        assert subject.traces[name] == 1


def test_an_update_adds_one_to_the_step_and_leaves_key_and_hyper_parameters(subject):
    for _, update in phases(subject):
        state = subject.state()
        for i in range(1, 4):
            after, _ = update(state, batch_of(i))
            assert after.step == i
            assert same(after.key, state.key)
            assert same(after.hparams, state.hparams)
            state = after


def test_an_update_is_a_function_of_state_and_batch(subject):
    for name, update in phases(subject):
        state = subject.state()
        assert same(update(state, batch_of(0)), update(state, batch_of(0)))
        moved = update(state, batch_of(1))[0].params
        assert not same(update(state, batch_of(0))[0].params, moved), f'{name} ignores its batch'


def test_updates_draw_new_noise_at_every_step(subject):
    """A constant key, a known slip, gives the same noise at every step."""
    for name, update in phases(subject):
        state = subject.state()
        later = update(state.replace(step=state.step + 1), batch_of(0))[0].params
        other = update(state.replace(key=subject.state(1).key), batch_of(0))[0].params
        now = update(state, batch_of(0))[0].params
        draws = (subject.name, name) not in NO_NOISE
        assert draws == (not same(now, other)), f'{name}: noise and the key of the run'
        assert not (draws and same(now, later)), f'{name}: noise that does not hang on the step'


def test_an_update_moves_what_its_phase_trains_and_nothing_else(subject):
    """A network moves exactly where its optimiser does; a target only towards its network."""
    moved_anywhere = set()
    for phase, update in phases(subject):
        before = update(subject.state(), batch_of(0))[0]  # so that targets differ from networks
        after, _ = update(before, batch_of(1))
        for name, params in after.params.items():
            moved = not same(params, before.params[name])
            stepped = not same(after.opt[name], before.opt[name])
            assert moved == stepped, f'{phase}: {name}'
            moved_anywhere |= {name} if moved else set()
        for name, target in after.target.items():
            assert between(target, before.target[name], after.params[name]), f'{phase}: {name}'
    assert moved_anywhere == set(subject.agent.networks()), 'a network that nothing trains'


def between(moved, start, end, slack=1e-6):
    """Whether every entry lies between two others, which a running average does."""
    trees = [np.concatenate([x.ravel() for x in raw(tree)]) for tree in (moved, start, end)]
    moved, low, high = trees[0], np.minimum(*trees[1:]), np.maximum(*trees[1:])
    return bool((moved >= low - slack).all() and (moved <= high + slack).all())


def test_metrics_are_finite_float32_scalars_named_after_their_network(subject):
    for name, update in phases(subject):
        _, metrics = update(subject.state(), batch_of(0))
        assert metrics, name
        for key, value in metrics.items():
            assert re.fullmatch(r'[a-z]\w*/[a-z]\w*', key), key
            assert key.split('/')[0] in subject.agent.networks(), key
            assert (value.shape, value.dtype) == ((), jnp.float32), key
            assert jnp.isfinite(value), key


def test_a_state_goes_through_a_checkpoint_and_on_with_the_same_bits(subject, tmp_path):
    for name, update in phases(subject):
        state, _ = update(subject.state(), batch_of(0))
        like = jax.tree.map(on_first_device, state)
        checkpoint.save(tmp_path / name, state, {'step': 1})
        restored, meta = checkpoint.restore(tmp_path / name, like)
        assert meta == {'step': 1}
        assert described(restored) == described(state)
        assert same(restored, state)
        assert same(update(restored, batch_of(1)), update(state, batch_of(1)))


def test_states_stay_finite(subject):
    for _, update in phases(subject):
        state = subject.state()
        for i in range(5):
            state, _ = update(state, batch_of(i))
        assert all(np.isfinite(x).all() for x in raw(state))


# Acting.


def act(subject, agent=None, n=64, scale=10.0):
    """Actions of a fresh policy, its weights and observations made extreme, at many keys."""
    agent = agent or subject.agent
    run = subject.act if agent is subject.agent else jax.jit(jax.vmap(agent.act, (None, 0, 0)))
    acting = jax.tree.map(lambda x: np.sqrt(scale) * x, agent.acting(subject.state()))
    obs = scale * jax.random.normal(jax.random.key(1), (n, OBS))
    return run(acting, obs, jax.random.split(jax.random.key(2), n))


def test_actions_are_finite_float32_inside_the_box(subject):
    action = act(subject)
    assert action.shape == (64, ACTION)
    assert action.dtype == jnp.float32
    assert jnp.abs(action).max() <= 1
    act(subject)
    assert subject.traces['act'] == 1


@pytest.mark.parametrize('bound', [0.2, 2.0])
def test_other_boxes_are_kept_and_used(subject, bound):
    action = np.abs(act(subject, make(subject.name, bound)))
    assert action.max() <= bound
    assert action.max() > 0.5 * bound


def test_one_candidate_is_enough(subject):
    if not hasattr(subject.agent.config, 'candidates'):
        pytest.skip('has no candidates')
    agent = make(subject.name, candidates=1)
    assert np.isfinite(act(subject, agent)).all()

    def unasked(*args):
        raise AssertionError('Q is asked though there is nothing to choose')

    cls = type('Single', (type(agent),), {'candidate_q': unasked})
    assert same(act(subject, cls(agent.spec, agent.config)), act(subject, agent))


def test_an_action_is_a_function_of_policy_observation_and_key(subject):
    assert same(act(subject), act(subject))
    # Not extreme, where a policy may know the corners of the box only.
    assert len(np.unique(act(subject, scale=1.0), axis=0)) > 32
    acting = subject.agent.acting(subject.state())
    obs = jnp.broadcast_to(jax.random.normal(jax.random.key(1), (OBS,)), (64, OBS))
    actions = subject.act(acting, obs, jax.random.split(jax.random.key(2), 64))
    different = len(np.unique(actions, axis=0))
    assert different == 1 if subject.name in NO_CHANCE else different > 32


THREE = jnp.array([[-0.5, 0.1], [0.0, 0.2], [0.5, 0.3]])  # candidates, told apart by the first
KEYS = 20_000


def q_of_three(action):
    return 4.0 * action[..., 0] ** 2 + 2.0 * action[..., 0]  # 0, 0, 2


def assert_frequencies(actions, probability):
    """Each of the three is drawn as often as it should, within four deviations."""
    hits = np.array([(actions[:, 0] == a).mean() for a in THREE[:, 0]])
    assert hits.sum() == pytest.approx(1)
    probability = np.asarray(probability)
    deviation = np.sqrt(probability * (1 - probability) / len(actions))
    assert (np.abs(hits - probability) < 4 * deviation + 1e-9).all(), (hits, probability)


@pytest.mark.parametrize('inverse_temperature', [0.0, 1.0, 3.0])
def test_candidates_are_drawn_by_the_softmax_of_q(inverse_temperature):
    """Handing `softmax(Q)` over as logits would draw 0.26, 0.26, 0.48 for 0.11, 0.11, 0.79."""
    draw = jax.jit(jax.vmap(lambda key: draw_by_q(key, q_of_three, THREE, inverse_temperature)))
    actions = np.asarray(draw(jax.random.split(jax.random.key(0), KEYS)))
    assert_frequencies(actions, jax.nn.softmax(inverse_temperature * q_of_three(THREE)))


def test_the_best_candidate_is_the_one_of_largest_q():
    many = jax.random.normal(jax.random.key(0), (12, 2))
    best = best_by_q(q_of_three, many)
    assert (best == many[np.argmax(q_of_three(many))]).all()


def test_acting_chooses_candidates_as_the_method_says(subject):
    """Through `act` itself, with three fixed candidates of known Q: by softmax, or the best."""
    cls = type(subject.agent)
    if not hasattr(cls, 'candidate_q'):
        pytest.skip('does not choose among candidates by Q')
    fixed = type('Fixed', (cls,), {
        'candidates': lambda self, acting, obs, noise: THREE,
        'candidate_q': lambda self, acting, obs, action: q_of_three(action),
    })  # fmt: skip
    agent = fixed(subject.agent.spec, make(subject.name, candidates=3).config)
    acting, obs = agent.acting(subject.state()), jnp.zeros(OBS)
    draw = jax.jit(jax.vmap(agent.act, (None, None, 0)))
    actions = np.asarray(draw(acting, obs, jax.random.split(jax.random.key(1), KEYS)))
    hparams = subject.agent.config.floats()
    if 'inverse_temperature' in hparams:
        logits = hparams['inverse_temperature'] * q_of_three(THREE)
        assert_frequencies(actions, jax.nn.softmax(logits))
    else:
        assert_frequencies(actions, [0, 0, 1])


# Settings.


@pytest.mark.parametrize('name', AGENTS)
def test_float_settings_are_exactly_the_data_of_a_state(name):
    """An integer, switch or text in them could not differ between lanes; a float left out, too."""
    config_class = AGENTS[name].agent.config_class
    hints = typing.get_type_hints(config_class)
    floats = [f.name for f in dataclasses.fields(config_class) if hints[f.name] is float]
    agent = make(name)
    assert sorted(agent.config.floats()) == sorted(floats)
    state = jax.eval_shape(agent.init, jax.eval_shape(lambda: jax.random.key(0)))
    assert sorted(state.hparams) == sorted(floats)
    assert {hints[f.name] for f in dataclasses.fields(config_class)} <= {int, float, bool, str}


@pytest.mark.parametrize('name', AGENTS)
def test_the_clone_changes_hyper_parameters_that_there_are(name):
    clone = AGENTS[name].agent.clone
    assert clone is None or set(clone) <= set(make(name).config.floats())


@pytest.mark.parametrize('name', AGENTS)
def test_every_row_of_the_table_is_a_valid_configuration(name):
    table = AGENTS[name].table
    config_class = AGENTS[name].agent.config_class
    for task, row in table.items():
        config = task_config(name, task)
        for field, value in row.items():
            assert type(value) is type(parse(config_class, field, value)), f'{task}: {field}'
            assert getattr(config, field) == value


@pytest.mark.parametrize('name', AGENTS)
def test_phases_have_names_of_their_own_and_the_last_has_the_steps(name):
    agent = make(name)
    names = [phase.name for phase in agent.phases()]
    assert len(set(names)) == len(names)
    assert agent.phases()[-1].steps == agent.config.steps
    assert agent.phases()[-1].evaluate
    for phase in agent.phases()[:-1]:
        assert phase.steps == getattr(agent.config, f'{phase.name}_steps')
