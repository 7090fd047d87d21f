"""SRPO: its phases, the gradient of its policy, w(t), fixed frequencies, its settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents import srpo
from dtql_jax.agents.srpo import SRPO, CloneDraws, Config, Draws
from dtql_jax.agents.tables.srpo import TABLE
from dtql_jax.nn.denoisers import FixedFourierFeatures
from dtql_jax.types import Spec, Transition, UserError
from tests.helpers.states import drawn

pytestmark = pytest.mark.usefixtures('quick_compile')

OBS, ACTION, BATCH = 3, 2, 5


def make(**settings):
    settings = {
        'hidden': 8, 'steps': 100, 'behaviour_steps': 20, 'critic_steps': 10, 'beta': 0.3,
    } | settings  # fmt: skip
    return SRPO(Spec(OBS, ACTION), Config(**settings))


@pytest.fixture(scope='module')
def start():
    """An initial state with a target critic of its own."""
    state = drawn(make())
    return state.replace(target=jax.tree.map(lambda x: 1.5 * x, state.target))


def batch_of(seed=0):
    rng = np.random.default_rng(seed)
    obs, next_obs = rng.normal(size=(2, BATCH, OBS))
    action = rng.uniform(-1, 1, (BATCH, ACTION))
    reward, mask = rng.normal(size=BATCH), rng.integers(0, 2, BATCH)
    return Transition(*(jnp.float32(x) for x in (obs, action, reward, mask, next_obs)))


def policy_draws(seed=0):
    rng = np.random.default_rng(seed)
    return Draws(
        jnp.float32(rng.uniform(size=BATCH)), jnp.float32(rng.normal(size=(BATCH, ACTION)))
    )


class Known(SRPO):
    """mu predicts (1, 2) everywhere; Q1 is 3 a_0 and Q2 is a_0 + 8 a_1, so that g is (2, 4)."""

    @property
    def mu(self):
        return Module(lambda x, t, obs: jnp.broadcast_to(jnp.array([1.0, 2.0]), x.shape))

    @property
    def q(self):
        return Module(lambda obs, a: jnp.stack([3 * a[..., 0], a[..., 0] + 8 * a[..., 1]]))


class Module:
    """A function in the shape of a network without parameters."""

    def __init__(self, function):
        self.function = function

    def apply(self, params, *inputs):
        return self.function(*inputs)


def known_direction(start, u, noise, beta=0.5, **settings):
    agent = Known(Spec(OBS, ACTION), make(**settings).config)
    state = start.replace(hparams=start.hparams | {'beta': jnp.float32(beta)})
    obs, action = jnp.zeros((1, OBS)), jnp.array([[0.5, -0.25]])
    return agent.direction(state, obs, action, Draws(jnp.float32([u]), jnp.float32([noise])))


# u = 0.5 is t = 0.5: ln alpha = -1.26875, so alpha^2 = 0.0790638 and sigma^2 = 0.9209362.
WEIGHTS = {'VDS': 0.9209362, 'stable': 1.0, 'score': (0.0790638 / 0.9209362) ** 0.5}


@pytest.mark.parametrize('weight', WEIGHTS)
def test_direction__by_hand(start, weight):
    """w (1, 2) - (2, 4) / 2; at (1/2, -1/4) the critics are 1.5 and -1.5."""
    direction, q = known_direction(start, 0.5, [0.3, 0.7], weight=weight)
    w = WEIGHTS[weight]
    np.testing.assert_allclose(direction, [[w - 1, 2 * w - 2]], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(q, [0.0], atol=1e-6)


def test_direction__baseline_subtracts_the_noise(start):
    direction, _ = known_direction(start, 0.5, [0.3, 0.7], baseline=True, weight='stable')
    np.testing.assert_allclose(direction, [[0.7 - 1, 1.3 - 2]], rtol=1e-5)


def test_direction__normalised_gradient_has_root_mean_square_1(start):
    """(2, 4) over sqrt((4 + 16) / 2)."""
    direction, _ = known_direction(
        start, 0.5, [0.3, 0.7], weight='stable', normalise_q_gradient=True
    )
    g = np.array([2.0, 4.0]) / np.sqrt(10)
    np.testing.assert_allclose(direction, [np.array([1.0, 2.0]) - 0.5 * g], rtol=1e-5)


def test_direction__gradient_of_0_stays_0_when_normalised(start):
    """The released code divides 0 by 0."""
    flat = type('Flat', (Known,), {'q': Module(lambda obs, a: 0 * jnp.stack([a[..., 0]] * 2))})
    agent = flat(Spec(OBS, ACTION), make(normalise_q_gradient=True, weight='stable').config)
    obs, action = jnp.zeros((1, OBS)), jnp.zeros((1, ACTION))
    draws = Draws(jnp.float32([0.5]), jnp.zeros((1, ACTION)))
    np.testing.assert_array_equal(agent.direction(start, obs, action, draws)[0], [[1.0, 2.0]])


def test_between__gives_the_times_of_the_released_code():
    u = jnp.array([0.0, 0.5, 1.0])
    np.testing.assert_allclose(srpo.between(srpo.CLONE_TIMES, u), [0.001, 0.5005, 1], rtol=1e-6)
    np.testing.assert_allclose(srpo.between(srpo.POLICY_TIMES, u), [0.02, 0.5, 0.98], rtol=1e-6)


def in_double(tree):
    is_float = lambda x: jnp.issubdtype(x.dtype, jnp.floating)  # noqa: E731
    return jax.tree.map(lambda x: x.astype(float) if is_float(x) else x, tree)


@pytest.mark.parametrize('normalise', [pytest.param(False, marks=pytest.mark.slow), True])
def test_policy_loss__descends_the_score_and_climbs_q(start, normalise):
    """dL/da = (w eps - beta g) / B, with g by finite differences of the target critics' mean."""
    agent = make(normalise_q_gradient=normalise)
    with jax.enable_x64(True):
        state, batch, draws = in_double((start, batch_of(), policy_draws()))
        action = agent.policy(state.params['pi'], batch.obs)

        @jax.jit
        def mean_q(action):
            return agent.q.apply({'params': state.target['q']}, batch.obs, action).mean(0)

        g = np.zeros(action.shape)
        for i in range(ACTION):
            step = 1e-6 * np.eye(ACTION)[i]
            g[:, i] = (mean_q(action + step) - mean_q(action - step)) / 2e-6
        if normalise:
            g /= np.sqrt((g**2).mean(1, keepdims=True))
        t = 0.02 + 0.96 * draws.u
        alpha = np.exp(-4.975 * t**2 - 0.05 * t)[:, None]
        noisy = alpha * action + np.sqrt(1 - alpha**2) * draws.noise
        eps = jax.jit(agent.mu.apply)({'params': state.params['mu']}, noisy, t, batch.obs)
        by_action = ((1 - alpha**2) * eps - state.hparams['beta'] * g) / BATCH

        # Through pi: what a linear loss with exactly this gradient by the action gives.
        def linear(params):
            return (by_action * agent.policy(params, batch.obs)).sum()

        def loss(params):
            params = {**state.params, 'pi': params}
            return agent.policy_loss(state.replace(params=params), batch, draws)[0]

        pi = state.params['pi']
        (value, gradient), (other, expected) = (
            jax.jit(jax.value_and_grad(f))(pi) for f in (loss, linear)
        )
        for x, y in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-9)
        assert value == pytest.approx(float(other), rel=1e-6)


