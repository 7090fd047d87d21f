"""Whole training steps of Diffusion-QL's released torch code, replayed: `golden/dql.npz`.

Tolerances as in `test_dtql_parity`. Then what the traces do not reach: when the averaged policy
moves, the decay of the learning rates, chains of other lengths.
"""

import dataclasses
import functools
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.base import State
from dtql_jax.agents.diffusion_ql import Config, DiffusionQL, Draws, draw
from dtql_jax.types import Spec, Transition, UserError
from tests.helpers.golden_weights import check, fill, linear

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / 'golden' / 'dql.npz')
CASES = ['gym', 'antmaze']


CRITIC = [
    x
    for k in range(2)
    for i in range(4)
    for x in linear(f'q{k + 1}_model.{2 * i}', f'q{k + 1}', f'Linear_{i}')
]
ACTOR = [
    *linear('time_mlp.1', 'time', 'mlp', 'Linear_0'),
    *linear('time_mlp.3', 'time', 'mlp', 'Linear_1'),
    *[x for i in range(3) for x in linear(f'mid_layer.{2 * i}', 'trunk', f'Linear_{i}')],
    *linear('final_layer', 'trunk', 'Linear_3'),
]
LAYOUT = {'critic': CRITIC, 'actor': ACTOR}
TARGET = {'critic': 'critic_target', 'actor': 'ema_actor'}
METRIC = {
    'bc_loss': 'actor/clone_loss',
    'ql_loss': 'actor/q_loss',
    'actor_loss': 'actor/loss',
    'critic_loss': 'critic/loss',
}
STEPS = 6

pytestmark = pytest.mark.usefixtures('quick_compile')


def golden(case: str, key: str) -> np.ndarray:
    return GOLDEN[f'{case}/{key}']


def setup(case: str) -> tuple[DiffusionQL, State]:
    obs_dim, action_dim, _, _ = golden(case, 'meta/dims')
    config = Config(
        lr=float(golden(case, 'meta/lr')),
        eta=float(golden(case, 'meta/eta')),
        max_norm=float(golden(case, 'meta/grad_norm')),
        max_q_backup=bool(golden(case, 'meta/max_q_backup')),
        ema_start=2,
        ema_every=2,
    )
    spec = Spec(int(obs_dim), int(action_dim), float(golden(case, 'meta/max_action')))
    agent = DiffusionQL(spec, config)
    state = jax.jit(agent.init)(jax.random.key(0))
    params = {n: fill(state.params[n], LAYOUT[n], j) for j, n in enumerate(LAYOUT)}
    return agent, state.replace(params=params, target=jax.tree.map(jnp.copy, params))


def batch_and_draws(case: str, i: int) -> tuple[Transition, Draws]:
    b = {
        k: jnp.asarray(golden(case, f'batch{i}/{k}'))
        for k in ('obs', 'action', 'reward', 'not_done', 'next_obs')
    }
    batch = Transition(b['obs'], b['action'], b['reward'][:, 0], b['not_done'][:, 0], b['next_obs'])

    def chain(first: int) -> jax.Array:
        draws = [golden(case, f'step{i}/draw{j:02d}_n') for j in range(first, first + 6)]
        return jnp.float32(np.stack(draws))

    return batch, Draws(
        next_noise=chain(0),
        clone_t=jnp.int32(golden(case, f'step{i}/draw06_i')),
        clone_noise=jnp.float32(golden(case, f'step{i}/draw07_n')),
        actor_noise=chain(8),
        coin=jnp.float32(golden(case, f'step{i}/draw14_c')),
    )


@pytest.mark.parametrize('case', CASES)
def test_training_and_acting_reproduce_the_released_code(case):
    agent, state = setup(case)
    assert int(golden(case, 'meta/dims')[3]) == STEPS
    train = jax.jit(agent.train)
    with jax.default_matmul_precision('highest'):
        for i in range(STEPS):
            state, metrics = train(state, *batch_and_draws(case, i))
            for theirs, ours in METRIC.items():
                np.testing.assert_allclose(
                    metrics[ours], golden(case, f'step{i}/{theirs}'), rtol=2e-5, atol=2e-5,
                    err_msg=f'{case} step {i} {theirs}',
                )  # fmt: skip
            for name, layout in LAYOUT.items():
                trees = {name: state.params[name], TARGET[name]: state.target[name]}
                for net, tree in trees.items():
                    for tensor, path in layout:
                        key = f'step{i}/params/{net}/{tensor}'
                        check(golden(case, key), tree, path, f'{case} {key}')
        check_acting(case, agent, state)


