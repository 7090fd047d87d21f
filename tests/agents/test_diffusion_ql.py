"""Diffusion-QL beyond its traces: the averaged policy, the learning rates, chains of any length."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.base import State
from dtql_jax.agents.diffusion_ql import Config, DiffusionQL, draw
from dtql_jax.types import Spec, Transition, UserError
from tests.helpers.states import drawn

pytestmark = pytest.mark.usefixtures('quick_compile')


def small(**settings) -> DiffusionQL:
    return DiffusionQL(Spec(3, 2), Config(**{'hidden': 8, 'diffusion_steps': 2, **settings}))


@functools.cache
def fresh() -> State:
    return drawn(small())


def state_of(agent: DiffusionQL) -> State:
    hparams = {k: jnp.float32(v) for k, v in agent.config.floats().items()}
    return fresh().replace(hparams=hparams)


def batch_of(size: int = 4) -> Transition:
    x = np.random.default_rng(0).uniform(-1, 1, (size, 10)).astype(np.float32)
    return Transition(x[:, :3], x[:, 3:5], x[:, 5], np.ones(size, np.float32), x[:, 7:])


@functools.cache
def update_of(agent: DiffusionQL):
    return jax.jit(agent.phases()[-1].update)


def test_train__moves_the_averaged_policy_from_its_start_on_at_every_so_many_updates():
    agent = small(ema_start=1000, ema_every=5, lr_decay='released', steps=1000)
    state = state_of(agent)
    batch = batch_of()
    train = update_of(agent)
    state = train(state, batch)[0]  # so that policy and average differ
    moved = []
    for step in (0, 5, 995, 999, 1000, 1001, 1004, 1005, 1006):
        after = train(state.replace(step=jnp.int32(step)), batch)[0].target['actor']
        pairs = zip(jax.tree.leaves(after), jax.tree.leaves(state.target['actor']), strict=True)
        moved += [step] if any((a != b).any() for a, b in pairs) else []
    assert moved == [1000, 1005]


def test_decay__as_released_as_a_cosine_or_not_at_all():
    def factors(lr_decay):
        agent = small(lr_decay=lr_decay, steps=2_000_000)
        state = state_of(agent)
        steps = (0, 49_999, 50_000, 1_000_000, 1_999_999)
        return [float(agent.decay(state.replace(step=jnp.int32(s)))) for s in steps]

    assert factors('none') == [1.0] * 5
    np.testing.assert_allclose(factors('cosine')[3:], [0.5, 0.0], atol=1e-6)
    released = [0.5 * (1 + math.cos(math.pi * calls / 2000)) for calls in (0, 0, 1, 20, 39)]
    assert released[-1] == pytest.approx(0.99906, abs=1e-5)
    np.testing.assert_allclose(factors('released'), released, atol=1e-6)


@pytest.mark.parametrize('lr_decay', [pytest.param('cosine', marks=pytest.mark.slow), 'released'])
def test_train__both_learning_rates_decay(lr_decay):
    agent = small(lr_decay=lr_decay, steps=50_001 if lr_decay == 'cosine' else 1001)
    state = state_of(agent).replace(step=jnp.int32(50_000))
    after = update_of(agent)(state, batch_of())[0]
    for name, params in state.params.items():
        steps = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), params, after.params[name])
        assert max(jax.tree.leaves(steps)) < 1e-7, name


@pytest.mark.parametrize('settings', [{'diffusion_steps': 1}, {'diffusion_steps': 8}])
@pytest.mark.parametrize('max_q_backup', [False, True])
def test_draw__has_the_shapes_of_the_settings(settings, max_q_backup):
    config = Config(**settings, max_q_backup=max_q_backup)
    state = fresh()
    draws, t = draw(state, batch_of(7), config), config.diffusion_steps
    rows = 70 if max_q_backup else 7
    shapes = [x.shape for x in draws]
    assert shapes == [(t + 1, rows, 2), (7,), (7, 2), (t + 1, 7, 2), ()]
    assert (draws.clone_t >= 0).all()
    assert (draws.clone_t < t).all()


class Opposed:
    """Critics `a_0` and `-a_0`, without parameters."""

    def apply(self, variables, obs, action):
        return jnp.stack([action[:, 0], -action[:, 0]])


class WithOpposed(DiffusionQL):
    q = Opposed()


def test_critic_loss__each_critic_takes_its_own_best_next_action_before_the_minimum():
    """By hand, with critics that disagree; in the traces one of them is always the lower."""
    agent = WithOpposed(Spec(3, 2), small(max_q_backup=True, discount=0.5).config)
    state, batch = state_of(agent), batch_of()
    draws = draw(state, batch, agent.config)
    sample = jax.jit(agent.sample)
    best, least = [], []
    for b in range(4):
        obs = jnp.tile(batch.next_obs[b], (10, 1))
        noise = draws.next_noise[:, 10 * b : 10 * b + 10]
        action = np.asarray(sample(state.target['actor'], obs, noise))[:, 0]
        best.append(min(action.max(), -action.min()))
        least.append(-np.abs(action).min())
    assert (np.array(best) - np.array(least) > 0.1).all()  # the other order shows
    target = batch.reward + 0.5 * np.array(best)
    q = np.stack([batch.action[:, 0], -batch.action[:, 0]])
    loss, _ = jax.jit(agent.critic_loss)(state, batch, draws)
    assert loss == pytest.approx(float(((q - target) ** 2).mean(1).sum()), rel=1e-5)


def test_actor_loss__of_the_clone_ignores_q():
    agent = small()
    state = state_of(agent)
    clone = {k: jnp.float32(v) for k, v in DiffusionQL.clone.items()}
    state = state.replace(hparams=state.hparams | clone)
    batch = batch_of()
    loss, metrics = jax.jit(agent.actor_loss)(state, batch, draw(state, batch, agent.config))
    assert loss == metrics['actor/clone_loss']
    assert agent.acting(state)['inverse_temperature'] == 0


@pytest.mark.parametrize(
    ('name', 'value'),
    [('lr_decay', 'linear'), ('diffusion_steps', 0), ('ema_every', 0), ('max_norm', 0.0)],
)
def test_Config__refuses_impossible_values_by_name(name, value):
    with pytest.raises(UserError, match=name):
        dataclasses.replace(Config(), **{name: value})


def test_Config__steps_keeps_the_limit_of_the_base_class():
    with pytest.raises(UserError, match='`steps`=0: must be at least 1'):
        Config(steps=0)
