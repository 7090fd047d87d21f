"""IDQL against NumPy: one whole update in the middle of a run, the sampler, and acting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents import idql
from dtql_jax.agents.idql import IDQL, Config, Draws
from dtql_jax.diffusion import DDPM
from dtql_jax.types import Spec, Transition, UserError
from tests.helpers import numpy_reference as ref

pytestmark = pytest.mark.usefixtures('quick_compile')

OBS, ACTION, BATCH, HIDDEN, BOX, T = 3, 2, 16, 8, 2.0, 5
STEP, STEPS = 7, 20
LAYER = 'XavierDense'
SETTINGS = {
    'lr': 0.02, 'critic_lr': 0.01, 'expectile': 0.8, 'tau': 0.1, 'ema_tau': 0.2, 'discount': 0.9,
    'dropout': 0.4,
}  # fmt: skip


@pytest.fixture(scope='module')
def agent(quick_compile):
    config = Config(hidden=HIDDEN, steps=STEPS, candidates=6, **SETTINGS)
    return IDQL(Spec(OBS, ACTION, BOX), config)


@pytest.fixture(scope='module')
def before(agent):
    return ref.stirred(jax.jit(agent.init)(jax.random.key(0)), STEP)


@pytest.fixture(scope='module')
def batch():
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, BATCH, OBS))
    obs[0] = [1e-3, -1e-3, 5e-4]  # here the epsilon of V's LayerNorm counts
    action = rng.uniform(-BOX, BOX, (BATCH, ACTION))
    action[0] = [BOX, -BOX]  # data at the edge, which is clipped
    reward, mask = rng.normal(size=BATCH), rng.integers(0, 2, BATCH)
    return Transition(*(np.float32(x) for x in (obs, action, reward, mask, next_obs)))


@pytest.fixture(scope='module')
def draws():
    rng = np.random.default_rng(2)
    return Draws(
        t=np.int32(rng.permutation(BATCH) % T),
        noise=np.float32(rng.normal(size=(BATCH, ACTION))),
        dropout_u=np.float32(rng.uniform(size=(3, BATCH, HIDDEN))),
    )


@pytest.fixture(scope='module')
def train(agent):
    """An update with exact products, in one program."""
    return jax.default_matmul_precision('highest')(jax.jit(agent.train))


@pytest.fixture(scope='module')
def after(train, before, batch, draws):
    return train(before, batch, draws)


def schedule():
    """alpha and its running product, as the specification writes them for t = 1 .. T."""
    t = np.arange(1, T + 1)
    alpha = np.exp(-0.1 / T - 0.5 * (10 - 0.1) * (2 * t - 1) / T**2)
    return alpha, np.array([np.prod(alpha[:k]) for k in t])


def denoiser(p, x, t, obs, keep=None, epsilon=1e-6):
    """`eps(x, t | s)`; `keep` `[3, B, hidden]` are the factors of dropout."""
    angle = 2 * np.pi * np.outer(t, p['/features/frequency'])
    features = np.concatenate([np.cos(angle), np.sin(angle)], 1)
    e = ref.mlp(p, [f'/time/{LAYER}_{i}' for i in range(2)], features, ref.swish)
    h = ref.dense(p, '/first', np.concatenate([x, obs, e], 1))
    for i in range(3):
        y = h if keep is None else h * keep[i]
        y = ref.layer_norm(p, f'/LayerNorm_{i}', y, epsilon)
        h = h + ref.dense(p, f'/narrow_{i}', ref.swish(ref.dense(p, f'/wide_{i}', y)))
    return ref.dense(p, '/last', ref.swish(h))


def reference(before, batch, draws, order=('mu', 'v', 'q')):
    """The update, its three steps in `order`: {network: Step}."""
    b = Transition(*(np.asarray(x, np.float64) for x in batch[:5]))
    d = Draws(*(np.asarray(x, np.float64) for x in draws))
    action = np.clip(b.action, -BOX * (1 - 1e-5), BOX * (1 - 1e-5))
    params = {k: ref.flat(before.params[k]) for k in order}
    target_q = ref.twin_q(ref.flat(before.target['q']), LAYER, b.obs, action).min(0)

    def mu_loss(p):
        bar = schedule()[1][draws.t][:, None]
        noisy = np.sqrt(bar) * action + np.sqrt(1 - bar) * d.noise
        keep = (d.dropout_u >= SETTINGS['dropout']) / (1 - SETTINGS['dropout'])
        errors = denoiser(p, noisy, d.t, b.obs, keep) - d.noise
        return sum(float(e @ e) for e in errors) / BATCH

    def v_loss(p):
        v = ref.value(p, LAYER, b.obs, input_norm=1e-6)
        return ref.expectile_loss(target_q, v, SETTINGS['expectile'])

    def q_loss(p):
        next_v = ref.value(params['v'], LAYER, b.next_obs, input_norm=1e-6)
        q = ref.twin_q(p, LAYER, b.obs, action)
        return ref.squared_errors(q, b.reward, b.mask, next_v, SETTINGS['discount']).mean()

    decayed = SETTINGS['lr'] * (1 + np.cos(np.pi * STEP / STEPS)) / 2
    loss = {'mu': mu_loss, 'v': v_loss, 'q': q_loss}
    steps = {}
    for name in order:
        settings = {'lr': SETTINGS['critic_lr']}
        if name == 'mu':
            settings = {'lr': decayed, 'weight_decay': 1e-4, 'entries': 12}
        steps[name] = ref.descend(loss[name], params[name], ref.adam_of(before, name), **settings)
        params[name] = steps[name].params
    return steps


@pytest.fixture(scope='module')
def expected(before, batch, draws):
    return reference(before, batch, draws)


def test_train__losses(after, expected):
    for name, network in (('mu/loss', 'mu'), ('v/loss', 'v'), ('q/td_loss', 'q')):
        np.testing.assert_allclose(after[1][name], expected[network].loss, rtol=2e-5, err_msg=name)


@pytest.mark.parametrize('name', ['mu', 'v', 'q'])
def test_train__gradient_and_optimiser_step(before, after, expected, name):
    ref.assert_step(before, after[0], name, expected[name])


@pytest.mark.parametrize(('name', 'rate'), [('q', 'tau'), ('mu', 'ema_tau')])
def test_train__targets_follow_the_updated_networks(before, after, expected, name, rate):
    target = ref.average(ref.flat(before.target[name]), expected[name].params, SETTINGS[rate])
    ref.assert_tree(ref.flat(after[0].target[name]), target, name)


def test_train__another_order_of_v_and_q_would_be_seen(before, batch, draws, after):
    steps = reference(before, batch, draws, ('q', 'v'))
    with pytest.raises(AssertionError, match='q: gradient'):
        ref.assert_step(before, after[0], 'q', steps['q'])


def test_optimiser__decays_the_weights_of_mu_alone(agent, before):
    """1e-4 lr p is below the tolerance of the whole step; alone it is not."""
    zeros = jax.tree.map(jnp.zeros_like, before.params)
    for name, rate in (('mu', 1e-4), ('v', 0), ('q', 0)):
        params = before.params[name]
        optimiser = agent.optimiser(name)
        start = optimiser.init(params)
        direction, _ = jax.jit(optimiser.update)(zeros[name], start, params)
        decay = {k: rate * p for k, p in ref.flat(params).items()}
        ref.assert_tree(ref.flat(direction), decay, name, atol=1e-10, rtol=1e-6)


def test_train__clips_the_edge_of_the_box(train, before, batch, draws):
    """Actions beyond it and at it give the same update as those just inside."""
    inside = batch._replace(action=np.clip(batch.action, *(BOX * np.float32([-0.99999, 0.99999]))))
    outside = inside._replace(action=np.where(batch.action == BOX, 3.0, inside.action))
    a, b = (train(before, x, draws)[0].params for x in (inside, outside))
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_mu__with_and_without_dropout(agent, before):
    """Small inputs of the first LayerNorm show its epsilon: Flax's, not torch's."""
    rng = np.random.default_rng(3)
    params = dict(before.params['mu'])
    params['first'] = jax.tree.map(lambda w: 1e-3 * w, params['first'])
    x, obs = np.float32(rng.normal(size=(4, ACTION))), np.float32(rng.normal(size=(4, OBS)))
    t, keep = np.float32([0, 1, 3, 4]), np.float32(2 * rng.integers(0, 2, (3, 4, HIDDEN)))
    p = ref.flat(params)
    apply = jax.jit(agent.mu.apply)
    for dropout in (None, keep):
        ours = apply({'params': params}, x, t, obs, dropout)
        expected = denoiser(p, np.float64(x), t, np.float64(obs), dropout)
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
        other = denoiser(p, np.float64(x), t, np.float64(obs), dropout, epsilon=1e-5)
        assert np.abs(ours - other).max() > 1e-3


def test_candidates__sampler_reproduces_numpy_and_clips_every_step():
    """With a formula as the network, and noise that leaves the box on the way."""
    rng = np.random.default_rng(4)
    x, noise = (
        np.float32(rng.normal(size=(6, ACTION))),
        np.float32(2 * rng.normal(size=(T, 6, ACTION))),
    )
    network = lambda np_: lambda x, t: np_.sin(x) + 0.1 * t[:, None]  # noqa: E731
    for clip in (0.7, 100.0):
        ours = DDPM(T).sample_ddpm(network(jnp), x, noise, clip)
        theirs = chain(network(np), np.float64(x), np.float64(noise), clip)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    other_end = np.concatenate([noise[:-1], 9 * noise[-1:]])
    assert (ours == DDPM(T).sample_ddpm(network(jnp), x, other_end, clip)).all()


def chain(network, x, noise, clip):
    alpha, bar = schedule()
    for used, t in enumerate([4, 3, 2, 1, 0]):
        eps = network(x, np.full(len(x), float(t)))
        x = (x - (1 - alpha[t]) / np.sqrt(1 - bar[t]) * eps) / np.sqrt(alpha[t])
        if t > 0:
            x = x + np.sqrt(1 - alpha[t]) * noise[used]
        x = np.minimum(np.maximum(x, -clip), clip)
    return x


def test_act__takes_the_best_sample_of_the_averaged_policy(agent, before):
    """Both averages: mu's and the critic's. In a wide box, where samples are not all at edges."""
    agent = IDQL(Spec(OBS, ACTION, 30.0), agent.config)
    obs = np.float32([0.3, -1.0, 0.5])
    many = np.repeat(np.float64(obs)[None], 6, 0)
    acting, act, candidates = agent.acting(before), jax.jit(agent.act), jax.jit(agent.candidates)
    mu, q = (ref.flat(before.target[k]) for k in ('mu', 'q'))
    chosen = set()
    with jax.default_matmul_precision('highest'):
        for seed in range(4):
            key = jax.random.key(seed)
            noise = jax.random.normal(key, (6, T + 1, ACTION))
            steps = np.float64(noise).swapaxes(0, 1)
            sampled = chain(lambda x, t: denoiser(mu, x, t, many), steps[0], steps[1:], 30.0)
            ours = candidates(acting, obs, noise)
            np.testing.assert_allclose(ours, sampled, rtol=1e-5, atol=1e-4)
            judged = ref.twin_q(q, LAYER, many, sampled).min(0)
            np.testing.assert_allclose(agent.candidate_q(acting, obs, ours), judged, atol=1e-4)
            best = int(judged.argmax())
            np.testing.assert_allclose(act(acting, obs, key), sampled[best], atol=1e-4)
            chosen.add(best)
    assert len(chosen) > 1


def test_draw__is_standard_and_new_at_every_step(agent, before, batch):
    draw = jax.jit(lambda state: idql.draw(state, batch, agent.config))
    many = [draw(before.replace(step=jnp.int32(i))) for i in range(50)]
    t, noise, u = (np.stack(x) for x in zip(*many, strict=True))
    assert u.shape == (50, 3, BATCH, HIDDEN)
    assert noise.shape == (50, BATCH, ACTION)
    assert set(t.ravel()) == set(range(T))
    assert abs(noise.mean()) < 0.1
    assert noise.std() == pytest.approx(1, abs=0.1)
    assert (u >= 0).all()
    assert (u < 1).all()
    assert u.mean() == pytest.approx(0.5, abs=0.02)
    assert len({x.tobytes() for x in noise}) == 50


def test_init__laws_of_the_weights(agent):
    params = jax.jit(agent.init)(jax.random.key(0)).params
    frequency = np.asarray(params['mu']['features']['frequency'])
    assert frequency.shape == (64,)
    assert frequency.std() == pytest.approx(0.2, rel=0.3)
    for layer in (params['mu']['time'][f'{LAYER}_0'], params['v']['v'][f'{LAYER}_1']):
        bound = np.sqrt(6 / sum(layer['kernel'].shape))
        assert np.abs(layer['kernel']).max() <= bound
        assert np.abs(layer['kernel']).max() > 0.8 * bound
        assert not np.any(layer['bias'])


def test_v__without_value_norm_tells_apart_states_that_differ_in_scale():
    obs = jnp.array([[1.0, -1.0, 0.0], [3.0, -3.0, 0.0]])
    for norm in (True, False):
        v = IDQL(Spec(3, 2), Config(hidden=8, value_norm=norm)).v
        low, high = v.apply(v.init(jax.random.key(0), obs), obs)
        assert (abs(low - high) < 1e-5) == norm


@pytest.mark.parametrize('bad', [{'diffusion_steps': 0}, {'dropout': 1.0}, {'dropout': -0.1}])
def test_Config__refuses_values_out_of_range(bad):
    with pytest.raises(UserError, match=next(iter(bad))):
        Config(**bad)
