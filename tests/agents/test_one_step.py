"""DTQL with other noise schedules and other one-step policies."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents import dtql
from dtql_jax.agents.dtql import DTQL, Config
from dtql_jax.agents.one_step import POLICIES
from dtql_jax.agents.registry import task_config
from dtql_jax.diffusion import SCHEDULES
from dtql_jax.types import Spec, Transition, UserError

pytestmark = pytest.mark.usefixtures('quick_compile')

VARIANTS = [(s, 'gaussian') for s in SCHEDULES] + [('edm', p) for p in POLICIES][1:]
variants = pytest.mark.parametrize(('schedule', 'policy'), VARIANTS)
OBS, ACTION, BATCH = 3, 2, 8


def make(max_action=1.0, **settings):
    settings = {'hidden': 16, 'candidates': 4, 'steps': 100, 'pretrain_steps': 10} | settings
    return DTQL(Spec(OBS, ACTION, max_action), Config(**settings))


def policy_of(name, max_action=1.0):
    """A policy of that kind, and its parameters."""
    policy = POLICIES[name](Spec(OBS, ACTION, max_action), 16)
    inputs = policy.inputs(jnp.zeros((1, OBS)), jnp.zeros((1, ACTION)))
    return policy, jax.jit(policy.network.init)(jax.random.key(0), *inputs)['params']


@functools.cache
def batch():
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, BATCH, OBS))
    arrays = (obs, rng.uniform(-1, 1, (BATCH, ACTION)), rng.normal(size=BATCH), np.ones(BATCH))
    return Transition(*[jnp.float32(x) for x in (*arrays, next_obs)])


def same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


# Each variant as a whole.


@functools.cache
def fresh(policy):
    """A state, which no schedule changes."""
    return jax.jit(make(policy=policy).init)(jax.random.key(0))


@variants
def test_each_trains_and_moves_pi_alone_by_its_loss(schedule, policy):
    agent, state, data = make(schedule=schedule, policy=policy), fresh(policy), batch()

    def step(state):
        draws = dtql.draw(state, data)
        alone, _ = agent.descend(state, 'pi', 1e-3, agent.policy_loss, data, draws)
        return alone, *agent.train(state, data, draws)

    alone, after, metrics = jax.jit(step)(state)
    for name, params in state.params.items():
        assert same(alone.params[name], params) == (name != 'pi')
        assert not same(after.params[name], params)
    assert after.step == 1
    assert all(jnp.isfinite(x) for x in metrics.values())
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(after.params))


@variants
@pytest.mark.parametrize('max_action', [0.2, 2.0])
def test_each_acts_in_the_box(schedule, policy, max_action):
    agent = make(max_action, schedule=schedule, policy=policy)
    acting = agent.acting(fresh(policy))
    obs = 10 * jax.random.normal(jax.random.key(1), (64, OBS))
    keys = jax.random.split(jax.random.key(2), 64)
    action = np.asarray(jax.jit(jax.vmap(agent.act, (None, 0, 0)))(acting, obs, keys))
    assert np.abs(action).max() <= max_action
    assert np.abs(action).max() > 0.5 * max_action
    assert len(np.unique(action, axis=0)) > 32


def test_the_trust_region_clips_for_edm_alone():
    """As the sources do. A mu that predicts far outside the box shows it: its bias is at 100."""
    far = {}
    for schedule in SCHEDULES:
        agent = make(schedule=schedule)
        state = jax.tree.map(lambda x: x, fresh('gaussian'))
        bias = state.params['mu']['trunk']['Linear_3']['bias']
        state.params['mu']['trunk']['Linear_3']['bias'] = jnp.full_like(bias, 100.0)
        u, noise = jnp.full(BATCH, 0.5), jnp.zeros((BATCH, ACTION))
        loss = jax.jit(agent.denoising_loss)(
            state.params['mu'], batch().obs, batch().action, u, noise
        )
        far[schedule] = float(loss)
    # Unclipped it is the mean of F^2, 100^2; clipped the error is at most 2, divided by c_out.
    assert far['edm'] < 4 / (0.5 * 0.5 / math.sqrt(0.5)) ** 2
    assert far['vp'] == pytest.approx(1e4, rel=0.05)
    assert far['ve'] == pytest.approx(1e4, rel=0.05)


# Policies.


def test_the_default_is_the_released_policy_and_schedule():
    config = Config()
    assert (config.schedule, config.policy) == ('edm', 'gaussian')
    assert type(make().pi).__name__ == 'GaussianPolicy'


def test_a_deterministic_policy_ignores_noise():
    policy, params = policy_of('deterministic', max_action=2.0)
    obs = batch().obs
    z = policy.network.apply({'params': params}, obs)
    assert z.shape == (BATCH, ACTION)
    for noise in (jnp.zeros((BATCH, ACTION)), jnp.full((BATCH, ACTION), 3.0)):
        actions = policy.sample(policy.at(params, obs), noise)
        np.testing.assert_allclose(actions, 2 * np.tanh(z), rtol=1e-6)
    many = policy.sample(policy.at(params, obs[0]), jnp.zeros((5, ACTION)))
    assert many.shape == (5, ACTION)
    assert len(np.unique(many, axis=0)) == 1


def test_an_implicit_policy_is_a_function_of_state_and_noise():
    policy, params = policy_of('implicit', max_action=2.0)
    obs, noise = batch().obs, jax.random.normal(jax.random.key(0), (BATCH, ACTION))
    actions = policy.sample(policy.at(params, obs), noise)
    z = policy.network.apply({'params': params}, jnp.concatenate([obs, noise], -1))
    np.testing.assert_allclose(actions, 2 * np.tanh(z), rtol=1e-6)
    for i in range(BATCH):  # many actions at one state, as when acting
        many = policy.sample(policy.at(params, obs[i]), noise)
        np.testing.assert_allclose(many[i], actions[i], rtol=1e-5, atol=1e-6)
        assert len(np.unique(many, axis=0)) == BATCH


@pytest.mark.parametrize('name', POLICIES)
def test_the_networks_are_three_orthogonal_layers_and_an_output(name):
    params = policy_of(name)[1]
    inputs, outputs = OBS + ACTION * (name == 'implicit'), ACTION * (1 + (name == 'gaussian'))
    shapes = [params[f'Dense_{i}']['kernel'].shape for i in range(4)]
    assert len(params) == 4
    assert shapes == [(inputs, 16), (16, 16), (16, 16), (16, outputs)]
    for i in range(4):
        kernel = np.asarray(params[f'Dense_{i}']['kernel'])
        gram = kernel.T @ kernel if kernel.shape[0] >= kernel.shape[1] else kernel @ kernel.T
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)
        assert not params[f'Dense_{i}']['bias'].any()


@pytest.mark.parametrize('policy', ['deterministic', 'implicit'])
def test_a_likelihood_term_without_a_density_is_refused_in_one_line(policy):
    with pytest.raises(UserError) as error:
        Config(policy=policy, gamma=1.0)
    assert str(error.value) == (
        f'policy={policy}, gamma=1.0: a policy without a density has no likelihood term; '
        'set gamma=0 or policy=gaussian'
    )
    # Antmaze's row has the term; what the message says helps.
    with pytest.raises(UserError, match='set gamma=0'):
        task_config('dtql', 'antmaze-umaze', {'policy': policy})
    assert task_config('dtql', 'antmaze-umaze', {'policy': policy, 'gamma': 0.0}).gamma == 0
    assert not POLICIES[policy].has_density


@pytest.mark.parametrize(('name', 'value'), [('schedule', 'cosine'), ('policy', 'beta')])
def test_unknown_variants_are_refused(name, value):
    with pytest.raises(UserError, match=f'^{name}={value}: must be one of'):
        Config(**{name: value})
