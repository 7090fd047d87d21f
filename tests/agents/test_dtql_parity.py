"""Whole training steps of the released torch code, replayed: `golden/dtql.npz`.

The traces come with recorded batches and noise and with weights given by a formula. Tolerances are
those of the traces' own float32 error: losses 2e-5 (relative and absolute), parameter entries 1e-6
(one Adam step moves an entry by the learning rate, 3e-4), L2 norms 2e-6 relative, sums 2e-4.
"""

import contextlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.dtql import DTQL, Config, Draws
from dtql_jax.types import Spec, Transition
from tests.helpers.compiling import quickly_compiled
from tests.helpers.golden_weights import blank, check, fill, linear, norm

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / 'golden' / 'dtql.npz')
CASES = ['gym', 'antmaze', 'decay', 'box2']


CRITIC = []
for k in range(2):
    for i in range(3):
        CRITIC += linear(f'q{k + 1}_model.{3 * i}', 'q', f'q{k + 1}', f'Linear_{i}')
        CRITIC += norm(f'q{k + 1}_model.{3 * i + 1}', 'q', f'q{k + 1}', f'LayerNorm_{i}')
    CRITIC += linear(f'q{k + 1}_model.9', 'q', f'q{k + 1}', 'Linear_3')
for i in range(4):
    CRITIC += linear(f'v_model.{2 * i}', 'v', 'v', f'Linear_{i}')
MU = [
    *linear('embed.1', 'time', 'mlp', 'Linear_0'),
    *linear('embed.3', 'time', 'mlp', 'Linear_1'),
    *linear('layers.layers.0', 'first'),
    *[x for i, n in enumerate((1, 3, 5, 7))
      for x in linear(f'layers.layers.{n}', 'trunk', f'Linear_{i}')],
]  # fmt: skip
PI = [x for i in range(4) for x in linear(f'net.{2 * i}', f'Dense_{i}')]
LAYOUT = {'critic': CRITIC, 'mu': MU, 'pi': PI}
TORCH_NAME = {'critic': 'critic', 'mu': 'bc_actor', 'pi': 'actor'}


def golden(case: str, key: str) -> np.ndarray:
    return GOLDEN[f'{case}/{key}']


def setup(case: str) -> tuple[DTQL, dict]:
    obs_dim, action_dim, _, _ = golden(case, 'meta/dims')
    decay = f'{case}/meta/lr_decay' in GOLDEN
    config = Config(
        pretrain_steps=0,
        steps=int(golden(case, 'meta/lr_maxt')) if decay else 1000,
        lr_decay=decay,
        **{k: float(golden(case, f'meta/{k}')) for k in ('alpha', 'gamma', 'expectile', 'lr')},
    )
    spec = Spec(int(obs_dim), int(action_dim), float(golden(case, 'meta/max_action')))
    agent = DTQL(spec, config)
    state = blank(agent)
    params = {n: fill(state.params[n], LAYOUT[n], j) for j, n in enumerate(LAYOUT)}
    target = jax.tree.map(jnp.copy, {'critic': params['critic']})
    return agent, state.replace(params=params, target=target)


def batch_and_draws(case: str, i: int) -> tuple[Transition, Draws]:
    b = {
        k: jnp.asarray(golden(case, f'batch{i}/{k}'))
        for k in ('obs', 'action', 'reward', 'not_done', 'next_obs')
    }
    batch = Transition(b['obs'], b['action'], b['reward'][:, 0], b['not_done'][:, 0], b['next_obs'])
    kinds = ('00_u', '01_n', '02_n', '03_u', '04_n')
    draws = [jnp.float32(golden(case, f'step{i}/draw{kind}')) for kind in kinds]
    return batch, Draws(*draws)


@pytest.fixture(params=['quick', pytest.param('optimised', marks=pytest.mark.slow)])
def compiler(request):
    """XLA without most of its optimisations, and with all."""
    with quickly_compiled() if request.param == 'quick' else contextlib.nullcontext():
        yield


@pytest.mark.parametrize(
    'case', [pytest.param(c, marks=pytest.mark.slow) if c == 'decay' else c for c in CASES]
)
def test_train__and_act_reproduce_the_released_code(case, compiler):
    agent, state = setup(case)
    train = jax.jit(agent.train)
    with jax.default_matmul_precision('highest'):
        for i in range(int(golden(case, 'meta/dims')[3])):
            state, metrics = train(state, *batch_and_draws(case, i))
            expected = {
                'mu/loss': 'bc_loss',
                'pi/trust_loss': 'distill_loss',
                'pi/loss': 'actor_loss',
                'critic/loss': 'critic_loss',
            }
            ours = {theirs: metrics[name] for name, theirs in expected.items()}
            ours['ql_loss'] = -metrics['pi/q']
            if agent.config.gamma:
                ours['gamma_loss'] = -metrics['pi/log_prob']
            for name, value in ours.items():
                np.testing.assert_allclose(
                    value, golden(case, f'step{i}/{name}'), rtol=2e-5, atol=2e-5,
                    err_msg=f'{case} step {i} {name}',
                )  # fmt: skip
            trees = {TORCH_NAME[n]: (state.params[n], LAYOUT[n]) for n in LAYOUT}
            trees['critic_target'] = (state.target['critic'], CRITIC)
            for net, (tree, layout) in trees.items():
                for name, path in layout:
                    key = f'step{i}/params/{net}/{name}'
                    check(golden(case, key), tree, path, f'{case} {key}')
        check_acting(case, agent, state)


def check_acting(case, agent, state):
    acting = agent.acting(state)
    obs = jnp.asarray(golden(case, 'act/obs'))
    noise = jnp.asarray(golden(case, 'act/draw00_n')).reshape(*golden(case, 'act/action').shape)
    action = jax.jit(jax.vmap(agent.candidates, (None, 0, 0)))(acting, obs, noise)
    q = jax.jit(jax.vmap(agent.candidate_q, (None, 0, 0)))(acting, obs, action)
    probability = jax.nn.softmax(acting['inverse_temperature'] * q)
    np.testing.assert_allclose(action, golden(case, 'act/action'), atol=2e-5)
    np.testing.assert_allclose(q, golden(case, 'act/q'), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(probability, golden(case, 'act/pick_prob'), rtol=1e-4, atol=1e-6)


def test_trace__every_summary_is_compared():
    """A tensor that the layout forgets would pass unseen."""
    ours = {f'{TORCH_NAME[n]}/{name}' for n in LAYOUT for name, _ in LAYOUT[n]}
    ours |= {f'critic_target/{name}' for name, _ in CRITIC}
    steps = {k.split('/params/')[0] for k in GOLDEN if '/params/' in k}
    assert len(steps) == sum(int(golden(case, 'meta/dims')[3]) for case in CASES)
    for step in steps:
        names = {k.split('/params/')[1] for k in GOLDEN if k.startswith(f'{step}/params/')}
        assert names == ours, step
