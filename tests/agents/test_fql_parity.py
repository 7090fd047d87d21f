"""Whole training steps of the released code of FQL, replayed: `golden/fql.npz`.

Tolerances are those of the trace's own float32 error: losses and gradients 1e-5 (relative and
absolute), parameter entries 5e-7 (one Adam step moves an entry by the learning rate, 3e-4), L2
norms 2e-6 relative, sums 1e-4, actions 2e-5.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.fql import FQL, Config, Draws
from dtql_jax.types import Spec
from tests.helpers.flax_traces import Trace, close, gradients, keeping_gradients

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / 'golden' / 'fql.npz')
TRACE = Trace(
    GOLDEN,
    {
        'q': ('critic', 'value_net'),
        'flow': ('actor_bc_flow', 'mlp'),
        'pi': ('actor_onestep_flow', 'mlp'),
    },
)
LOSSES = {
    'critic/critic_loss': 'q/td_loss',
    'critic/q_mean': 'q/q',
    'actor/actor_loss': 'the sum',
    'actor/bc_flow_loss': 'flow/loss',
    'actor/distill_loss': 'pi/distill_loss',
    'actor/q_loss': 'pi/q_loss',
    'actor/q': 'pi/q',
}
# Logged only; `critic/q_*` are the extremes of Q at the data, `actor/mse` has a draw of its own.
EXTREMES = {'critic/q_max': np.max, 'critic/q_min': np.min}

pytestmark = pytest.mark.usefixtures('quick_compile')


def setup(case: str) -> FQL:
    names = {
        'lr': 'lr', 'tau': 'tau', 'discount': 'discount', 'alpha': 'alpha',
        'q_aggregate': 'q_agg', 'flow_steps': 'flow_steps', 'normalise_q': 'normalize_q_loss',
        'critic_layer_norm': 'layer_norm', 'flow_layer_norm': 'actor_layer_norm',
    }  # fmt: skip
    obs_dim, action_dim, *_ = TRACE(case, 'meta/dims').tolist()
    config = Config(hidden=64, **TRACE.meta(case, **names))
    return keeping_gradients(FQL)(Spec(obs_dim, action_dim), config)


def draws_of(case: str, i: int) -> Draws:
    kinds = ('00_n', '01_n', '02_u', '03_n')
    return Draws(*(jnp.asarray(TRACE(case, f'step{i}/draw{kind}')) for kind in kinds))


@pytest.mark.parametrize('case', [pytest.param('ogbench', marks=pytest.mark.slow), 'adroit'])
def test_train__and_act_reproduce_the_released_code(case):
    agent = setup(case)
    state, train = TRACE.start(agent), jax.jit(agent.train)
    one_step, q_at = jax.jit(agent.one_step), jax.jit(agent.q.apply)
    with jax.default_matmul_precision('highest'):
        for i in TRACE.steps(case):
            batch, before = TRACE.batch(case, i), state
            state, metrics = train(state, batch, draws_of(case, i))
            metrics['the sum'] = metrics['pi/loss'] + metrics['flow/loss']
            q = q_at({'params': before.params['q']}, batch.obs, batch.action)
            z = TRACE(case, f'step{i}/draw04_n')
            action = np.clip(one_step(before.params['pi'], batch.obs, z), -1, 1)
            theirs = TRACE.losses(case, i)
            ours = {name: metrics[metric] for name, metric in LOSSES.items()}
            ours |= {name: extreme(q) for name, extreme in EXTREMES.items()}
            ours['actor/mse'] = np.mean((action - batch.action) ** 2)
            assert ours.keys() == theirs.keys()
            for name, value in theirs.items():
                close(ours[name], value, f'{case} step {i} {name}')
            TRACE.check_gradient(case, i, gradients(state))
            TRACE.check_parameters(case, i, state)
        obs, z = TRACE(case, 'act/obs'), TRACE(case, 'act/draw00_n')
        action = np.clip(one_step(state.params['pi'], obs, z), -1, 1)
        cloned = jax.jit(agent.cloned)(state.params['flow'], obs, z)
        q = q_at({'params': state.params['q']}, obs, action)
    for ours, name in ((action, 'action'), (cloned, 'flow_action'), (q, 'q')):
        np.testing.assert_allclose(ours, TRACE(case, f'act/{name}'), atol=2e-5, rtol=1e-5)


def test_act__is_one_step_from_the_key_s_noise_clipped_to_the_box():
    agent = setup('ogbench')
    state, obs = TRACE.start(agent), TRACE('ogbench', 'act/obs')[0]
    key = jax.random.key(3)
    raw = agent.one_step(state.params['pi'], obs, jax.random.normal(key, (8,)))
    assert np.abs(raw).max() > 1
    np.testing.assert_array_equal(agent.act(agent.acting(state), obs, key), np.clip(raw, -1, 1))
    wide = FQL(Spec(29, 8, 2.0), agent.config)
    np.testing.assert_array_equal(wide.act(wide.acting(state), obs, key), 2 * np.clip(raw, -1, 1))
