"""Whole training steps of the released ReBRAC of FQL's authors, replayed: `golden/rebrac.npz`.

Tolerances are those of `test_fql_parity`.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.rebrac import Config, ReBRAC
from dtql_jax.types import Spec
from tests.helpers.flax_traces import Trace, close, gradients, keeping_gradients

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / 'golden' / 'rebrac.npz')
TRACE = Trace(GOLDEN, {'q': ('critic', 'value_net'), 'pi': ('actor', 'actor_net')})
LOSSES = {
    'critic/critic_loss': 'q/td_loss',
    'critic/q_mean': 'q/q',
    'actor/total_loss': 'pi/loss',
    'actor/actor_loss': 'pi/q_loss',
    'actor/mse': 'pi/clone_loss',
}
EXTREMES = {'critic/q_max': np.max, 'critic/q_min': np.min}

pytestmark = pytest.mark.usefixtures('quick_compile')


def setup(case: str) -> ReBRAC:
    names = {
        'lr': 'lr', 'tau': 'tau', 'discount': 'discount', 'alpha_actor': 'alpha_actor',
        'alpha_critic': 'alpha_critic', 'policy_every': 'actor_freq', 'noise': 'actor_noise',
        'noise_clip': 'actor_noise_clip', 'critic_layer_norm': 'layer_norm',
        'policy_layer_norm': 'actor_layer_norm',
    }  # fmt: skip
    obs_dim, action_dim, *_ = TRACE(case, 'meta/dims').tolist()
    config = Config(hidden=64, **TRACE.meta(case, **names))
    return keeping_gradients(ReBRAC)(Spec(obs_dim, action_dim), config)


@pytest.mark.parametrize('case', [pytest.param('gym', marks=pytest.mark.slow), 'antmaze'])
def test_train__and_act_reproduce_the_released_code(case):
    agent = setup(case)
    state, train = TRACE.start(agent), jax.jit(agent.train)
    q_at = jax.jit(agent.q.apply)
    with jax.default_matmul_precision('highest'):
        for i in TRACE.steps(case):
            batch, before = TRACE.batch(case, i), state
            state, metrics = train(state, batch, jnp.asarray(TRACE(case, f'step{i}/draw00_n')))
            learned = (i + 1) % agent.config.policy_every == 0
            assert [metrics[f'pi/{k}'].count for k in ('loss', 'q')] == [learned, learned]
            totals = {k: getattr(v, 'total', v) for k, v in metrics.items()}
            ours = {name: totals[metric] for name, metric in LOSSES.items()}
            q = q_at({'params': before.params['q']}, batch.obs, batch.action)
            ours |= {name: extreme(q) for name, extreme in EXTREMES.items()}
            ours['actor/bc_loss'] = agent.config.alpha_actor * totals['pi/clone_loss']
            ours['actor/std'] = 1.0  # of a distribution that nothing draws from
            theirs = TRACE.losses(case, i)
            assert theirs.keys() == {k for k in ours if learned or k.startswith('critic/')}
            for name, value in theirs.items():
                close(ours[name], value, f'{case} step {i} {name}')
            TRACE.check_gradient(case, i, gradients(state))
            TRACE.check_parameters(case, i, state)
        obs, noise = TRACE(case, 'act/obs'), TRACE(case, 'act/draw00_n')
        acted = jax.vmap(agent.act, (None, 0, None))(agent.acting(state), obs, jax.random.key(0))
        noisy = agent.noisy(state.params['pi'], obs, noise, state.hparams)
        q = q_at({'params': state.params['q']}, obs, noisy)
    for ours, name in ((acted, 'action_eval'), (noisy, 'action'), (q, 'q')):
        np.testing.assert_allclose(ours, TRACE(case, f'act/{name}'), atol=2e-5, rtol=1e-5)
