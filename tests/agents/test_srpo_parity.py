"""Whole training steps of the released torch code, replayed: `golden/srpo.npz`.

Three updates of each phase in a row, without dropout. Formula weights, summaries and tolerances are
those of `test_dtql_parity`.

Parameters are compared in float64. In float32 one gradient entry in 65,000 is a cancelling sum that
rounding pushes across 0, and Adam's first step has the size of the learning rate on either side:
with XLA's optimisations and without, other entries of other layers do so. The noise level enters
through sines of up to 188 radians, which rounds more than other methods do. Losses and actions
agree in float32 too.
"""

import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.base import State
from dtql_jax.agents.srpo import SRPO, CloneDraws, Config, Draws
from dtql_jax.nn.critics import TwinQ
from dtql_jax.types import Spec, Transition
from tests.helpers.golden_weights import blank, check, fill, linear

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / 'golden' / 'srpo.npz')
CASES = ['gym', 'antmaze']

pytestmark = pytest.mark.usefixtures('quick_compile')


def golden(case: str, key: str) -> np.ndarray:
    return GOLDEN[f'{case}/{key}']


FREQUENCY = ('features', 'frequency')
UNUSED = [(None, None)] * 2  # a layer of torch's that does nothing, but counts in the formula
MU = [('embed.0.W', FREQUENCY), *linear('main.fc', 'first')]
for i in range(3):
    block = f'main.blocks.{i}'
    MU += [
        (f'{block}.layer_norm.weight', (f'LayerNorm_{i}', 'scale')),
        (f'{block}.layer_norm.bias', (f'LayerNorm_{i}', 'bias')),
        *linear(f'{block}.fc1', f'wide_{i}'),
        *linear(f'{block}.fc2', f'narrow_{i}'),
        *UNUSED,
    ]
MU += linear('main.out_fc', 'last')
for i in range(2):
    MU += linear(f'cond_model.{2 * i}', 'time', f'Linear_{i}')
TORCH_NAME = {'mu': 'behavior', 'q': 'q', 'v': 'v', 'pi': 'policy'}


def layouts(case: str) -> dict[str, list]:
    """For each network, torch's names and our paths, in torch's order."""
    q_layers, pi_layers = (int(golden(case, f'meta/{k}_layer')) for k in ('q', 'policy'))
    return {
        'mu': MU,
        'q': [
            entry
            for k in range(2)
            for i in range(q_layers + 1)
            for entry in linear(f'q{k + 1}.{2 * i}', f'q{k + 1}', f'Linear_{i}')
        ],
        'v': [x for i in range(3) for x in linear(f'v.{2 * i}', 'v', f'Linear_{i}')],
        'pi': [x for i in range(pi_layers + 1) for x in linear(f'net.{2 * i}', f'Linear_{i}')],
    }


def used(layout: list) -> list:
    return [(name, path) for name, path in layout if name]


class ActionFirst(TwinQ):
    """The released code's critic reads `[a, s]`: ours with the rows of its first layer permuted."""

    def __call__(self, obs, action):
        return super().__call__(action, obs)


class Traced(SRPO):
    """With the trace's critic, which has four layers in the second case; released runs have two."""

    q_layers = 2

    @property
    def q(self) -> TwinQ:
        return ActionFirst((self.config.hidden,) * self.q_layers, nn.relu)


def setup(case: str) -> tuple[SRPO, State]:
    obs_dim, action_dim, _, n = (int(x) for x in golden(case, 'meta/dims'))
    config = Config(
        behaviour_steps=n,
        critic_steps=n,
        dropout=0.0,
        expectile=0.9 if 'maze' in str(golden(case, 'meta/env')) else 0.7,
        beta=float(golden(case, 'meta/beta')),
        weight=str(golden(case, 'meta/WT')),
        normalise_q_gradient=bool(golden(case, 'meta/regq')),
        policy_layers=int(golden(case, 'meta/policy_layer')),
    )
    critic = {'q_layers': int(golden(case, 'meta/q_layer'))}
    agent = type('Case', (Traced,), critic)(Spec(obs_dim, action_dim), config)
    state = blank(agent)
    params = {
        name: fill(state.params[name], layout, j)
        for j, (name, layout) in enumerate(layouts(case).items())
    }
    params['mu']['features']['frequency'] = jnp.float32(30 * np.sin(1.7 * np.arange(32)))
    target = jax.tree.map(jnp.copy, {'q': params['q']})
    return agent, state.replace(params=params, target=target)


