"""Whole training steps of Diffusion-QL's released torch code, replayed: `golden/dql.npz`.

Tolerances as in `test_dtql_parity`. `test_diffusion_ql` tests what the traces do not reach.
"""

import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.base import State
from dtql_jax.agents.diffusion_ql import Config, DiffusionQL, Draws
from dtql_jax.types import Spec, Transition
from tests.helpers.golden_weights import blank, check, fill, linear

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
    state = blank(agent)
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
def test_train__and_act_reproduce_the_released_code(case):
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


def test_trace__every_number_is_compared():
    """A tensor that the layout forgets, or a loss, would pass unseen."""
    ours = {f'{net}/{t}' for n, layout in LAYOUT.items() for net in (n, TARGET[n])
            for t, _ in layout}  # fmt: skip
    for case in CASES:
        for i in range(STEPS):
            keys = [k for k in GOLDEN if k.startswith(f'{case}/step{i}/')]
            assert {k.split('/params/')[1] for k in keys if '/params/' in k} == ours
            assert {k.split('/')[2] for k in keys if k.endswith('_loss')} == set(METRIC)
            assert len([k for k in keys if '/draw' in k]) == 15


def test_trace__has_both_sides_of_the_coin_and_a_clipped_gradient():
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
