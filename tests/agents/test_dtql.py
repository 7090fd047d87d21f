"""What only DTQL does: order, learning rates, likelihood term, clone, a bandit that it solves."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents import dtql
from dtql_jax.agents.base import State
from dtql_jax.agents.dtql import DTQL, Config, Draws
from dtql_jax.training.engine import sample
from dtql_jax.types import Spec, Transition

pytestmark = pytest.mark.usefixtures('quick_compile')


def make(max_action=1.0, **settings):
    settings = {'hidden': 16, 'candidates': 4, 'steps': 100, 'pretrain_steps': 10} | settings
    return DTQL(Spec(1, 2, max_action), Config(**settings))


@functools.cache
def fresh_lanes():
    """Two lanes: the initial parameters of all agents here, which have the same networks."""
    return jax.jit(jax.vmap(lambda seed: make().init(jax.random.key(seed))))(jnp.arange(2))


def lanes_of(agent):
    hparams = {k: jnp.full(2, v, jnp.float32) for k, v in agent.config.floats().items()}
    return fresh_lanes().replace(hparams=hparams)


def state_of(agent, lane=0):
    return jax.tree.map(lambda x: x[lane], lanes_of(agent))


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


def test_training_updates_critic_then_clone_then_policy_then_target_each_seeing_the_last():
    log = log_of('train', 10)
    assert [(name, what, seen) for name, what, _, seen in log] == [
        ('critic', 'critic_loss', {'critic': 0, 'mu': 0, 'pi': 0}),
        ('mu', 'clone_loss', {'critic': 1, 'mu': 0, 'pi': 0}),
        ('pi', 'policy_loss', {'critic': 1, 'mu': 1, 'pi': 0}),
        ('target', 'critic', {'critic': 1, 'mu': 1, 'pi': 1}),
    ]


def test_pretraining_updates_clone_and_critic_and_nothing_else():
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
def test_all_learning_rates_decay_with_the_training_updates_alone(step, factor):
    """Ten updates of pre-training, a hundred of training: the first trains at the full rate."""
    rates = {name: lr for name, _, lr, _ in log_of('train', step, lr_decay=True)}
    expected = {'critic': 3e-4 * factor, 'mu': 1e-4 * factor, 'pi': 1e-4 * factor}
    assert rates == pytest.approx(expected | {'target': 0.005}, rel=1e-3)
    constant = {name: lr for name, _, lr, _ in log_of('train', step)}
    assert constant == pytest.approx({'critic': 3e-4, 'mu': 1e-4, 'pi': 1e-4, 'target': 0.005})


def test_noise_is_drawn_anew_for_each_use_and_step():
    state = state_of(make())
    batch = Transition(*[jnp.ones((64, n)) for n in (1, 2, 1, 1, 1)])
    draws = dtql.draw(state, batch)
    assert [x.shape for x in draws] == [(64,), (64, 2), (64, 2), (64,), (64, 2)]
    later = dtql.draw(state.replace(step=state.step + 1), batch)
    arrays = [*draws, *later]
    assert len({np.asarray(x).tobytes() for x in arrays}) == len(arrays)
    for u in (draws.clone_u, draws.trust_u):
        assert 0 <= u.min() < u.max() < 1


# The policy's loss.


def policy_loss(agent, action, seed=0, **hparams):
    """The loss and its metrics for a batch of these actions."""
    rng = np.random.default_rng(seed)
    n = len(action)
    obs = jnp.float32(rng.normal(size=(n, agent.spec.obs_dim)))
    batch = Transition(obs, jnp.float32(action), jnp.zeros(n), jnp.ones(n), obs)
    draws = Draws(*[
        jnp.float32(x)
        for x in (
            rng.uniform(size=n),
            rng.normal(size=(n, 2)),
            rng.normal(size=(n, 2)),
            rng.uniform(size=n),
            rng.normal(size=(n, 2)),
        )
    ])  # fmt: skip
    state = state_of(agent)
    hparams = {name: jnp.float32(value) for name, value in hparams.items()}
    return loss_program(agent)(state.replace(hparams=state.hparams | hparams), batch, draws)


@functools.cache
def loss_program(agent):
    return jax.jit(agent.policy_loss)


INSIDE = np.random.default_rng(1).uniform(-1, 1, (8, 2))


def test_the_loss_is_the_weighted_sum_of_its_terms():
    agent = make(gamma=1.0)
    loss, metrics = policy_loss(agent, INSIDE, alpha=3.0, eta=2.0, gamma=0.5)
    terms = {name.removeprefix('pi/'): float(value) for name, value in metrics.items()}
    expected = 3 * terms['trust_loss'] - 2 * terms['q'] - 0.5 * terms['log_prob']
    assert loss == pytest.approx(expected, rel=1e-5)
    assert terms['loss'] == pytest.approx(float(loss))


def test_without_the_likelihood_term_no_data_action_is_looked_at():
    """A weight of 0 times a NaN would be a NaN: the term is not in the program."""
    outside = INSIDE + 5.0
    agent = make()
    loss, metrics = policy_loss(agent, outside)
    assert jnp.isfinite(loss)
    assert 'pi/log_prob' not in metrics
    assert loss == policy_loss(agent, INSIDE)[0]
    assert jnp.isnan(policy_loss(make(gamma=1.0), outside)[0])


def test_the_likelihood_term_is_finite_at_the_very_edge_and_hangs_on_the_data():
    agent = make(gamma=1.0)
    edge = policy_loss(agent, np.ones((8, 2)))[1]['pi/log_prob']
    assert jnp.isfinite(edge)
    assert edge != policy_loss(agent, INSIDE)[1]['pi/log_prob']


def test_the_likelihood_is_that_of_the_data_before_tanh():
    """By hand, with pi's own mean and deviation: no Jacobian of tanh."""
    agent = make(gamma=1.0)
    log_prob = policy_loss(agent, INSIDE)[1]['pi/log_prob']
    obs = jnp.float32(np.random.default_rng(0).normal(size=(8, 1)))
    mean, log_std = agent.pi.apply({'params': state_of(agent).params['pi']}, obs)
    z = (np.arctanh(INSIDE / 1.001) - mean) / np.exp(log_std)
    expected = (-0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(-1).mean()
    assert log_prob == pytest.approx(float(expected), rel=1e-4)


# The clone, and acting.


def test_the_clone_does_not_see_q():
    """Neither in its loss nor in its choice, whatever the critics say."""
    agent = make()
    loss, metrics = policy_loss(agent, INSIDE, **DTQL.clone)
    assert loss == pytest.approx(float(metrics['pi/trust_loss']))
    state = state_of(agent)
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


def test_acting_reads_the_one_step_policy_and_the_target_critic_only():
    agent = make()
    state = state_of(agent)
    acting = agent.acting(state)
    assert sorted(acting) == ['inverse_temperature', 'pi', 'q']
    assert acting['pi'] is state.params['pi']
    assert acting['q'] is state.target['critic']['q']


def test_candidates_are_squashed_samples_of_the_policy():
    agent = make(max_action=2.0)
    acting = agent.acting(state_of(agent))
    noise = jnp.array([[0.0, 0.0], [1.0, -1.0]])
    mean, log_std = agent.pi.apply({'params': acting['pi']}, jnp.ones(1))
    expected = 2 * jnp.tanh(mean + jnp.exp(log_std) * noise)
    np.testing.assert_allclose(agent.candidates(acting, jnp.ones(1), noise), expected, rtol=1e-5)


# A bandit: four modes in the square, one of them best.

MODES = np.array([[-0.6, -0.6], [-0.6, 0.6], [0.6, -0.6], [0.6, 0.6]])
REWARDS = np.array([0.0, 0.3, 0.6, 1.0])
UPDATES = 1000


@pytest.fixture(scope='module')
def bandit(quick_compile):
    """DTQL and its clone, trained side by side: the agent, its states and 200 actions of each."""
    rng = np.random.default_rng(0)
    n = 4000
    mode = rng.integers(4, size=n)
    action = MODES[mode] + 0.05 * rng.normal(size=(n, 2))
    obs = np.zeros((n, 1))
    data = (obs, action, REWARDS[mode], np.zeros(n), obs)
    data = Transition(*[jnp.float32(x) for x in data])
    settings = {'lr': 2e-3, 'critic_lr': 2e-3, 'lr_decay': True}
    agent = make(steps=UPDATES, pretrain_steps=0, candidates=16, **settings)
    update = agent.phases()[1].update

    def train(state):
        step = lambda _, state: update(state, sample(state, data, 32))  # noqa: E731
        return jax.lax.fori_loop(0, UPDATES, lambda i, s: step(i, s)[0], state)

    states = lanes_of(agent)
    lanes = {'eta': jnp.array([1.0, DTQL.clone['eta']])}
    lanes['inverse_temperature'] = jnp.array([10.0, DTQL.clone['inverse_temperature']])
    states = jax.jit(jax.vmap(train))(states.replace(hparams=states.hparams | lanes))
    act = jax.vmap(jax.vmap(agent.act, (None, None, 0)), (0, None, None))
    keys = jax.random.split(jax.random.key(9), 200)
    actions = jax.jit(act)(jax.vmap(agent.acting)(states), jnp.zeros(1), keys)
    return agent, states, np.asarray(actions)


def nearest(points):
    """The nearest mode of each point, and how far it is."""
    distance = np.linalg.norm(points[:, None] - MODES, axis=-1)
    return distance.argmin(1), distance.min(1)


def test_dtql_finds_the_best_mode(bandit):
    mode, distance = nearest(bandit[2][0])
    assert (mode == 3).mean() > 0.9
    assert np.median(distance) < 0.35


def test_its_clone_has_no_favourite(bandit):
    mode, _ = nearest(bandit[2][1])
    assert np.bincount(mode, minlength=4).min() > 0.1 * 200


def test_the_diffusion_policy_has_all_four_modes_in_equal_parts(bandit):
    """Sampled from by Euler steps of its probability flow."""
    agent, states, _ = bandit
    mu = jax.tree.map(lambda x: x[1], states.params['mu'])
    obs, sigma = jnp.zeros((400, 1)), np.geomspace(10, 0.01, 30, dtype=np.float32)

    @jax.jit
    def denoise(x, level):
        def network(y, c):
            return agent.mu.apply({'params': mu}, y, c, obs)

        return agent.schedule.denoise(network, x, jnp.full(400, level), clip=1.0)

    x = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32) * sigma[0]
    for now, then in itertools.pairwise(sigma):
        x += (then - now) / now * (x - np.asarray(denoise(x, now)))
    mode, distance = nearest(x)
    assert np.bincount(mode, minlength=4).min() > 0.15 * 400
    assert np.median(distance) < 0.2
