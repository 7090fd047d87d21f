"""TD3+BC against NumPy: two updates in the middle of a run, and acting.

`test_td3_bc_parity` has the released code's updates, without its losses.
"""

import jax
import numpy as np
import pytest

from dtql_jax.agents.td3_bc import TD3BC, Config
from dtql_jax.runs.plan import make_plan, make_request
from dtql_jax.types import Spec, Transition
from tests.helpers import numpy_reference as ref

pytestmark = pytest.mark.usefixtures('quick_compile')

OBS, ACTION, BATCH, BOX = 3, 2, 16, 2.0
BOTH, Q_ONLY = 7, 6  # the eighth update moves both networks, the seventh Q alone
SETTINGS = {
    'lr': 0.01, 'alpha': 1.5, 'noise': 0.4, 'noise_clip': 0.3, 'tau': 0.1, 'discount': 0.9,
}  # fmt: skip


@pytest.fixture(scope='module')
def agent(quick_compile):
    return TD3BC(Spec(OBS, ACTION, BOX), Config(hidden=8, **SETTINGS))


@pytest.fixture(scope='module')
def before(agent):
    start = jax.jit(agent.init)(jax.random.key(0))
    return {step: ref.stirred(start, step) for step in (BOTH, Q_ONLY)}


@pytest.fixture(scope='module')
def batch():
    rng = np.random.default_rng(0)
    obs, next_obs = 2 * rng.normal(size=(2, BATCH, OBS))
    action = rng.uniform(-BOX, BOX, (BATCH, ACTION))
    reward, mask = rng.normal(size=BATCH), rng.integers(0, 2, BATCH)
    return Transition(*(np.float32(x) for x in (obs, action, reward, mask, next_obs)))


@pytest.fixture(scope='module')
def noise():
    return np.float32(np.random.default_rng(1).normal(size=(BATCH, ACTION)))


@pytest.fixture(scope='module')
def after(agent, before, batch, noise):
    """The state and the metrics after the update of each step, by one program."""
    train = jax.default_matmul_precision('highest')(jax.jit(agent.train))
    return {step: train(state, batch, noise) for step, state in before.items()}


def pi_of(p, obs):
    return np.tanh(ref.mlp(p, [f'/Linear_{i}' for i in range(3)], obs, ref.relu))


def next_action(before, batch, noise):
    """Before and after it is clipped to the box, in units of the box."""
    clipped = np.clip(SETTINGS['noise'] * np.float64(noise), -0.3, 0.3)
    free = pi_of(ref.flat(before.target['pi']), np.float64(batch.next_obs)) + clipped
    return free, np.clip(free, -1, 1)


def reference(before, batch, noise):
    """The update: {network: Step}, and the parts of the policy's loss."""
    b = Transition(*(np.asarray(x, np.float64) for x in batch[:5]))
    data = b.action / BOX
    _, action = next_action(before, batch, noise)
    next_q = ref.twin_q(ref.flat(before.target['q']), 'Linear', b.next_obs, action).min(0)
    parts = {}

    def q_loss(p):
        q = ref.twin_q(p, 'Linear', b.obs, data)
        errors = ref.squared_errors(q, b.reward, b.mask, next_q, SETTINGS['discount'])
        return errors[0].mean() + errors[1].mean()

    q_step = ref.descend(q_loss, ref.flat(before.params['q']), ref.adam_of(before, 'q'), 0.01)
    old = ref.flat(before.params['pi'])
    at_first = ref.twin_q(q_step.params, 'Linear', b.obs, pi_of(old, b.obs))[0]
    weight = SETTINGS['alpha'] / np.abs(at_first).mean()  # no gradient passes through it

    def pi_loss(p):
        action = pi_of(p, b.obs)
        parts['clone'] = sum(((action - data) ** 2).ravel()) / (BATCH * ACTION)
        parts['q'] = ref.twin_q(q_step.params, 'Linear', b.obs, action)[0].mean()
        return parts['clone'] - weight * parts['q']

    pi_step = ref.descend(pi_loss, old, ref.adam_of(before, 'pi'), SETTINGS['lr'])
    pi_loss(ref.flat(before.params['pi']))
    return {'q': q_step, 'pi': pi_step}, parts