def batch_of(case: str, i: int) -> Transition:
    names = ('obs', 'action', 'reward', 'not_done', 'next_obs')
    b = {k: golden(case, f'batch{i}/{k}').astype(float) for k in names}
    b = Transition(b['obs'], b['action'], b['reward'][:, 0], b['not_done'][:, 0], b['next_obs'])
    return jax.tree.map(jnp.asarray, b)


def draws_of(case: str, i: int) -> list:
    """u and z of step i."""
    kinds = ('00_u', '01_n')
    return [jnp.asarray(golden(case, f'step{i}/draw{kind}').astype(float)) for kind in kinds]


def as_floats(state: State) -> State:
    """`state` in the precision that jax is set to."""
    is_float = lambda x: jnp.issubdtype(x.dtype, jnp.floating)  # noqa: E731
    return jax.tree.map(lambda x: x.astype(float) if is_float(x) else x, state)


def updates(case: str, agent: SRPO) -> list:
    """Of each step: the update of a state, torch's losses by our metrics, the networks moved."""
    _, _, b, n = (int(x) for x in golden(case, 'meta/dims'))
    dropped = jnp.full((3, b, agent.config.hidden), 0.5)
    behaviour, critic, train = (jax.jit(f) for f in (agent.behaviour, agent.critic, agent.train))

    def update(state, i):
        match i // n:
            case 0:
                return behaviour(state, batch_of(case, i), CloneDraws(*draws_of(case, i), dropped))
            case 1:
                return critic(state, batch_of(case, i))
            case _:
                return train(state, batch_of(case, i), Draws(*draws_of(case, i)))

    losses = [{'mu/loss': 'behavior'}, {'v/loss': 'v', 'q/td_loss': 'q'}, {'pi/q': 'q_mean'}]
    moved = [['mu'], ['q', 'v'], ['pi']]
    return [(update, losses[i // n], moved[i // n]) for i in range(3 * n)]


@pytest.mark.parametrize('bits', [pytest.param(64, marks=pytest.mark.slow), 32])
@pytest.mark.parametrize('case', CASES)
def test_train__and_act_reproduce_the_released_code(case, bits):
    agent, state = setup(case)
    with jax.enable_x64(bits == 64), jax.default_matmul_precision('highest'):
        state = as_floats(state)
        for i, (update, losses, moved) in enumerate(updates(case, agent)):
            state, metrics = update(state, i)
            for ours, theirs in losses.items():
                assert metrics[ours].dtype == f'float{bits}'
                np.testing.assert_allclose(
                    metrics[ours], golden(case, f'step{i}/{theirs}'), rtol=2e-5, atol=2e-5,
                    err_msg=f'{case} step {i} {theirs}',
                )  # fmt: skip
            trees = {TORCH_NAME[n]: (state.params[n], layouts(case)[n]) for n in moved}
            if 'q' in moved:
                trees['q_target'] = (state.target['q'], layouts(case)['q'])
            for net, (tree, layout) in trees.items() if bits == 64 else ():
                for name, path in used(layout):
                    key = f'step{i}/params/{net}/{name}'
                    check(golden(case, key), tree, path, f'{case} {key}')
        act = jax.jit(jax.vmap(agent.act, (None, 0, None)))
        action = act(agent.acting(state), golden(case, 'act/obs'), jax.random.key(0))
        np.testing.assert_allclose(action, golden(case, 'act/action'), atol=2e-5)


@pytest.mark.parametrize('case', CASES)
def test_trace__every_number_is_compared(case):
    """A tensor that the layout forgets would pass unseen; so would a loss."""
    n = int(golden(case, 'meta/dims')[3])
    for i, (_, losses, moved) in enumerate(updates(case, setup(case)[0])):
        ours = set(losses.values())
        for net in moved:
            names = [name for name, _ in used(layouts(case)[net])]
            ours |= {f'params/{TORCH_NAME[net]}/{name}' for name in names}
            if net == 'q':
                ours |= {f'params/q_target/{name}' for name in names}
        prefix = f'{case}/step{i}/'
        theirs = {k.removeprefix(prefix) for k in GOLDEN if k.startswith(prefix)}
        assert {k for k in theirs if not k.startswith('draw')} == ours
        assert len(theirs - ours) == (0 if i // n == 1 else 2)
