"""IQL against NumPy: one whole update in the middle of a run, and acting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.iql import IQL, Config
from dtql_jax.types import Spec, Transition
from tests.helpers import numpy_reference as ref

pytestmark = pytest.mark.usefixtures('quick_compile')

OBS, ACTION, BATCH, BOX = 3, 2, 16, 2.0
STEP, STEPS = 7, 20
LAYER = 'OrthogonalDense'
SETTINGS = {
    'lr': 0.02, 'critic_lr': 0.01, 'expectile': 0.8, 'tau': 0.1, 'beta': 5.0, 'discount': 0.9,
}  # fmt: skip


@pytest.fixture(scope='module')
def agent(quick_compile):
    return IQL(Spec(OBS, ACTION, BOX), Config(hidden=8, steps=STEPS, **SETTINGS))


@pytest.fixture(scope='module')
def before(agent):
    state = ref.stirred(jax.jit(agent.init)(jax.random.key(0)), STEP)
    # The first log deviation is beyond the clamp, where no gradient is.
    pi = {**state.params['pi'], 'log_std': jnp.array([2.5, -0.4])}
    # A lower V, so that some weights reach their bound.
    v = {'v': {**state.params['v']['v'], f'{LAYER}_2': dict(state.params['v']['v'][f'{LAYER}_2'])}}
    v['v'][f'{LAYER}_2']['bias'] -= 1
    return state.replace(params={**state.params, 'pi': pi, 'v': v})


@pytest.fixture(scope='module')
def batch():
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, BATCH, OBS))
    action = rng.uniform(-BOX, BOX, (BATCH, ACTION))
    reward, mask = rng.normal(size=BATCH), rng.integers(0, 2, BATCH)
    return Transition(*(np.float32(x) for x in (obs, action, reward, mask, next_obs)))


@pytest.fixture(scope='module')
def train(agent):
    """An update with exact products, in one program."""
    return jax.default_matmul_precision('highest')(jax.jit(agent.train))


@pytest.fixture(scope='module')
def after(train, before, batch):
    return train(before, batch)


def mean_of(p, obs):
    return np.tanh(ref.mlp(p, [f'/mean/{LAYER}_{i}' for i in range(3)], obs, ref.relu))


def reference(before, batch, order=('v', 'pi', 'q')):
    """The update, its three steps in `order`: {network: Step}, and the policy's weights."""
    b = Transition(*(np.asarray(x, np.float64) for x in batch[:5]))
    params = {k: ref.flat(before.params[k]) for k in order}
    target_q = ref.twin_q(ref.flat(before.target['q']), LAYER, b.obs, b.action).min(0)
    weights = {}

    def v_loss(p):
        return ref.expectile_loss(target_q, ref.value(p, LAYER, b.obs), SETTINGS['expectile'])

    def q_loss(p):
        next_v = ref.value(params['v'], LAYER, b.next_obs)
        q = ref.twin_q(p, LAYER, b.obs, b.action)
        errors = ref.squared_errors(q, b.reward, b.mask, next_v, SETTINGS['discount'])
        return (errors[0] + errors[1]).mean()

    def pi_loss(p):
        advantage = target_q - ref.value(params['v'], LAYER, b.obs)
        weights['pi'] = np.minimum(np.exp(SETTINGS['beta'] * advantage), 100)
        deviation = np.exp(np.clip(p['/log_std'], -5, 2))
        z = (b.action / BOX - mean_of(p, b.obs)) / deviation
        density = np.prod(np.exp(-(z**2) / 2) / (np.sqrt(2 * np.pi) * deviation), -1)
        return -(weights['pi'] * np.log(density)).mean()

    decayed = SETTINGS['lr'] * (1 + np.cos(np.pi * STEP / STEPS)) / 2
    lr = {'v': SETTINGS['critic_lr'], 'q': SETTINGS['critic_lr'], 'pi': decayed}
    loss = {'v': v_loss, 'q': q_loss, 'pi': pi_loss}
    steps = {}
    for name in order:
        adam = ref.adam_of(before, name)
        steps[name] = ref.descend(loss[name], params[name], adam, lr[name])
        params[name] = steps[name].params
    return steps, weights['pi']


@pytest.fixture(scope='module')
def expected(before, batch):
    return reference(before, batch)


def test_train__losses(after, expected):
    steps, weights = expected
    _, metrics = after
    for name, network in (('v/loss', 'v'), ('pi/loss', 'pi'), ('q/td_loss', 'q')):
        np.testing.assert_allclose(metrics[name], steps[network].loss, rtol=2e-5, err_msg=name)
    np.testing.assert_allclose(metrics['pi/weight'], weights.mean(), rtol=2e-5)


def test_train__batch_meets_every_branch(before, batch, expected):
    """Both sides of the weights' bound, both signs of the advantage, both masks."""
    _, weights = expected
    assert (weights == 100).any()
    assert (weights < 100).any()
    assert (weights < 1).any()
    assert set(batch.mask) == {0, 1}


@pytest.mark.parametrize('name', ['v', 'pi', 'q'])
def test_train__gradient_and_optimiser_step(before, after, expected, name):
    ref.assert_step(before, after[0], name, expected[0][name])


def test_train__target_critic_follows_the_new_critic(before, after, expected):
    target = ref.average(ref.flat(before.target['q']), expected[0]['q'].params, SETTINGS['tau'])
    ref.assert_tree(ref.flat(after[0].target['q']), target, 'target')


@pytest.mark.parametrize('order', [('q', 'v', 'pi'), ('pi', 'v', 'q')])
def test_train__another_order_would_be_seen(before, batch, after, order):
    steps, _ = reference(before, batch, order)
    first = order[0]
    with pytest.raises(AssertionError, match=f'{first}: gradient'):
        ref.assert_step(before, after[0], first, steps[first])


def test_act__is_the_mean(agent, before, batch):
    acting, key = agent.acting(before), jax.random.key(0)
    action = jax.vmap(agent.act, (None, 0, None))(acting, batch.obs, key)
    expected = BOX * mean_of(ref.flat(before.params['pi']), np.float64(batch.obs))
    np.testing.assert_allclose(action, expected, atol=2e-6)


def test_policy_loss__of_the_clone_weighs_all_data_alike(train, before, batch):
    cloned = before.replace(
        hparams={**before.hparams, **{k: jnp.float32(v) for k, v in IQL.clone.items()}}
    )
    assert train(cloned, batch)[1]['pi/weight'] == 1


def test_init__layers_are_orthogonal_with_gain_sqrt_2_and_no_bias(agent):
    params = jax.jit(agent.init)(jax.random.key(0)).params
    for network, *path in (('v', 'v'), ('pi', 'mean')):
        layer = params[network][path[0]][f'{LAYER}_1']
        kernel = np.asarray(layer['kernel'])
        np.testing.assert_allclose(kernel @ kernel.T, 2 * np.eye(8), atol=1e-5)
        assert not np.any(layer['bias'])
    assert not np.any(params['pi']['log_std'])
    first, second = (params['q'][name][f'{LAYER}_1']['kernel'] for name in ('q1', 'q2'))
    assert np.abs(first - second).max() > 0.1
