"""DTQL: the order of its steps, learning rates, noise, the clone, other schedules and policies."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents import dtql
from dtql_jax.agents.base import State
from dtql_jax.agents.dtql import DTQL, Config
from dtql_jax.agents.one_step import POLICIES
from dtql_jax.agents.registry import task_config
from dtql_jax.diffusion import SCHEDULES
from dtql_jax.types import Spec, Transition, UserError
from tests.helpers.small_dtql import make, state_of
from tests.helpers.states import drawn

pytestmark = pytest.mark.usefixtures('quick_compile')


# One update, with optimisers that only count: what does each loss see, at which learning rate?


class Counting(DTQL):
    """Parameters are numbers of updates; every descent and every target's move is written down."""

    def descend(self, state, name, lr, loss, *inputs):
        self.log.append((name, loss.__name__, float(lr), dict(state.params)))
        return state.replace(params=state.params | {name: state.params[name] + 1}), {}

    def track(self, state, name, tau):
        self.log.append(('target', name, float(tau), dict(state.params)))
        return state


def log_of(update, step, **settings):
    agent = Counting(Spec(1, 2), make(**settings).config)
    object.__setattr__(agent, 'log', [])  # frozen otherwise
    hparams = {'lr': 1e-4, 'critic_lr': 3e-4, 'tau': 0.005}
    hparams = {name: jnp.float32(value) for name, value in hparams.items()}
    params = {'critic': 0, 'mu': 0, 'pi': 0}
    state = State(params, {}, {}, hparams, jax.random.key(0), jnp.int32(step))
    batch = Transition(*[jnp.ones((2, n)) for n in (1, 2, 1, 1, 1)])
    phase = {phase.name: phase for phase in agent.phases()}[update]
    after, _ = phase.update(state, batch)
    assert after.step == step + 1
    return agent.log


def test_train__updates_critic_clone_policy_target_each_seeing_the_last():
    log = log_of('train', 10)
    assert [(name, what, seen) for name, what, _, seen in log] == [
        ('critic', 'critic_loss', {'critic': 0, 'mu': 0, 'pi': 0}),
        ('mu', 'clone_loss', {'critic': 1, 'mu': 0, 'pi': 0}),
        ('pi', 'policy_loss', {'critic': 1, 'mu': 1, 'pi': 0}),
        ('target', 'critic', {'critic': 1, 'mu': 1, 'pi': 1}),
    ]


def test_pretrain__updates_clone_and_critic_and_nothing_else():
    log = log_of('pretrain', 0, lr_decay=True)
    assert [(name, what) for name, what, *_ in log] == [
        ('mu', 'clone_loss'),
        ('critic', 'critic_loss'),
    ]
    assert [lr for _, _, lr, _ in log] == pytest.approx([1e-4, 3e-4])


@pytest.mark.parametrize(
    ('step', 'factor'),
    [
        (10, 1.0),
        (35, (1 + math.sqrt(0.5)) / 2),
        (60, 0.5),
        (109, (1 - math.cos(math.pi / 100)) / 2),
    ],
)
def test_decay__counts_the_training_updates_alone_for_all_learning_rates(step, factor):
    """Ten updates of pre-training, a hundred of training: the first trains at the full rate."""
    rates = {name: lr for name, _, lr, _ in log_of('train', step, lr_decay=True)}
    expected = {'critic': 3e-4 * factor, 'mu': 1e-4 * factor, 'pi': 1e-4 * factor}
    assert rates == pytest.approx(expected | {'target': 0.005}, rel=1e-3)
    constant = {name: lr for name, _, lr, _ in log_of('train', step)}
    assert constant == pytest.approx({'critic': 3e-4, 'mu': 1e-4, 'pi': 1e-4, 'target': 0.005})


def test_draw__is_new_for_each_use_and_step():
    state = state_of(make())
    batch = Transition(*[jnp.ones((64, n)) for n in (1, 2, 1, 1, 1)])
    draws = dtql.draw(state, batch)
    assert [x.shape for x in draws] == [(64,), (64, 2), (64, 2), (64,), (64, 2)]
    later = dtql.draw(state.replace(step=state.step + 1), batch)
    arrays = [*draws, *later]
    assert len({np.asarray(x).tobytes() for x in arrays}) == len(arrays)
    for u in (draws.clone_u, draws.trust_u):
        assert 0 <= u.min() < u.max() < 1


# The clone, and acting.


def test_clone__ignores_q():
    """Neither in its loss nor in its choice, whatever the critics say."""
    agent = make()
    state, data = state_of(agent), batch()
    cloned = {name: jnp.float32(value) for name, value in DTQL.clone.items()}
    cloned = state.replace(hparams=state.hparams | cloned)
    loss, metrics = jax.jit(agent.policy_loss)(cloned, data, dtql.draw(state, data))
    assert loss == pytest.approx(float(metrics['pi/trust_loss']))
    wild = jax.tree.map(lambda x: 30 * x + 1, state.target)
    keys = jax.random.split(jax.random.key(0), 64)
    act = jax.jit(jax.vmap(agent.act, (None, None, 0)))

    def actions(target, inverse_temperature):
        hparams = state.hparams | {'inverse_temperature': jnp.float32(inverse_temperature)}
        acting = agent.acting(state.replace(target=target, hparams=hparams))
        return np.asarray(act(acting, jnp.ones(1), keys))

    clone = DTQL.clone['inverse_temperature']
    np.testing.assert_array_equal(actions(state.target, clone), actions(wild, clone))
    assert (actions(state.target, 1.0) != actions(wild, 1.0)).any()


