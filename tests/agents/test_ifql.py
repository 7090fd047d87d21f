"""IFQL against NumPy: one whole update in the middle of a run, the flow, and acting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents import ifql
from dtql_jax.agents.ifql import IFQL, Config, Draws
from dtql_jax.types import Spec, Transition
from tests.helpers import numpy_reference as ref

pytestmark = pytest.mark.usefixtures('quick_compile')

OBS, ACTION, BATCH, BOX, CANDIDATES = 3, 2, 16, 2.0, 6
STEP = 7
SETTINGS = {'lr': 0.02, 'critic_lr': 0.01, 'expectile': 0.8, 'tau': 0.1, 'discount': 0.9}
SIZES = {'hidden': 8, 'critic_layers': 2, 'flow_layers': 2}


@pytest.fixture(scope='module')
def agent(quick_compile):
    config = Config(candidates=CANDIDATES, **SIZES, **SETTINGS)
    return IFQL(Spec(OBS, ACTION, BOX), config)


@pytest.fixture(scope='module')
def before(agent):
    return ref.stirred(jax.jit(agent.init)(jax.random.key(0)), STEP)


@pytest.fixture(scope='module')
def batch():
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, BATCH, OBS))
    action = rng.uniform(-BOX, BOX, (BATCH, ACTION))
    action[0] = [BOX, -1.5 * BOX]  # data at the edge and beyond, which is clipped
    reward, mask = rng.normal(size=BATCH), rng.integers(0, 2, BATCH)
    return Transition(*(np.float32(x) for x in (obs, action, reward, mask, next_obs)))


@pytest.fixture(scope='module')
def draws():
    rng = np.random.default_rng(2)
    noise, t = rng.normal(size=(BATCH, ACTION)), rng.uniform(size=(BATCH, 1))
    return Draws(flow_noise=np.float32(noise), flow_t=np.float32(t))


@pytest.fixture(scope='module')
def after(agent, before, batch, draws):
    """An update with exact products, in one program."""
    train = jax.default_matmul_precision('highest')(jax.jit(agent.train))
    return train(before, batch, draws)


def gelu(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def mlp(p, name, x, layer_norm):
    """Two hidden layers: Dense, GELU, then LayerNorm; and an output layer."""
    for i in range(2):
        x = gelu(ref.dense(p, f'{name}/XavierDense_{i}', x))
        if layer_norm:
            x = ref.layer_norm(p, f'{name}/LayerNorm_{i}', x, 1e-6)
    return ref.dense(p, f'{name}/XavierDense_2', x)


def q_of(p, obs, action):
    """`[2, B]`."""
    x = np.concatenate([obs, action], -1)
    return np.stack([mlp(p, f'/{k}', x, True)[:, 0] for k in ('q1', 'q2')])


def v_of(p, obs):
    return mlp(p, '/v', obs, True)[:, 0]


def velocity(p, obs, x, t):
    return mlp(p, '', np.concatenate([obs, x, t], -1), False)


def reference(before, batch, draws, updated_v=None):
    """The update: {network: Step}; with `updated_v`, by mistake in the order of IQL."""
    b = Transition(*(np.asarray(x, np.float64) for x in batch[:5]))
    action = np.clip(b.action / BOX, -0.99999, 0.99999)
    params = {k: ref.flat(before.params[k]) for k in ('v', 'q', 'flow')}
    target_q = q_of(ref.flat(before.target['q']), b.obs, action).min(0)
    x0, t = (np.float64(x) for x in draws)

    def v_loss(p):
        return ref.expectile_loss(target_q, v_of(p, b.obs), SETTINGS['expectile'])

    def q_loss(p):
        next_v = v_of(updated_v or params['v'], b.next_obs)
        q = q_of(p, b.obs, action)
        errors = ref.squared_errors(q, b.reward, b.mask, next_v, SETTINGS['discount'])
        return (errors[0] + errors[1]).mean()

    def flow_loss(p):
        predicted = velocity(p, b.obs, (1 - t) * x0 + t * action, t)
        return ((predicted - (action - x0)) ** 2).mean()

    steps = {}
    for name, loss, lr in (
        ('v', v_loss, 'critic_lr'), ('q', q_loss, 'critic_lr'), ('flow', flow_loss, 'lr'),
    ):  # fmt: skip
        adam = ref.adam_of(before, name)
        steps[name] = ref.descend(loss, params[name], adam, SETTINGS[lr], entries=24)
    return steps


@pytest.fixture(scope='module')
def expected(before, batch, draws):
    return reference(before, batch, draws)


def test_train__losses(after, expected):
    for name, network in (('v/loss', 'v'), ('q/td_loss', 'q'), ('flow/loss', 'flow')):
        np.testing.assert_allclose(after[1][name], expected[network].loss, rtol=2e-5, err_msg=name)


@pytest.mark.parametrize('name', ['v', 'q', 'flow'])
def test_train__gradient_and_optimiser_step(before, after, expected, name):
    ref.assert_step(before, after[0], name, expected[name])


def test_train__target_follows_the_critic_from_before_the_step(before, after):
    old = ref.flat(before.params['q'])
    target = ref.average(ref.flat(before.target['q']), old, SETTINGS['tau'])
    ref.assert_tree(ref.flat(after[0].target['q']), target, 'target')


def test_train__an_updated_v_in_the_target_of_q_would_be_seen(before, batch, draws, after):
    steps = reference(before, batch, draws, ref.flat(after[0].params['v']))
    with pytest.raises(AssertionError, match='q: gradient'):
        ref.assert_step(before, after[0], 'q', steps['q'])


def follow(p, obs, noise):
    x = noise
    for i in range(10):
        x = x + velocity(p, obs, x, np.full((len(x), 1), i / 10)) / 10
    return np.clip(x, -1, 1)


def test_act__takes_the_sample_with_the_largest_q_of_the_trained_critic(agent, before):
    obs = np.float32([0.3, -1.0, 0.5])
    many = np.repeat(np.float64(obs)[None], CANDIDATES, 0)
    flow, q = (ref.flat(before.params[k]) for k in ('flow', 'q'))
    acting, act = agent.acting(before), jax.jit(agent.act)
    chosen = set()
    with jax.default_matmul_precision('highest'):
        for seed in range(4):
            key = jax.random.key(seed)
            noise = np.float64(jax.random.normal(key, (CANDIDATES, ACTION)))
            sampled = follow(flow, many, noise)
            best = int(q_of(q, many, sampled).min(0).argmax())
            np.testing.assert_allclose(act(acting, obs, key), BOX * sampled[best], atol=1e-4)
            chosen.add(best)
    assert len(chosen) > 1


def test_draw__is_standard_and_new_at_every_step(before, batch):
    draw = jax.jit(lambda state: ifql.draw(state, batch))
    many = [draw(before.replace(step=jnp.int32(i))) for i in range(50)]
    noise, t = (np.stack(x) for x in zip(*many, strict=True))
    assert noise.shape == (50, BATCH, ACTION)
    assert t.shape == (50, BATCH, 1)
    assert abs(noise.mean()) < 0.1
    assert noise.std() == pytest.approx(1, abs=0.1)
    assert (t >= 0).all()
    assert (t < 1).all()
    assert t.mean() == pytest.approx(0.5, abs=0.05)
    assert len({x.tobytes() for x in noise}) == 50
