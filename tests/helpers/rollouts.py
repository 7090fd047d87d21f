"""A small policy for three lanes, and a rollout of it in a simple environment."""

import functools

import gymnasium
import jax
import jax.numpy as jnp

from dtql_jax.rollout.actor import Actor
from dtql_jax.rollout.env_pool import EnvPool
from dtql_jax.rollout.evaluate import LanePolicies, evaluate
from tests.helpers.fake_env import Walk

make_pendulum = functools.partial(gymnasium.make, 'InvertedPendulum-v5')
SEEDS = [11, 7, 3]
FIELDS = ('returns', 'success', 'length')


def init(obs_dim, action_dim, lanes=3):
    """Lanes of a small network, different in each."""
    keys = jax.random.split(jax.random.key(0), 2)
    sizes = [(obs_dim, 32), (32, action_dim)]
    return [
        jax.random.normal(key, (lanes, *size)) / size[0]
        for key, size in zip(keys, sizes, strict=True)
    ]


def agent_act(params, obs, key):
    """64 noisy candidates, one of which is drawn by a score of its own: as the real one acts."""
    noise, draw = jax.random.split(key)
    mean = jnp.tanh(jnp.tanh(obs @ params[0]) @ params[1])
    candidates = mean + 0.1 * jax.random.normal(noise, (64, *mean.shape))
    return candidates[jax.random.categorical(draw, candidates.sum(-1))]


def chunk_act(params, obs, key):
    """Three actions at once, each drawn as `agent_act` draws it."""
    return jnp.concatenate([agent_act(params, obs, k) for k in jax.random.split(key, 3)])


@functools.cache
def compiled_actor(act, slots, quickly):
    return Actor(act, slots)


def actor_of(act, slots):
    """An actor, which compiles once for all tests that act and compile alike."""
    return compiled_actor(act, slots, jax.config.read('jax_disable_most_optimizations'))


def run(make_env=Walk, slots=3, workers=0, params=None, act=agent_act, horizon_length=1, **options):
    sizes = (2, 2) if make_env is not make_pendulum else (4, 1)
    policies = LanePolicies(actor_of(act, slots), params or init(*sizes), SEEDS, horizon_length)
    with EnvPool(make_env, slots, workers) as pool:
        return evaluate(policies, pool, **({'episodes': 4} | options))
