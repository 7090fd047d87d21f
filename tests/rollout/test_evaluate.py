import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.rollout.actor import EVAL_TAG
from dtql_jax.rollout.env_pool import EnvPool
from dtql_jax.rollout.evaluate import LanePolicies, evaluate, start_seed
from dtql_jax.types import Stopped
from tests.helpers import fake_env
from tests.helpers.fake_env import Walk
from tests.helpers.rollouts import (
    FIELDS,
    SEEDS,
    actor_of,
    agent_act,
    chunk_act,
    init,
    make_pendulum,
    run,
)

pytestmark = pytest.mark.usefixtures('quick_compile')


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


def test_evaluate__a_chunk_is_played_without_a_look_between():
    """As above: three actions to a key, that of the step at which they were chosen."""
    lane, episode = 2, 1
    params = [leaf[lane] for leaf in init(2, 2)]
    env = Walk()
    obs, _ = env.reset(seed=start_seed(0, episode))
    total, length, planned, done = 0.0, 0, [], False
    while not done:
        if length % 3 == 0:
            key = jax.random.key(EVAL_TAG)
            for part in (SEEDS[lane], episode, length):
                key = jax.random.fold_in(key, part)
            planned = np.asarray(chunk_act(params, obs.astype(np.float32), key)).reshape(3, 2)
        obs, reward, terminated, truncated, _ = env.step(planned[length % 3])
        total, length = total + reward, length + 1
        done = terminated or truncated
    rollouts = run(act=chunk_act, horizon_length=3)
    assert rollouts.returns[lane, episode] == pytest.approx(total, rel=1e-4)
    assert rollouts.length[lane, episode] == length
    assert (rollouts.length % 3 > 0).any()  # an end within a chunk
    np.testing.assert_array_equal(rollouts.length, run().length)  # steps, not chunks
    for slots, workers in [(1, 0), (8, 0), (3, 2)]:
        assert_same(rollouts, run(act=chunk_act, horizon_length=3, slots=slots, workers=workers))


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


def assert_failed(rollouts, lane, reason):
    """The lane has a reason and no numbers."""
    assert re.fullmatch(reason, rollouts.failed[lane])
    for field in FIELDS:
        assert np.isnan(getattr(rollouts, field)[lane]).all()


@pytest.mark.parametrize(('slots', 'workers'), [(1, 0), (3, 0), (8, 0), (3, 2)])
def test_evaluate__a_lane_with_nans_fails_and_the_others_do_not_notice(slots, workers):
    params = init(2, 2)
    params[0] = params[0].at[1].set(jnp.nan)
    rollouts = run(params=params, slots=slots, workers=workers)
    assert_failed(rollouts, 1, 'action not finite: seed 7, episode 0, step 0')
    assert list(rollouts.failed) == [1]
    assert_same(run(), rollouts, rows=[0, 2])


def late(params, obs, key):
    return jnp.where(obs[0] > 1.5, jnp.nan, agent_act(params, obs, key))


def test_evaluate__the_first_episode_that_fails_is_told_whatever_runs_beside_it():
    reasons = [run(act=late, slots=slots, episodes=6).failed for slots in (1, 3, 8)]
    assert reasons[0] == reasons[1] == reasons[2]
    assert reasons[0]
    for reason in reasons[0].values():
        assert re.fullmatch(r'action not finite: seed \d+, episode \d, step \d+', reason)


@pytest.mark.parametrize(('make_env', 'reason'), [
    (fake_env.BadReward, 'reward not finite'),
    (fake_env.NoReward, 'the simulator failed, its step failed: TypeError: .*NoneType.*'),
    (fake_env.BadObs, 'observation not finite'),
    (fake_env.HugeObs, 'observation not finite'),
    (fake_env.OtherShape, 'the simulator failed, its step failed: .* of shape .3,., in a space.*'),
    (fake_env.Leaving, 'the simulator failed, its step failed: SystemExit: 7'),
    (fake_env.Unstartable, 'the simulator failed, its reset failed: ValueError: no start'),
    (fake_env.Vague, 'the simulator failed, its step failed: ValueError: .*'),
])  # fmt: skip
@pytest.mark.parametrize('workers', [0, 2])
def test_evaluate__a_simulator_that_errs_fails_the_lanes_that_it_plays(make_env, reason, workers):
    rollouts = run(make_env, workers=workers)
    for lane, seed in enumerate(SEEDS):
        assert_failed(rollouts, lane, rf'{reason}: seed {seed}, episode 0, step \d')


def test_evaluate__a_simulator_that_raises_for_one_lane_fails_that_lane():
    params = init(2, 2)
    params[1] = params[1].at[2].set(50.0)  # the actions of the last lane
    rollouts = run(fake_env.Broken, params=params, act=stretched, workers=0)
    assert_failed(rollouts, 2, r'.* failed: ValueError: the joint broke: seed 3, episode 0, .*')
    assert_same(run(act=stretched), rollouts, rows=[0, 1])


def stretched(params, obs, key):
    """Beyond 1 for large weights."""
    return 1.0001 * agent_act([params[0], jnp.abs(params[1])], jnp.abs(obs), key).clip(-1, 1)


@pytest.mark.parametrize(('make_env', 'known'), [
    (fake_env.IsSuccess, True), (fake_env.ArraySuccess, True), (fake_env.SaysNothing, False),
    (fake_env.NoInfo, False),
])  # fmt: skip
def test_evaluate__success_has_two_names_and_is_unknown_without_them(make_env, known):
    expected, rollouts = run(), run(make_env)
    np.testing.assert_array_equal(rollouts.returns, expected.returns)
    if known:
        np.testing.assert_array_equal(rollouts.success, expected.success)
    else:
        assert np.isnan(rollouts.success).all()


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
