"""A trained policy as the behaviour: it acts as `load_policy` does, with keys of its own."""

import dataclasses

import jax
import numpy as np
import pytest

import dtql_jax
from dtql_jax.rollout.actor import EVAL_TAG
from dtql_jax.runs.policy import trained_behaviour
from dtql_jax.tasks.env import make_env
from dtql_jax.types import Spec
from tests.helpers.tiny_run import train_tiny_run

pytestmark = [pytest.mark.usefixtures('quick_compile'), pytest.mark.slow]


@pytest.fixture(scope='module')
def run_dir(tmp_path_factory, quick_compile):
    return train_tiny_run(tmp_path_factory.mktemp('run'))


class Draws:
    """An agent that acts at random."""

    spec = Spec(4, 2)

    def precise(self, function):
        return function

    def behave(self, acting, obs, key):
        return jax.random.normal(key, (self.spec.action_dim,))


def test_Trained_open__acts_as_load_policy_does(run_dir):
    """On the simulator's own observations; IQL's draws nothing."""
    behaviour = trained_behaviour(run_dir, 0.0)
    env, policy = behaviour.open()
    obs, _ = env.reset(seed=1)
    flat, _ = make_env(behaviour.task).reset(seed=1)
    policy.begin(obs, np.random.default_rng(0))
    np.testing.assert_array_equal(policy.act(obs), dtql_jax.load_policy(run_dir)(flat), strict=True)


def test_Trained_open__each_step_of_each_episode_has_a_key_of_its_own(run_dir):
    behaviour = dataclasses.replace(trained_behaviour(run_dir, 0.0), agent=Draws())
    env, policy = behaviour.open()
    obs, _ = env.reset(seed=0)

    def episode(seed):
        policy.begin(obs, np.random.default_rng(seed))
        return [policy.act(obs) for _ in range(5)]

    first, other, again = episode(0), episode(1), episode(0)
    np.testing.assert_array_equal(first, again)
    assert len(np.unique([*first, *other], axis=0)) == 10


def test_Trained_open__plays_a_chunk_to_its_end_and_forgets_it_with_the_episode(run_dir):
    agent = Draws()
    agent.spec = Spec(4, 6, horizon_length=3)
    behaviour = dataclasses.replace(trained_behaviour(run_dir, 0.0), agent=agent)
    env, policy = behaviour.open()
    obs, _ = env.reset(seed=0)

    def chunk(seed, step):
        key = jax.random.key(EVAL_TAG)
        for part in (int(np.random.default_rng(seed).integers(2**32)), 0, step):
            key = jax.random.fold_in(key, np.uint32(part))
        return jax.random.normal(key, (3, 2))

    policy.begin(obs, np.random.default_rng(0))
    acted = [policy.act(obs) for _ in range(5)]
    np.testing.assert_allclose(acted, [*chunk(0, 0), *chunk(0, 3)[:2]], rtol=1e-6)
    policy.begin(obs, np.random.default_rng(1))
    np.testing.assert_allclose(policy.act(obs), chunk(1, 0)[0], rtol=1e-6)


def test_Trained_settings__tell_the_policy_and_its_digest(run_dir):
    told = trained_behaviour(run_dir, 0.0).settings()
    assert told['policy'] == 'iql seed 0 at update 2'
    assert len(told['policy_sha256']) == 64
