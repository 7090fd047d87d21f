"""BC: one network, trained by DTQL's own loss, and sampled from when acting."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents import bc, dtql
from dtql_jax.agents.bc import BC, Config
from dtql_jax.agents.tables.bc import TABLE
from dtql_jax.training.update import sample
from dtql_jax.types import Spec, Transition, UserError

pytestmark = pytest.mark.usefixtures('quick_compile')


def make(max_action=1.0, **settings):
    return BC(Spec(1, 2, max_action), Config(**{'hidden': 32, 'steps': 100} | settings))


def batch_of(seed, n=8):
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(n, 1))
    batch = (obs, rng.uniform(-1, 1, (n, 2)), np.zeros(n), np.ones(n), obs)
    return Transition(*[jnp.float32(x) for x in batch])


@functools.cache
def fresh():
    return jax.jit(make().init)(jax.random.key(0))


def state_of(agent):
    hparams = {k: jnp.float32(v) for k, v in agent.config.floats().items()}
    return fresh().replace(hparams=hparams)


# Training.


@functools.cache
def update_of(agent):
    return jax.jit(agent.phases()[0].update)


def test_clone_loss__and_network_are_those_of_dtql():
    """The same batch and noise, the same parameters: the same loss and the same gradient."""
    agent, batch = make(), batch_of(0)
    other = dtql.DTQL(agent.spec, dtql.Config(hidden=32))
    draws = bc.draw(fresh(), batch)

    def loss_of(agent):
        def loss(params):
            return agent.clone_loss(fresh().replace(params={'mu': params}), batch, draws)[0]

        return jax.jit(jax.value_and_grad(loss))(fresh().params['mu'])

    ours, theirs = loss_of(agent), loss_of(other)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(a, b)


def test_train__learning_rate_decays_over_all_updates():
    """Adam's first step is the learning rate in size, whatever the gradient."""
    for step, lr_decay, expected in ((0, True, 3e-4), (50, True, 1.5e-4), (50, False, 3e-4)):
        agent = make(lr_decay=lr_decay)
        update = update_of(agent)
        state = state_of(agent).replace(step=jnp.int32(step))
        after, metrics = update(state, batch_of(0))
        moves = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), after.params, state.params)
        assert max(jax.tree.leaves(moves)) == pytest.approx(expected, rel=1e-2)
        assert list(metrics) == ['mu/loss']


def test_draw__is_new_at_every_step():
    batch = batch_of(0, 64)
    now, later = (bc.draw(fresh().replace(step=jnp.int32(i)), batch) for i in (0, 1))
    assert [x.shape for x in now] == [(64,), (64, 2)]
    assert len({np.asarray(x).tobytes() for x in (*now, *later)}) == 4
    assert 0 <= now.clone_u.min() < now.clone_u.max() < 1


# Settings.


@pytest.mark.parametrize(
    ('name', 'value'), [('sampler', 'euler'), ('schedule', 'cosine'), ('sampler_steps', 0)]
)
def test_Config__refuses_impossible_values(name, value):
    with pytest.raises(UserError, match=f'^`{name}`={value}: must be'):
        Config(**{name: value})


def test_TABLE__has_the_settings_of_mu_alone():
    assert TABLE['hopper-medium'] == {'lr': 1e-4, 'lr_decay': True}
    umaze = {'lr_decay': True, 'steps': 4_000, 'eval_every': 2_000, 'hidden': 128}
    assert TABLE['pointmaze-umaze'] == umaze


# Acting.


@pytest.mark.parametrize('sampler', bc.SAMPLERS)
@pytest.mark.parametrize('max_action', [0.2, 2.0])
def test_act__stays_in_the_box(sampler, max_action):
    agent = make(max_action, sampler=sampler, sampler_steps=4)
    keys = jax.random.split(jax.random.key(1), 64)
    acting = agent.acting(state_of(agent))
    action = jax.jit(jax.vmap(agent.act, (None, None, 0)))(acting, jnp.ones(1), keys)
    assert action.shape == (64, 2)
    assert np.abs(action).max() <= max_action
    assert len(np.unique(action, axis=0)) > (32 if max_action == 2 else 3)  # 0.2 clips most


def test_sample__churn_is_data_of_the_acting_policy():
    """Without churn, algorithm 2 is algorithm 1, in the same compiled program."""
    heun, stochastic = make(), make(sampler='stochastic')
    acting = stochastic.acting(state_of(stochastic))
    noise = jax.random.normal(jax.random.key(0), (19, 4, 2))
    obs = jnp.ones((4, 1))
    run = jax.jit(stochastic.sample)
    still = run({**acting, 's_churn': jnp.float32(0)}, obs, noise)
    np.testing.assert_allclose(jax.jit(heun.sample)(acting, obs, noise), still, atol=1e-5)
    assert np.abs(run(acting, obs, noise) - still).max() > 1e-3
    assert run._cache_size() == 1


# A bandit: four modes in the square.

MODES = np.array([[-0.6, -0.6], [-0.6, 0.6], [0.6, -0.6], [0.6, 0.6]])
UPDATES = {'edm': 600, 'vp': 2000, 've': 3000}  # a prediction of noise learns more slowly


@functools.cache
def trained(schedule):
    rng = np.random.default_rng(0)
    n = 4000
    action = MODES[rng.integers(4, size=n)] + 0.05 * rng.normal(size=(n, 2))
    obs = np.zeros((n, 1))
    data = Transition(*[jnp.float32(x) for x in (obs, action, np.zeros(n), np.zeros(n), obs)])
    agent = make(lr=4e-3, lr_decay=True, steps=UPDATES[schedule], schedule=schedule)
    update = agent.phases()[0].update

    def train(_, state):
        return update(state, sample(state, data, 128))[0]

    run = jax.jit(lambda state: jax.lax.fori_loop(0, UPDATES[schedule], train, state))
    return run(state_of(agent))


@pytest.mark.parametrize(
    ('schedule', 'sampler'),
    [
        ('edm', 'heun'),
        ('edm', 'stochastic'),
        pytest.param('vp', 'heun', marks=pytest.mark.slow),
        pytest.param('ve', 'heun', marks=pytest.mark.slow),
    ],
)
def test_act__samples_all_modes_of_a_bandit_in_equal_parts(schedule, sampler):
    agent = make(schedule=schedule, sampler=sampler)
    acting = agent.acting(trained(schedule).replace(hparams=state_of(agent).hparams))
    keys = jax.random.split(jax.random.key(9), 400)
    action = np.asarray(jax.jit(jax.vmap(agent.act, (None, None, 0)))(acting, jnp.zeros(1), keys))
    distance = np.linalg.norm(action[:, None] - MODES, axis=-1)
    assert np.bincount(distance.argmin(1), minlength=4).min() > 0.15 * 400
    assert np.median(distance.min(1)) < 0.2
