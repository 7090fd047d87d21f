"""The agent with several regularisers: each term alone is what the agent that it comes from has."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.dtql import DTQL
from dtql_jax.agents.registry import find_agent, task_config
from dtql_jax.training.update import sample
from dtql_jax.types import Spec, Transition
from tests.helpers.scripts import ROOT
from tests.helpers.states import drawn

pytestmark = pytest.mark.usefixtures('quick_compile')

NAME = f'{ROOT}/experiments/toy_agent.py:Toy'
SMALL = {'hidden': 8, 'mu_layers': 1, 'critic_layers': 1, 'policy_layers': 1, 'batch_size': 16}
NONE = dict.fromkeys(('alpha', 'kl', 'reverse', 'gamma', 'eta', 'clip'), 0.0)


def make(**settings):
    found = find_agent(NAME)
    config = task_config(NAME, 'toy', {**SMALL, **NONE, 'pretrain_steps': 2, **settings})
    return found.agent(Spec(1, 2, 3.0), config)


def batch(agent):
    rng = np.random.default_rng(0)
    zeros, action = np.zeros((64, 1)), rng.uniform(-3, 3, (64, 2))
    columns = (zeros, action, action.sum(-1), np.zeros(64), zeros)
    return Transition(*map(jnp.float32, columns))


def step(agent, state):
    """An update of pi: the new state, and its metrics."""
    phase = agent.phases()[1]
    return phase.update(state, sample(state, batch(agent), phase.batch_size))


def moved(before, after):
    names = before.params
    return {
        name
        for name in names
        if not all(
            np.array_equal(*pair)
            for pair in zip(
                *map(jax.tree.leaves, (before.params[name], after.params[name])), strict=True
            )
        )
    }


def test_train__moves_pi_alone_and_fake_where_it_is_needed():
    agent = make(policy='implicit')
    state = agent.enter(drawn(agent))
    update = jax.jit(lambda state: step(agent, state))
    for weights, names in (
        ({}, set()),
        ({'alpha': 1.0}, {'pi'}),
        ({'kl': 1.0}, {'pi', 'fake'}),
        ({'reverse': 1.0}, {'pi'}),
        ({'eta': 1.0}, {'pi'}),
    ):
        values = {name: jnp.float32(value) for name, value in weights.items()}
        lane = state.replace(hparams={**state.hparams, **values})
        once, _ = update(lane)
        # At the first update fake is mu, so that the KL loss is flat; a second one moves pi.
        after, metrics = update(once)
        assert moved(lane, after) == names
        terms = {'alpha': 'trust_loss', 'kl': 'kl_loss', 'reverse': 'reverse_loss', 'eta': 'q'}
        for weight, term in terms.items():
            assert bool(metrics[f'pi/{term}'] != 0) == (weight in weights)
        assert np.isfinite(metrics['pi/loss'])


@pytest.mark.parametrize(('trains', 'names'), [('mu', {'mu'}), ('critic', {'critic'})])
def test_phases__train_what_is_asked_for(trains, names):
    agent = make(trains=trains, policy='implicit')
    state, (phase,) = drawn(agent), agent.phases()
    after, _ = jax.jit(lambda state: phase.update(state, batch(agent)))(state)
    assert moved(state, after) == names
    assert [phase.name for phase in make(trains='pi').phases()] == ['train']
    assert [phase.name for phase in make().phases()] == ['pretrain', 'train']


def test_policy_loss__is_dtqls_for_its_terms():
    weights = {'alpha': 0.5, 'gamma': 0.3, 'eta': 0.7}
    agent = make(**weights)
    config = {f.name: getattr(agent.config, f.name) for f in dataclasses.fields(DTQL.config_class)}
    theirs = DTQL(agent.spec, DTQL.config_class(**config))
    state, data = drawn(agent), batch(agent)
    module = __import__('toy_agent')
    draws = module.draw(state, data)

    class TheirDraws:
        pi_noise, trust_u, trust_noise = draws.pi_noise, draws.u, draws.noise

    ours = jax.jit(agent.policy_loss)(state, data, draws)[0]
    expected = jax.jit(lambda s, d: theirs.policy_loss(s, d, TheirDraws)[0])(state, data)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_reverse_loss__pulls_to_the_mean_that_mu_predicts():
    """A denoiser that always says 1 finds the noise `(x - alpha) / sigma` in x."""
    agent = make(reverse=1.0)
    state = drawn(agent)
    schedule = agent.schedule

    def always_one(params, obs):
        def network(x, c):
            sigma = jnp.exp(4 * c)[:, None]
            return (1 - schedule.c_skip(sigma) * x / schedule.c_in(sigma)) / schedule.c_out(sigma)

        return network

    object.__setattr__(agent, 'network', always_one)
    action = jnp.array([[2.0, -1.0]])
    u, noise = jnp.array([0.3]), jnp.array([[0.4, -0.2]])
    grad = jax.grad(lambda a: agent.reverse_loss(state, jnp.zeros((1, 1)), a, u, noise))(action)
    t = 0.02 + 0.96 * 0.3
    alpha = np.exp(-19.9 / 4 * t**2 - 0.05 * t)
    sigma = np.sqrt(1 - alpha**2)
    np.testing.assert_allclose(grad, sigma**2 * alpha * (action - 1) / sigma, rtol=1e-4)


def test_trust_loss__clips_where_the_lane_says_so():
    agent = make(alpha=1.0)
    state = drawn(agent)
    last = state.params['mu']['trunk']['Linear_1']
    last['bias'] = jnp.full_like(last['bias'], 100.0)
    inputs = (jnp.zeros((8, 1)), jnp.ones((8, 2)), jnp.full(8, 0.5), jnp.zeros((8, 2)))
    loss = jax.jit(agent.trust_loss)
    clipped = state.replace(hparams={**state.hparams, 'clip': jnp.float32(1)})
    assert loss(state, *inputs) > 10 * loss(clipped, *inputs)