def test_policy_loss__of_the_clone_ignores_the_critic(start):
    agent, batch, draws = make(), batch_of(), policy_draws()
    cloned = start.replace(hparams=start.hparams | {'beta': jnp.float32(0)})
    other = cloned.replace(target=jax.tree.map(lambda x: -x, cloned.target))
    loss = jax.jit(agent.policy_loss)
    losses = [loss(s, batch, draws)[0] for s in (cloned, other, start)]
    assert losses[0] == losses[1] != losses[2]
    assert agent.clone == {'beta': 0.0}


# Phases.


def test_phases__have_the_updates_and_batches_of_the_settings():
    agent = make()
    names = [(phase.name, phase.steps, phase.batch_size) for phase in agent.phases()]
    assert names == [('behaviour', 20, 2048), ('critic', 10, 256), ('train', 100, 256)]
    assert [phase.evaluate for phase in agent.phases()] == [False, False, True]


def test_critic__regresses_on_the_value_before_its_step(start):
    """y = r + 0.99 mask V(s') with the V that came in, and the two critics' errors averaged."""
    agent, batch = make(), batch_of()
    _, metrics = jax.jit(agent.critic)(start, batch)
    v = agent.v.apply({'params': start.params['v']}, batch.next_obs)
    y = batch.reward + 0.99 * batch.mask * v
    q = agent.q.apply({'params': start.params['q']}, batch.obs, batch.action)
    assert metrics['q/td_loss'] == pytest.approx(float(((q - y) ** 2).mean()), rel=1e-5)