def check_acting(case, agent, state):
    acting = agent.acting(state)
    obs, action = jnp.asarray(golden(case, 'act/obs')), golden(case, 'act/action')
    noise = [golden(case, f'act/draw{j:02d}_n').reshape(action.shape) for j in range(6)]
    ours = jax.jit(jax.vmap(agent.candidates, (None, 0, 0)))(
        acting, obs, jnp.float32(np.stack(noise, 2))
    )
    q = jax.jit(jax.vmap(agent.candidate_q, (None, 0, 0)))(acting, obs, ours)
    probability = jax.nn.softmax(acting['inverse_temperature'] * q)
    np.testing.assert_allclose(ours, action, atol=2e-5)
    np.testing.assert_allclose(q, golden(case, 'act/q'), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(probability, golden(case, 'act/pick_prob'), rtol=1e-4, atol=1e-6)


def test_every_number_of_the_trace_is_compared():
    """A tensor that the layout forgets, or a loss, would pass unseen."""
    ours = {f'{net}/{t}' for n, layout in LAYOUT.items() for net in (n, TARGET[n])
            for t, _ in layout}  # fmt: skip
    for case in CASES:
        for i in range(STEPS):
            keys = [k for k in GOLDEN if k.startswith(f'{case}/step{i}/')]
            assert {k.split('/params/')[1] for k in keys if '/params/' in k} == ours
            assert {k.split('/')[2] for k in keys if k.endswith('_loss')} == set(METRIC)
            assert len([k for k in keys if '/draw' in k]) == 15


def test_the_traces_show_both_sides_of_the_coin_and_a_clipped_gradient():
    """So that the agreement says something about them."""
    coins = [float(golden(case, f'step{i}/draw14_c')) > 0.5 for case in CASES for i in range(STEPS)]
    assert set(coins) == {True, False}
    agent, state = setup('antmaze')
    batch, draws = batch_and_draws('antmaze', 0)

    def loss(params):
        return agent.critic_loss(state.replace(params={'critic': params}), batch, draws)[0]

    gradient = jax.jit(jax.grad(loss))(state.params['critic'])
    norm = math.sqrt(sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(gradient)))
    assert norm > agent.config.max_norm


# The averaged policy, the learning rates, the draws.


def small(**settings) -> DiffusionQL:
    return DiffusionQL(Spec(3, 2), Config(**{'hidden': 8, 'diffusion_steps': 2, **settings}))


@functools.cache
def fresh() -> State:
    return jax.jit(small().init)(jax.random.key(0))


def state_of(agent: DiffusionQL) -> State:
    hparams = {k: jnp.float32(v) for k, v in agent.config.floats().items()}
    return fresh().replace(hparams=hparams)


def batch_of(size: int = 4) -> Transition:
    x = np.random.default_rng(0).uniform(-1, 1, (size, 10)).astype(np.float32)
    return Transition(x[:, :3], x[:, 3:5], x[:, 5], np.ones(size, np.float32), x[:, 7:])


def test_the_averaged_policy_rests_until_the_start_and_then_moves_at_every_so_many_updates():
    agent = small(ema_start=1000, ema_every=5)
    state = state_of(agent)
    batch = batch_of()
    train = jax.jit(agent.phases()[-1].update)
    state = train(state, batch)[0]  # so that policy and average differ
    moved = []
    for step in (0, 5, 995, 999, 1000, 1001, 1004, 1005, 1006):
        after = train(state.replace(step=jnp.int32(step)), batch)[0].target['actor']
        pairs = zip(jax.tree.leaves(after), jax.tree.leaves(state.target['actor']), strict=True)
        moved += [step] if any((a != b).any() for a, b in pairs) else []
    assert moved == [1000, 1005]


def test_the_learning_rate_decays_as_released_as_a_cosine_or_not_at_all():
    def factors(lr_decay):
        agent = small(lr_decay=lr_decay, steps=2_000_000)
        state = state_of(agent)
        steps = (0, 49_999, 50_000, 1_000_000, 2_000_000)
        return [float(agent.decay(state.replace(step=jnp.int32(s)))) for s in steps]

    assert factors('none') == [1.0] * 5
    np.testing.assert_allclose(factors('cosine')[3:], [0.5, 0.0], atol=1e-6)
    released = [0.5 * (1 + math.cos(math.pi * calls / 2000)) for calls in (0, 0, 1, 20, 40)]
    assert released[-1] == pytest.approx(0.99901, abs=1e-5)
    np.testing.assert_allclose(factors('released'), released, atol=1e-6)


@pytest.mark.parametrize('lr_decay', ['cosine', 'released'])
def test_both_learning_rates_decay(lr_decay):
    agent = small(lr_decay=lr_decay, steps=50_000 if lr_decay == 'cosine' else 1000)
    state = state_of(agent).replace(step=jnp.int32(50_000))
    after = jax.jit(agent.phases()[-1].update)(state, batch_of())[0]
    for name, params in state.params.items():
        steps = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), params, after.params[name])
        assert max(jax.tree.leaves(steps)) < 1e-7, name


@pytest.mark.parametrize('settings', [{'diffusion_steps': 1}, {'diffusion_steps': 8}])
@pytest.mark.parametrize('max_q_backup', [False, True])
def test_draws_have_the_shapes_of_the_settings(settings, max_q_backup):
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


def test_each_critic_takes_its_own_best_next_action_before_the_minimum():
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


def test_the_clone_does_not_see_q():
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
def test_settings_that_cannot_be_are_refused_by_name(name, value):
    with pytest.raises(UserError, match=name):
        dataclasses.replace(Config(), **{name: value})
