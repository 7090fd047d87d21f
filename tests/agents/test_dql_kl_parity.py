"""Whole training steps of DQL-KL's released torch code, replayed: `golden/dql_kl.npz`.

Tolerances as in `test_dtql_parity`. The traces start from formula weights for every network, so
`test_dql_kl` tests `enter`, the start from the pre-trained policy.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.base import State
from dtql_jax.agents.dql_kl import DQLKL, Config, Draws
from dtql_jax.types import Spec, Transition
from tests.helpers.golden_weights import blank, check, fill, linear, norm

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / 'golden' / 'dql_kl.npz')
CASES = ['gym', 'sigma1']


CRITIC = []
for k in range(2):
    for i in range(3):
        CRITIC += linear(f'q{k + 1}_model.{3 * i}', 'q', f'q{k + 1}', f'Linear_{i}')
        CRITIC += norm(f'q{k + 1}_model.{3 * i + 1}', 'q', f'q{k + 1}', f'LayerNorm_{i}')
    CRITIC += linear(f'q{k + 1}_model.9', 'q', f'q{k + 1}', 'Linear_3')
for i in range(4):
    CRITIC += linear(f'v_model.{2 * i}', 'v', 'v', f'Linear_{i}')
DENOISER = [
    *linear('embed.1', 'time', 'mlp', 'Linear_0'),
    *linear('embed.3', 'time', 'mlp', 'Linear_1'),
    *linear('layers.layers.0', 'first'),
    *[x for i, n in enumerate((1, 3, 5, 7))
      for x in linear(f'layers.layers.{n}', 'trunk', f'Linear_{i}')],
]  # fmt: skip
LAYOUT = {'critic': CRITIC, 'mu': DENOISER, 'pi': DENOISER, 'fake': DENOISER}
TORCH_NAME = {'critic': 'critic', 'mu': 'bc_actor', 'pi': 'actor', 'fake': 'fake_score'}
# The released code logs no loss of the fake network.
METRIC = {
    'bc_loss': 'mu/loss',
    'distill_loss': 'pi/kl_loss',
    'actor_loss': 'pi/loss',
    'critic_loss': 'critic/loss',
}
STEPS = 3

pytestmark = pytest.mark.usefixtures('quick_compile')


def golden(case: str, key: str) -> np.ndarray:
    return GOLDEN[f'{case}/{key}']


def setup(case: str) -> tuple[DQLKL, State]:
    obs_dim, action_dim, _, _ = golden(case, 'meta/dims')
    names = ('alpha', 'expectile', 'lr', 'generation_sigma')
    released = {k: float(golden(case, f'meta/{k}')) for k in names if f'{case}/meta/{k}' in GOLDEN}
    config = Config(pretrain_steps=0, steps=1000, **released)
    spec = Spec(int(obs_dim), int(action_dim), float(golden(case, 'meta/max_action')))
    agent = DQLKL(spec, config)
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
    # In the order of `Draws`; the released code draws the KL term's noise before its level.
    kinds = ('00_u', '01_n', '02_n', '04_u', '03_n', '05_u', '06_n')
    return batch, Draws(*[jnp.float32(golden(case, f'step{i}/draw{kind}')) for kind in kinds])


@pytest.mark.parametrize('case', CASES)
def test_train__and_act_reproduce_the_released_code(case):
    agent, state = setup(case)
    assert int(golden(case, 'meta/dims')[3]) == STEPS
    train = jax.jit(agent.train)
    with jax.default_matmul_precision('highest'):
        for i in range(STEPS):
            state, metrics = train(state, *batch_and_draws(case, i))
            ours = {theirs: metrics[name] for theirs, name in METRIC.items()}
            ours['ql_loss'] = -metrics['pi/q']
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
    obs, action = jnp.asarray(golden(case, 'act/obs')), golden(case, 'act/action')
    noise = jnp.asarray(golden(case, 'act/draw00_n')).reshape(action.shape)
    ours = jax.jit(jax.vmap(agent.candidates, (None, 0, 0)))(acting, obs, noise)
    q = jax.jit(jax.vmap(agent.candidate_q, (None, 0, 0)))(acting, obs, ours)
    probability = jax.nn.softmax(acting['inverse_temperature'] * q)
    np.testing.assert_allclose(ours, action, atol=2e-5)
    np.testing.assert_allclose(q, golden(case, 'act/q'), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(probability, golden(case, 'act/pick_prob'), rtol=1e-4, atol=1e-6)


def test_trace__every_number_is_compared():
    """A tensor that the layout forgets, or a loss, would pass unseen."""
    ours = {f'{TORCH_NAME[n]}/{name}' for n in LAYOUT for name, _ in LAYOUT[n]}
    ours |= {f'critic_target/{name}' for name, _ in CRITIC}
    for case in CASES:
        for i in range(STEPS):
            keys = [k for k in GOLDEN if k.startswith(f'{case}/step{i}/')]
            assert {k.split('/params/')[1] for k in keys if '/params/' in k} == ours
            assert {k.split('/')[2] for k in keys if k.endswith('_loss')} == {*METRIC, 'ql_loss'}
            assert len([k for k in keys if '/draw' in k]) == len(Draws._fields)
