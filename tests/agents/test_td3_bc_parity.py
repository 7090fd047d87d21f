"""Whole training steps of TD3+BC's released torch code, replayed: `golden/td3_bc.npz`.

Tolerances as in `test_dtql_parity`. The released code logs no loss: `test_td3_bc` compares those
with NumPy.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.base import State
from dtql_jax.agents.td3_bc import TD3BC, Config
from dtql_jax.types import Spec, Transition
from tests.helpers.golden_weights import blank, check, fill, linear

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / 'golden' / 'td3_bc.npz')
CASES, STEPS = ['gym', 'antmaze'], 4
LAYOUT = {
    'q': [x for k in range(6) for x in linear(f'l{k + 1}', f'q{k // 3 + 1}', f'Linear_{k % 3}')],
    'pi': [x for k in range(3) for x in linear(f'l{k + 1}', f'Linear_{k}')],
}
THEIRS = {'q': 'critic', 'pi': 'actor'}

pytestmark = pytest.mark.usefixtures('quick_compile')


def golden(case: str, key: str) -> np.ndarray:
    return GOLDEN[f'{case}/{key}']


def setup(case: str) -> tuple[TD3BC, State]:
    obs_dim, action_dim, _, _ = golden(case, 'meta/dims').tolist()
    alpha, noise = (float(golden(case, f'meta/{name}')) for name in ('alpha', 'policy_noise'))
    agent = TD3BC(Spec(obs_dim, action_dim), Config(alpha=alpha, noise=noise))
    state = blank(agent)
    params = {name: fill(state.params[name], LAYOUT[name], j) for j, name in enumerate(LAYOUT)}
    return agent, state.replace(params=params, target=jax.tree.map(jnp.copy, params))


def batch_of(case: str, i: int) -> Transition:
    b = {k: golden(case, f'batch{i}/{k}') for k in ('obs', 'action', 'reward', 'not_done')}
    next_obs = golden(case, f'batch{i}/next_obs')
    return Transition(b['obs'], b['action'], b['reward'][:, 0], b['not_done'][:, 0], next_obs)


@pytest.mark.parametrize('case', CASES)
def test_train__and_act_reproduce_the_released_code(case):
    agent, state = setup(case)
    assert int(golden(case, 'meta/dims')[3]) == STEPS
    train = jax.jit(agent.train)
    with jax.default_matmul_precision('highest'):
        for i in range(STEPS):
            state, _ = train(state, batch_of(case, i), golden(case, f'step{i}/draw00_n'))
            for name, layout in LAYOUT.items():
                net = THEIRS[name]
                for where, trees in ((net, state.params), (f'{net}_target', state.target)):
                    for tensor, path in layout:
                        key = f'step{i}/params/{where}/{tensor}'
                        check(golden(case, key), trees[name], path, f'{case} {key}')
        act = jax.vmap(agent.act, (None, 0, None))
        action = act(agent.acting(state), golden(case, 'act/obs'), jax.random.key(0))
    np.testing.assert_allclose(action, golden(case, 'act/action'), atol=2e-5)


def test_trace__every_number_is_compared():
    """A tensor that the layout forgets would pass unseen."""
    ours = {
        f'{THEIRS[name]}{target}/{tensor}'
        for name, layout in LAYOUT.items()
        for target in ('', '_target')
        for tensor, _ in layout
    }
    for case in CASES:
        for i in range(STEPS):
            keys = [k for k in GOLDEN if k.startswith(f'{case}/step{i}/')]
            assert {k.split('/params/')[1] for k in keys if '/params/' in k} == ours
            assert len([k for k in keys if '/draw' in k]) == 1
