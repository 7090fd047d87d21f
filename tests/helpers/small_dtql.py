"""A DTQL that compiles fast, and its initial states."""

import functools

import jax
import jax.numpy as jnp

from dtql_jax.agents.dtql import DTQL, Config
from dtql_jax.types import Spec
from tests.helpers.states import drawn


def make(max_action=1.0, agent=DTQL, **settings):
    """The agent for observations `[1]` and actions `[2]`."""
    settings = {'hidden': 16, 'candidates': 4, 'steps': 100, 'pretrain_steps': 10} | settings
    return agent(Spec(1, 2, max_action), Config(**settings))


@functools.cache
def fresh_lanes():
    """Two lanes: the initial parameters of all agents here, which have the same networks."""
    return jax.jit(jax.vmap(lambda seed: make().init(jax.random.key(seed))))(jnp.arange(2))


def lanes_of(agent):
    """Two lanes of the agent, each with the settings of its `config`."""
    hparams = {k: jnp.full(2, v, jnp.float32) for k, v in agent.config.floats().items()}
    return fresh_lanes().replace(hparams=hparams)


@functools.cache
def fresh():
    """A state of all agents here."""
    return drawn(make())


def state_of(agent):
    """A state before training, with the settings of the agent's `config`."""
    hparams = {k: jnp.float32(v) for k, v in agent.config.floats().items()}
    return fresh().replace(hparams=hparams)