def test_acting__reads_the_one_step_policy_and_the_target_critic_only():
    agent = make()
    state = state_of(agent)
    acting = agent.acting(state)
    assert sorted(acting) == ['inverse_temperature', 'pi', 'q']
    assert acting['pi'] is state.params['pi']
    assert acting['q'] is state.target['critic']['q']


def test_candidates__are_squashed_samples_of_the_policy():
    agent = make(max_action=2.0)
    acting = agent.acting(state_of(agent))
    noise = jnp.array([[0.0, 0.0], [1.0, -1.0]])
    mean, log_std = agent.pi.apply({'params': acting['pi']}, jnp.ones(1))
    expected = 2 * jnp.tanh(mean + jnp.exp(log_std) * noise)
    np.testing.assert_allclose(agent.candidates(acting, jnp.ones(1), noise), expected, rtol=1e-5)


# Other schedules and policies.


# The released variant has its traces, and BC trains with the other schedules.
VARIANTS = [pytest.param(s, 'gaussian', marks=pytest.mark.slow) for s in SCHEDULES]
VARIANTS += [('edm', 'deterministic')]
VARIANTS += [pytest.param('edm', 'implicit', marks=pytest.mark.slow)]
variants = pytest.mark.parametrize(('schedule', 'policy'), VARIANTS)


@functools.cache
def fresh(policy):
    """A state, which no schedule changes."""
    return drawn(make(policy=policy))


@functools.cache
def batch():
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, 8, 1))
    arrays = (obs, rng.uniform(-1, 1, (8, 2)), rng.normal(size=8), np.ones(8))
    return Transition(*[jnp.float32(x) for x in (*arrays, next_obs)])


def same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


@variants
def test_policy_loss__of_each_variant_moves_pi_alone(schedule, policy):
    agent, state, data = make(schedule=schedule, policy=policy), fresh(policy), batch()

    def step(state):
        draws = dtql.draw(state, data)
        return agent.descend(state, 'pi', 1e-3, agent.policy_loss, data, draws)

    alone, metrics = jax.jit(step)(state)
    for name, params in state.params.items():
        assert same(alone.params[name], params) == (name != 'pi')
    assert all(jnp.isfinite(x) for x in metrics.values())
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(alone.params))


@pytest.mark.slow
@variants
def test_train__of_each_variant_moves_all_networks(schedule, policy):
    agent, state, data = make(schedule=schedule, policy=policy), fresh(policy), batch()
    after, metrics = jax.jit(agent.train)(state, data, dtql.draw(state, data))
    for name, params in state.params.items():
        assert not same(after.params[name], params)
    assert after.step == 1
    assert all(jnp.isfinite(x) for x in metrics.values())
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(after.params))


@variants
@pytest.mark.parametrize('max_action', [0.2, 2.0])
def test_act__of_each_variant_stays_in_the_box(schedule, policy, max_action):
    agent = make(max_action, schedule=schedule, policy=policy)
    acting = agent.acting(fresh(policy))
    obs = 10 * jax.random.normal(jax.random.key(1), (64, 1))
    keys = jax.random.split(jax.random.key(2), 64)
    action = np.asarray(jax.jit(jax.vmap(agent.act, (None, 0, 0)))(acting, obs, keys))
    assert np.abs(action).max() <= max_action
    assert np.abs(action).max() > 0.5 * max_action
    assert len(np.unique(action, axis=0)) > 32


def test_Config__default_is_the_released_policy_and_schedule():
    config = Config()
    assert (config.schedule, config.policy) == ('edm', 'gaussian')
    assert type(make().pi).__name__ == 'GaussianPolicy'


@pytest.mark.parametrize('policy', ['deterministic', 'implicit'])
def test_Config__refuses_a_likelihood_term_without_a_density_in_one_line(policy):
    with pytest.raises(UserError) as error:
        Config(policy=policy, gamma=1.0)
    assert str(error.value) == (
        f'`policy`={policy}, `gamma`=1.0: a policy without a density has no likelihood term; '
        'set `gamma`=0 or `policy`=gaussian'
    )
    # Antmaze's row has the term; what the message says helps.
    with pytest.raises(UserError, match='set `gamma`=0'):
        task_config('dtql', 'antmaze-umaze', {'policy': policy})
    assert task_config('dtql', 'antmaze-umaze', {'policy': policy, 'gamma': 0.0}).gamma == 0
    assert not POLICIES[policy].has_density


@pytest.mark.parametrize(('name', 'value'), [('schedule', 'cosine'), ('policy', 'beta')])
def test_Config__refuses_unknown_variants(name, value):
    with pytest.raises(UserError, match=f'^`{name}`={value}: must be one of'):
        Config(**{name: value})