def test_train__learning_rate_falls_to_0_over_the_phase(start):
    agent, batch, draws = make(), batch_of(), policy_draws()
    train = jax.jit(agent.train)
    moves = []
    for step in (30, 80, 129):
        after, _ = train(start.replace(step=jnp.int32(step)), batch, draws)
        pairs = zip(
            jax.tree.leaves(after.params['pi']), jax.tree.leaves(start.params['pi']), strict=True
        )
        moves.append(max(float(jnp.abs(a - b).max()) for a, b in pairs))
    np.testing.assert_allclose(moves[:2], [3e-4, 1.5e-4], rtol=2e-3)
    assert 0 < moves[2] < 1e-6


def test_behaviour__keeps_the_frequencies_and_decays_the_rest_of_mu(start):
    """A step with gradient 0 shrinks every weight by lr * 0.01, but not the frequencies."""
    agent = make()
    optimiser, mu = agent.optimiser('mu'), start.params['mu']
    nothing = jax.tree.map(jnp.zeros_like, mu)
    direction, _ = jax.jit(lambda x: optimiser.update(x, optimiser.init(mu), mu))(nothing)
    np.testing.assert_array_equal(direction['features']['frequency'], 0)
    np.testing.assert_allclose(direction['first']['kernel'], 0.01 * mu['first']['kernel'])

    behaviour = jax.jit(agent.phases()[0].update)
    state = start
    for i in range(3):
        state, _ = behaviour(state, batch_of(i))
    after = state.params['mu']
    assert (after['features']['frequency'] == mu['features']['frequency']).all()
    assert all((a != b).any() for a, b in zip(
        jax.tree.leaves(after | {'features': {}}), jax.tree.leaves(mu | {'features': {}}),
        strict=True,
    ))  # fmt: skip


def test_mu__features_are_sines_then_cosines_of_turns(start):
    features = FixedFourierFeatures(4, 30.0)
    params = {'params': {'frequency': jnp.array([0.25, 3.0])}}
    np.testing.assert_allclose(
        features.apply(params, jnp.array([0.0, 1.0])), [[0, 0, 1, 1], [1, 0, 0, 1]], atol=2e-6
    )
    assert start.params['mu']['features']['frequency'].shape == (32,)
    fresh = FixedFourierFeatures(4096, 30.0).init(jax.random.key(0), jnp.zeros(1))
    assert fresh['params']['frequency'].std() == pytest.approx(30, rel=0.05)


def test_clone_loss__dropout_is_that_of_the_given_uniforms(start):
    agent, batch = make(), batch_of()
    u, noise = policy_draws()
    clone_loss = jax.jit(agent.clone_loss)

    def loss(dropout, rate=0.1):
        state = start.replace(hparams=start.hparams | {'dropout': jnp.float32(rate)})
        draws = CloneDraws(u, noise, jnp.full((3, BATCH, 8), dropout))
        return float(clone_loss(state, batch, draws)[0])

    # A LayerNorm follows, so that a common factor is next to nothing, and dropping all is not.
    assert loss(0.5, 0.0) == loss(0.05, 0.0) == pytest.approx(loss(0.5), rel=1e-2)
    assert loss(0.05) != pytest.approx(loss(0.5), rel=1e-2)


# Settings.


def test_TABLE__mazes_have_what_only_mazes_have():
    locomotion = {k: v for k, v in TABLE.items() if 'maze' not in k and k != 'toy'}
    assert len(locomotion) == 9
    assert {row['reward'] for row in locomotion.values()} == {'iql_locomotion'}
    mazes = {k: Config(**row) for k, row in TABLE.items() if 'maze' in k}
    assert len(mazes) == 9
    for config in mazes.values():
        assert (config.reward, config.expectile) == ('iql_antmaze', 0.9)
        assert config.normalise_q_gradient
        assert config.policy_layers == 4
    assert not any(Config(**row).normalise_q_gradient for row in locomotion.values())


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'weight': 'noise'}, '`weight`=noise: must be one of VDS, stable, score'),
        ({'dropout': 1.0}, '`dropout`=1.0: must be below 1'),
        ({'behaviour_batch_size': 0}, '`behaviour_batch_size`=0: must be at least 1'),
        ({'policy_layers': 0}, '`policy_layers`=0: must be at least 1'),
    ],
)
def test_Config__refuses_impossible_values(settings, message):
    with pytest.raises(UserError, match=message):
        make(**settings)
