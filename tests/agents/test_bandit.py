"""Every agent on a bandit: four modes of data, one of them best. Clones match all, others find it.

One observation, two action dimensions, no next step: what is left is how an agent turns data and
rewards into actions. An agent that is added to the registry is held to it too.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.registry import AGENTS, task_config
from dtql_jax.training.engine import Engine
from dtql_jax.types import Lane, Spec, Transition

MODES = 0.6 * np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
BEST = 3
SPREAD = 0.1
CLONES = {'bc'}
# Small and fast, where an agent has such settings. With one candidate it is the policy that finds
# the best, and not the choice by Q, which would find it among the samples of a clone as well.
SMALL = {
    'hidden': 64, 'candidates': 1, 'batch_size': 128, 'behaviour_batch_size': 128, 'steps': 1000,
    'pretrain_steps': 500, 'behaviour_steps': 1000, 'critic_steps': 1000, 'lr': 1e-3,
    'critic_lr': 1e-3, 'ema_tau': 0.01, 'ema_start': 0, 'dropout': 0.0,
    'tau': 0.05, 'expectile': 0.9,
}  # fmt: skip
# The weight of Q against the data, which has no common scale; and time for chains of denoising.
OWN = {
    'diffusion_ql': {'steps': 2000},
    'idql': {'candidates': 64},  # whose policy knows nothing of Q
    'srpo': {'beta': 0.2},
    'iql': {'beta': 10.0},
    'ifql': {'candidates': 64},
    'fql': {'alpha': 0.5},
    'bc': {'steps': 3000},
}


def bandit(n=4000):
    """Reward 1 at the best mode, falling to 0 at a distance of 0.3; every return ends at once.

    A constant reward around the mode would let a critic believe in more beyond it.
    """
    rng = np.random.default_rng(0)
    mode = rng.integers(0, 4, n)
    action = (MODES[mode] + SPREAD * rng.normal(size=(n, 2))).astype(np.float32)
    obs = np.ones((n, 1), np.float32)
    distance = np.linalg.norm(action - MODES[BEST], axis=1)
    reward = np.maximum(0.0, 1.0 - (distance / 0.3) ** 2).astype(np.float32)
    return Transition(obs, action, reward, np.zeros_like(reward), obs)


def actions_after_training(name, n=400):
    """Actions of a trained agent for `n` keys."""
    fields = AGENTS[name].agent.config_class.__dataclass_fields__
    settings = {k: v for k, v in SMALL.items() if k in fields} | OWN.get(name, {})
    agent = AGENTS[name].agent(Spec(1, 2), task_config(name, '', settings))
    data = bandit()
    data = data._replace(extra=dict.fromkeys(agent.columns, data.action))  # which nothing follows
    engine = Engine(agent, data, [Lane(name, 0)])
    state, alive = engine.init(), np.ones(1, bool)
    for phase in agent.phases():
        state = engine.enter(phase, state, alive)
        state, _, done = engine.advance(phase, state, engine.zeros(phase), phase.steps, alive)
        assert done[0] == phase.steps, 'diverged'
    acting = agent.acting(jax.tree.map(lambda x: x[0], state))
    act = jax.jit(lambda keys: jax.lax.map(lambda k: agent.act(acting, jnp.ones(1), k), keys))
    return np.asarray(act(jax.random.split(jax.random.key(7), n)))


@pytest.mark.slow
@pytest.mark.parametrize('name', AGENTS)
def test_bandit__clones_match_the_modes_and_others_find_the_best(name):
    actions = actions_after_training(name)
    distance = np.linalg.norm(actions[:, None] - MODES, axis=-1)
    near = distance.min(1) < 3 * SPREAD
    share = np.bincount(distance.argmin(1)[near], minlength=4) / len(actions)
    if name in CLONES:
        assert near.mean() > 0.9, share
        assert (abs(share - 0.25) < 0.1).all(), share
    else:
        assert share[BEST] > 0.9, share