@pytest.fixture(scope='module')
def expected(before, batch, noise):
    return reference(before[BOTH], batch, noise)


def test_train__losses(after, expected):
    steps, parts = expected
    _, metrics = after[BOTH]
    np.testing.assert_allclose(metrics['q/td_loss'], steps['q'].loss, rtol=2e-5)
    wanted = {'loss': steps['pi'].loss, 'clone_loss': parts['clone'], 'q': parts['q']}
    for name, value in wanted.items():
        assert metrics[f'pi/{name}'].count == 1
        np.testing.assert_allclose(metrics[f'pi/{name}'].total, value, rtol=5e-5, err_msg=name)


def test_train__batch_meets_every_branch(before, batch, noise):
    """Noise within its bound and beyond, actions within the box and beyond, both masks."""
    beyond = np.abs(SETTINGS['noise'] * noise) > SETTINGS['noise_clip']
    free, clipped = next_action(before[BOTH], batch, noise)
    for part in (beyond, free != clipped, batch.mask == 1):
        assert part.any()
        assert not part.all()


@pytest.mark.parametrize('name', ['q', 'pi'])
def test_train__gradient_and_optimiser_step(before, after, expected, name):
    """Those of pi are at the new Q."""
    ref.assert_step(before[BOTH], after[BOTH][0], name, expected[0][name])


@pytest.mark.parametrize('name', ['q', 'pi'])
def test_train__targets_follow_the_new_networks(before, after, expected, name):
    old = ref.flat(before[BOTH].target[name])
    target = ref.average(old, expected[0][name].params, SETTINGS['tau'])
    ref.assert_tree(ref.flat(after[BOTH][0].target[name]), target, f'target of {name}')


def test_train__between_two_updates_of_pi_only_q_moves(before, after, batch, noise):
    old, (new, metrics) = before[Q_ONLY], after[Q_ONLY]
    ref.assert_step(old, new, 'q', reference(old, batch, noise)[0]['q'])
    for part in ('params', 'opt'):
        jax.tree.map(
            np.testing.assert_array_equal, getattr(new, part)['pi'], getattr(old, part)['pi']
        )
    jax.tree.map(np.testing.assert_array_equal, new.target, old.target)
    assert metrics['pi/loss'].count == 0


def test_act__is_the_policy_in_the_box(agent, before, batch):
    state = before[BOTH]
    acted = jax.vmap(agent.act, (None, 0, None))(agent.acting(state), batch.obs, None)
    wanted = BOX * pi_of(ref.flat(state.params['pi']), np.float64(batch.obs))
    np.testing.assert_allclose(acted, wanted, atol=1e-5)


def test_clone__is_a_regression_on_the_data(agent, before, batch):
    """With `alpha` 0 the loss is the distance to the data."""
    state = before[BOTH]
    state = state.replace(hparams={**state.hparams, **agent.clone})
    loss, metrics = agent.policy_loss(state, batch)
    assert loss == metrics['pi/clone_loss']


def test_task_settings__observations_are_normalised_unless_a_run_says_otherwise():
    for asked, normalised in ({}, True), ({'normalize_obs': False}, False):
        plan = make_plan(make_request({'env': 'hopper-medium', 'agent': 'td3_bc', **asked}))
        assert plan.task.normalize_obs is normalised
        assert plan.request.settings['normalize_obs'] is normalised  # what a resume reads
        assert make_plan(plan.request).identity() == plan.identity()
    assert not make_plan(
        make_request({'env': 'hopper-medium', 'agent': 'rebrac'})
    ).task.normalize_obs
