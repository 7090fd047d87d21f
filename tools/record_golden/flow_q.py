"""FQL and ReBRAC of seohongpark/fql, which is JAX code: whole updates, then acting.

Updates run uncompiled, so that each draw passes through here on its way.
"""

import contextlib
import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from tools.record_golden.recording import Batch, Case, Trace, add

NETWORK_SEED, ACTING_SEED = 5, 3
HIDDEN = (64,) * 4
SHARED = ('lr', 'tau', 'discount', 'actor_hidden_dims', 'value_hidden_dims', 'layer_norm',
          'actor_layer_norm')  # fmt: skip
RELEASED = {
    'obs': 'observations', 'action': 'actions', 'reward': 'rewards', 'not_done': 'masks',
    'next_obs': 'next_observations', 'next_action': 'next_actions',
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Method:
    """Where an agent is, its networks in the order of the formula, and what of it is recorded."""

    module: str
    agent: str
    networks: tuple[str, ...]
    targets: tuple[str, ...]
    settings: tuple[str, ...]
    cases: Mapping[str, Case]


METHODS = {
    'fql': Method(
        'agents.fql',
        'FQLAgent',
        ('critic', 'actor_bc_flow', 'actor_onestep_flow'),
        ('critic',),
        (*SHARED, 'alpha', 'q_agg', 'flow_steps', 'normalize_q_loss'),
        {
            'ogbench': Case(29, 8, 16, 4, {'alpha': 10.0}),
            'adroit': Case(
                45, 24, 16, 4,
                {'alpha': 3.0, 'q_agg': 'min', 'normalize_q_loss': True, 'tau': 0.05},
            ),
        },
    ),
    'rebrac': Method(
        'agents.rebrac',
        'ReBRACAgent',
        ('critic', 'actor'),
        ('critic', 'actor'),
        (*SHARED, 'alpha_actor', 'alpha_critic', 'actor_freq', 'actor_noise', 'actor_noise_clip',
         'tanh_squash'),
        {
            'gym': Case(17, 6, 16, 6, {'alpha_actor': 0.1, 'alpha_critic': 0.01}),
            'antmaze': Case(
                29, 8, 16, 6,
                {'alpha_actor': 0.003, 'alpha_critic': 0.01, 'discount': 0.995, 'tau': 0.05},
            ),
        },
    ),
}  # fmt: skip


def record(name: str) -> Trace:
    """The trace of a method; the checkout is on the path."""
    trace: Trace = {}
    jax.config.update('jax_default_matmul_precision', 'highest')
    for label, case in METHODS[name].cases.items():
        trace |= {f'{label}/{key}': value for key, value in _case(METHODS[name], case).items()}
    return trace


def _case(method: Method, case: Case) -> Trace:
    agent = _start(method, case)
    trace: Trace = {}
    dims = [case.obs_dim, case.action_dim, case.batch_size, case.steps]
    settings = {name: agent.config[name] for name in method.settings}
    add(trace, 'meta', {'dims': dims, 'max_action': case.max_action, **settings})
    delayed = 'actor_freq' in method.settings
    batches = case.batches(case.steps, next_action=delayed)
    for i, batch in enumerate(batches):
        add(trace, f'batch{i}', batch)
        # The released loop counts from 1.
        full = {'full_update': (i + 1) % agent.config['actor_freq'] == 0} if delayed else {}
        with _recorded(trace, f'step{i}'):
            agent, told = agent.update(_released(batch), **full)
        add(trace, f'step{i}', told)
        for network in (*method.networks, *(f'target_{target}' for target in method.targets)):
            tree = agent.network.params[f'modules_{network}']
            add(trace, f'step{i}/params/{network}', {k: summary(x) for k, x in leaves(tree)})
    obs, key = jnp.asarray(batches[0]['obs'][:2]), jax.random.PRNGKey(ACTING_SEED)
    with _recorded(trace, 'act'):
        action = agent.sample_actions(obs, seed=key)
    q = agent.network.select('critic')(obs, actions=action)
    add(trace, 'act', {'obs': obs, 'action': action, 'q': q})
    if delayed:
        mode = agent.sample_actions(obs, seed=key, temperature=0)
        add(trace, 'act', {'action_eval': mode})
    else:
        cloned = agent.compute_flow_actions(obs, noises=jnp.asarray(trace['act/draw00_n']))
        add(trace, 'act', {'flow_action': cloned})
    return trace


def _start(method: Method, case: Case) -> Any:
    """The released agent with the weights of the formula and a new optimiser."""
    module = importlib.import_module(method.module)
    config = module.get_config()
    config.update({**case.settings, 'actor_hidden_dims': HIDDEN, 'value_hidden_dims': HIDDEN})
    zeros = (jnp.zeros((1, size)) for size in (case.obs_dim, case.action_dim))
    agent = getattr(module, method.agent).create(NETWORK_SEED, *zeros, config)
    params = dict(agent.network.params)
    for number, name in enumerate(method.networks):
        params[f'modules_{name}'] = formula(params[f'modules_{name}'], number)
    for name in method.targets:
        params[f'modules_target_{name}'] = params[f'modules_{name}']
    opt_state = agent.network.tx.init(params)
    return agent.replace(network=agent.network.replace(params=params, opt_state=opt_state))


def _released(batch: Batch) -> dict[str, jax.Array]:
    """A batch under the released names; rewards and masks are `[B]`."""
    columns = {'reward', 'not_done'}
    return {
        RELEASED[name]: jnp.asarray(x[:, 0] if name in columns else x) for name, x in batch.items()
    }


@contextlib.contextmanager
def _recorded(trace: Trace, where: str) -> Iterator[None]:
    """Within, nothing is compiled, and each draw becomes `<where>/draw<number>_<kind>`."""
    count = 0

    def watched(kind: str, draw: Any) -> Any:
        def call(key: jax.Array, shape: tuple[int, ...] = ()) -> jax.Array:
            nonlocal count
            with jax.disable_jit(False):
                x = draw(key, shape)
            trace[f'{where}/draw{count:02d}_{kind}'] = np.asarray(x)
            count += 1
            return x

        return call

    normal, uniform = jax.random.normal, jax.random.uniform
    with (
        jax.disable_jit(),
        mock.patch.object(jax.random, 'normal', watched('n', normal)),
        mock.patch.object(jax.random, 'uniform', watched('u', uniform)),
    ):
        yield


def leaves(tree: Any) -> list[tuple[str, jax.Array]]:
    """The tensors of a network by path, sorted."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator='/'), x) for path, x in flat]


def formula(tree: Any, number: int) -> Any:
    """Network `number` with the weights of the README."""
    made = []
    for k, (name, x) in enumerate(leaves(tree)):
        m = np.arange(x.size)
        wave = np.sin(1.7 * m + 0.01 * m**2 + 0.3 * k + 0.9 * number).astype(np.float32)
        wave = wave.reshape(x.shape)
        if name.endswith('kernel'):
            wave = np.float32(2 / x.shape[-2] ** 0.5) * wave
        elif name.endswith('scale'):
            wave = np.float32(1) + np.float32(0.1) * wave
        else:
            wave = np.float32(0.1) * wave
        made.append(jnp.asarray(wave))
    return jax.tree.unflatten(jax.tree.structure(tree), made)


def summary(tensor: jax.Array) -> np.ndarray:
    """Sum, L2 norm, the first four entries and the last two, in float64."""
    x = np.asarray(tensor, np.float64).ravel()
    return np.array([x.sum(), np.sqrt((x * x).sum()), *x[:4], *x[-2:]])
