import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.rollout.actor import EVAL_TAG
from dtql_jax.rollout.env_pool import EnvPool
from dtql_jax.rollout.evaluate import LanePolicies, evaluate, start_seed
from dtql_jax.types import Stopped
from tests.helpers.fake_env import BadReward, Walk
from tests.helpers.rollouts import (
    FIELDS,
    SEEDS,
    actor_of,
    agent_act,
    init,
    make_pendulum,
    run,
)


def assert_same(a, b, rows=slice(None)):
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(a, field)[rows], getattr(b, field)[rows])


@pytest.mark.parametrize('make_env', [Walk, make_pendulum])
def test_evaluate__slots_and_workers_change_nothing(make_env):
    one = run(make_env, slots=1)
    assert one.returns.shape == (3, 4)
    assert len(np.unique(one.returns)) > 6
    for slots, workers in [(3, 0), (8, 0), (3, 2)]:
        assert_same(one, run(make_env, slots=slots, workers=workers))


def test_evaluate__is_what_one_gets_by_hand():
    """One episode stepped alone, with keys and start written out."""
    lane, episode = 1, 2
    params = [leaf[lane] for leaf in init(2, 2)]
    env = Walk()
    obs, _ = env.reset(seed=start_seed(5, episode))
    total, length, succeeded, done = 0.0, 0, False, False
    while not done:
        key = jax.random.key(EVAL_TAG)
        for part in (SEEDS[lane], episode, length):
            key = jax.random.fold_in(key, part)
        action = np.asarray(agent_act(params, obs.astype(np.float32), key))
        obs, reward, terminated, truncated, info = env.step(action)
        total, length, succeeded = total + reward, length + 1, succeeded or info['success']
        done = terminated or truncated
    rollouts = run(eval_seed=5)
    assert rollouts.returns[lane, episode] == pytest.approx(total, rel=1e-4)
    assert rollouts.length[lane, episode] == length
    assert rollouts.success[lane, episode] == succeeded


def test_evaluate__lanes_do_not_depend_on_each_other():
    full = run()
    part = run(lanes=[1])
    assert_same(full, part, rows=[1])
    for field in FIELDS:
        assert np.isnan(getattr(part, field)[[0, 2]]).all()
    other = init(2, 2)
    other[0] = other[0].at[0].mul(3)
    assert_same(full, run(params=other), rows=[1, 2])


def test_start_seed__depends_on_the_evaluation_seed_and_not_on_the_training_seed():
    def still(params, obs, key):
        return jnp.zeros(2)

    a, b = run(act=still), run(act=still, eval_seed=1)
    assert (a.returns == a.returns[0]).all()
    assert not np.intersect1d(a.returns, b.returns).size
    assert_same(a, run(act=still))


def test_evaluate__only_dead_lanes_may_have_nans():
    params = init(2, 2)
    params[0] = params[0].at[1].set(jnp.nan)
    with pytest.raises(FloatingPointError, match='action not finite: seed 7, episode 0, step 0'):
        run(params=params)
    assert_same(run(), run(params=params, lanes=[0, 2]), rows=[0, 2])


def test_evaluate__names_a_nan_later_in_an_episode():
    def late(params, obs, key):
        return jnp.where(obs[0] > 4, jnp.nan, jnp.ones(2))

    with pytest.raises(FloatingPointError, match=r'seed \d+, episode \d, step [1-9]'):
        run(act=late)


def test_evaluate__names_a_reward_that_is_not_finite():
    with pytest.raises(FloatingPointError, match='reward not finite'):
        run(BadReward)


def test_evaluate__no_lanes_give_an_empty_result():
    rollouts = run(lanes=[])
    assert np.isnan(rollouts.returns).all()
    assert rollouts.env_steps == 0


def test_evaluate__stops_within_a_step_and_can_run_again():
    asked = iter(range(100))
    with EnvPool(Walk, 3) as pool:
        policies = LanePolicies(actor_of(agent_act, 3), init(2, 2), SEEDS)
        again = functools.partial(evaluate, policies, pool, episodes=4)
        with pytest.raises(Stopped):
            again(should_stop=lambda: next(asked) == 5)
        assert next(asked) == 6
        assert_same(run(), again())


def test_Rollouts__counts_steps_and_times():
    rollouts = run()
    assert rollouts.env_steps == rollouts.length.sum()
    assert rollouts.time_act_s > 0
    assert rollouts.time_env_s > 0
    assert rollouts.steps_per_s > 0
