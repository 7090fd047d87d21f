"""DTQL's settings beyond the paper: normalised Q, LayerNorm in V and pi.

`Known` stands for the critics, so that every expected number is computed by hand.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents import dql_kl
from dtql_jax.agents.dtql import DTQL, Config, Draws
from dtql_jax.types import Spec, Transition, UserError
from tests.helpers import contract
from tests.helpers.small_dtql import make, state_of

pytestmark = pytest.mark.usefixtures('quick_compile')

SIGNS = np.array([1.0, -2.0, 0.5])
OFFSETS = np.array([-30.0, -50.0, -41.0])
ROWS = 8
EXTENSIONS = ('normalise_q', 'v_layer_norm', 'policy_layer_norm')


def known_q(action):
    """`[K, B]`."""
    return SIGNS[:, None] * np.asarray(action, np.float64).sum(-1) + OFFSETS[:, None]


class Known(nn.Module):
    """`Q_k(s, a) = scale (SIGNS_k (a_1 + a_2) + OFFSETS_k)` for three critics."""

    scale: float = 1.0

    def __call__(self, obs, action):
        return self.scale * (SIGNS[:, None] * action.sum(-1) + OFFSETS[:, None])


class WithKnown(DTQL):
    """DTQL with critics that are known."""

    q = Known()


class TenTimes(DTQL):
    """The same for rewards that are ten times as large."""

    q = Known(10.0)


def batch():
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, ROWS, 1))
    columns = obs, rng.uniform(-1, 1, (ROWS, 2)), rng.normal(size=ROWS), np.ones(ROWS), next_obs
    return Transition(*map(jnp.float32, columns))


def draws():
    rng = np.random.default_rng(1)
    u, noise = (lambda: rng.uniform(size=ROWS)), (lambda: rng.normal(size=(ROWS, 2)))
    return Draws(*map(jnp.float32, (u(), noise(), noise(), u(), noise())))


def with_hparams(state, **values):
    return state.replace(hparams=state.hparams | {k: jnp.float32(v) for k, v in values.items()})


@functools.cache
def loss_and_gradient(agent, **hparams):
    """Those of pi, and the metrics."""
    state = with_hparams(state_of(agent), **hparams)

    @jax.jit
    def program(pi):
        def loss(pi):
            changed = state.replace(params={**state.params, 'pi': pi})
            return agent.policy_loss(changed, batch(), draws())

        return jax.value_and_grad(loss, has_aux=True)(pi)

    (loss, metrics), gradient = program(state.params['pi'])
    return float(loss), gradient, {name: float(value) for name, value in metrics.items()}


def actions_of(agent):
    return agent.policy.sample(
        agent.policy.at(state_of(agent).params['pi'], batch().obs), draws().pi_noise
    )


@pytest.mark.parametrize('normalise', [False, True])
def test_policy_loss__of_pi_is_that_of_the_equation(normalise):
    agent = make(agent=WithKnown, normalise_q=normalise)
    loss, _, metrics = loss_and_gradient(agent, alpha=3.0, eta=2.0)
    q = known_q(actions_of(agent)).min(0)
    assert metrics['pi/q'] == pytest.approx(q.mean(), rel=1e-5)
    gain = q.mean() / np.abs(q).mean() if normalise else q.mean()
    assert loss == pytest.approx(3 * metrics['pi/trust_loss'] - 2 * gain, rel=1e-5)


def test_policy_loss__no_gradient_passes_through_the_magnitude_of_q():
    """The gradient is that of `eta / E |Q|` without `normalise_q`."""
    agent = make(agent=WithKnown, normalise_q=True)
    magnitude = np.abs(known_q(actions_of(agent)).min(0)).mean()
    _, gradient, _ = loss_and_gradient(agent, alpha=0.1, eta=2.0)
    _, same, _ = loss_and_gradient(make(agent=WithKnown), alpha=0.1, eta=2.0 / magnitude)
    for ours, theirs in zip(*map(jax.tree.leaves, (gradient, same)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)


def test_policy_loss__normalised_does_not_depend_on_the_scale_of_rewards():
    loss, gradient, _ = loss_and_gradient(make(agent=WithKnown, normalise_q=True))
    tenfold, theirs, _ = loss_and_gradient(make(agent=TenTimes, normalise_q=True))
    assert loss == pytest.approx(tenfold, rel=1e-5)
    for x, y in zip(*map(jax.tree.leaves, (gradient, theirs)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-6)


def test_critic_loss__v_regresses_on_the_least_critic_and_q_sums_over_all():
    agent = make(agent=WithKnown)
    state, b = state_of(agent), batch()
    _, metrics = jax.jit(agent.critic_loss)(state, b)
    v, next_v = (
        np.asarray(agent.v.apply({'params': state.params['critic']['v']}, x), np.float64)
        for x in (b.obs, b.next_obs)
    )
    q = known_q(b.action)
    apart = q.min(0) - v
    expectile = agent.config.expectile
    weight = np.where(apart > 0, expectile, 1 - expectile)
    assert metrics['critic/value_loss'] == pytest.approx((weight * apart**2).mean(), rel=1e-4)
    target = np.asarray(b.reward) + 0.99 * next_v
    expected = ((q - target) ** 2).mean(-1).sum()
    assert metrics['critic/td_loss'] == pytest.approx(expected, rel=1e-4)
    assert metrics['critic/q'] == pytest.approx(q.mean(), rel=1e-5)


def test_act__chooses_by_the_least_critic():
    agent = make(agent=WithKnown)
    state = with_hparams(state_of(agent), inverse_temperature=1e6)
    acting, obs = agent.acting(state), jnp.ones(1)
    action = jnp.float32(np.random.default_rng(2).uniform(-1, 1, (6, 2)))
    q = known_q(action).min(0)
    np.testing.assert_allclose(agent.candidate_q(acting, obs, action), q, rtol=1e-6)
    key = jax.random.key(0)
    noise = jax.random.normal(jax.random.split(key)[0], (agent.config.candidates, 2))
    sampled = agent.candidates(acting, obs, noise)
    best = sampled[np.argmax(known_q(sampled).min(0))]
    np.testing.assert_allclose(jax.jit(agent.act)(acting, obs, key), best, rtol=1e-5)


# Each alone: `contract` has an agent with all of them.


def shapes(agent):
    return jax.eval_shape(agent.init, jax.random.key(0))


@pytest.mark.parametrize('name', EXTENSIONS)
def test_train__keeps_its_state_with_each_alone(name):
    """Traced only."""
    agent = contract.make('dtql', **{name: True})
    state = shapes(agent)
    after, metrics = jax.eval_shape(agent.phases()[-1].update, state, contract.batch_of(0))
    assert contract.described(after) == contract.described(state)
    assert {x.shape for x in metrics.values()} == {()}
    acting = jax.eval_shape(agent.acting, state)
    action = jax.eval_shape(agent.act, acting, jnp.zeros(contract.OBS), jax.random.key(0))
    assert (action.shape, action.dtype) == ((contract.ACTION,), jnp.float32)


def test_Config__beyond_the_paper_is_off_by_default():
    for config in (Config(), dql_kl.Config()):
        assert not config.v_layer_norm
    assert not Config().normalise_q
    assert not Config().policy_layer_norm


def test_Config__refuses_other_values_in_one_line():
    with pytest.raises(UserError) as error:
        Config(normalise_q='often')
    assert str(error.value) == "`normalise_q`='often': not true or false"


def test_DTQL__of_dql_kl_joins_its_critics_alike():
    """Its policy's loss has the same term."""

    class Kl(dql_kl.DQLKL):
        q = Known()

        def generate(self, params, obs, noise, sigma_g):
            return noise

        def kl_loss(self, *args):
            return jnp.float32(0)

    config = dql_kl.Config(hidden=8)
    agent, data = Kl(Spec(1, 2), config), batch()
    noise = draws().pi_noise
    state = with_hparams(state_of(make()), generation_sigma=2.5, eta=2.0)
    drawn = dql_kl.draw(state, data)._replace(pi_noise=noise)
    loss, metrics = agent.policy_loss(state, data, drawn)
    q = known_q(noise).min(0).mean()
    assert metrics['pi/q'] == pytest.approx(q, rel=1e-5)
    assert loss == pytest.approx(-2 * q, rel=1e-5)
