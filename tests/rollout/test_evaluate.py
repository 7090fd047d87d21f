import functools

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.rollout.actor import EVAL_TAG, Actor
from dtql_jax.rollout.env_pool import EnvPool
from dtql_jax.rollout.evaluate import evaluate, start_seed
from dtql_jax.rollout.video import record_video
from dtql_jax.types import Stopped, UserError
from tests.helpers.fake_env import BadReward, Walk

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


actor_of = functools.cache(Actor)  # compiles once for all tests that act alike


def run(make_env=Walk, slots=3, workers=0, params=None, act=agent_act, **options):
    sizes = (2, 2) if make_env is not make_pendulum else (4, 1)
    options = {'episodes': 4} | options
    with EnvPool(make_env, slots, workers) as pool:
        return evaluate(actor_of(act, slots), params or init(*sizes), SEEDS, pool, **options)


def assert_same(a, b, rows=slice(None)):
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(a, field)[rows], getattr(b, field)[rows])


@pytest.mark.parametrize('make_env', [Walk, make_pendulum])
def test_slots_and_workers_change_nothing(make_env):
    one = run(make_env, slots=1)
    assert one.returns.shape == (3, 4)
    assert len(np.unique(one.returns)) > 6
    for slots, workers in [(3, 0), (8, 0), (3, 2)]:
        assert_same(one, run(make_env, slots=slots, workers=workers))


def test_larger_blocks_for_accelerators_change_the_rounding_at_most():
    exact = run(slots=8)
    actor = Actor(agent_act, 8)
    actor._block, actor._padded = 3, 9
    with EnvPool(Walk, 8) as pool:
        blocks = evaluate(actor, init(2, 2), SEEDS, pool, episodes=4)
    np.testing.assert_allclose(blocks.returns, exact.returns, rtol=1e-4)


def test_a_rollout_is_what_one_gets_by_hand():
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


def test_lanes_do_not_depend_on_each_other():
    full = run()
    part = run(lanes=[1])
    assert_same(full, part, rows=[1])
    for field in FIELDS:
        assert np.isnan(getattr(part, field)[[0, 2]]).all()
    other = init(2, 2)
    other[0] = other[0].at[0].mul(3)
    assert_same(full, run(params=other), rows=[1, 2])


def test_starts_are_the_same_for_every_training_seed_and_hang_on_the_evaluation_seed():
    def still(params, obs, key):
        return jnp.zeros(2)

    a, b = run(act=still), run(act=still, eval_seed=1)
    assert (a.returns == a.returns[0]).all()
    assert not np.intersect1d(a.returns, b.returns).size
    assert_same(a, run(act=still))


def test_only_dead_lanes_may_have_nans():
    params = init(2, 2)
    params[0] = params[0].at[1].set(jnp.nan)
    with pytest.raises(FloatingPointError, match='action not finite: seed 7, episode 0, step 0'):
        run(params=params)
    assert_same(run(), run(params=params, lanes=[0, 2]), rows=[0, 2])


def test_a_nan_later_in_an_episode_is_named_too():
    def late(params, obs, key):
        return jnp.where(obs[0] > 4, jnp.nan, jnp.ones(2))

    with pytest.raises(FloatingPointError, match=r'seed \d+, episode \d, step [1-9]'):
        run(act=late)


def test_a_reward_that_is_not_finite_is_an_error():
    with pytest.raises(FloatingPointError, match='reward not finite'):
        run(BadReward)


def test_no_lanes_give_an_empty_result():
    rollouts = run(lanes=[])
    assert np.isnan(rollouts.returns).all()
    assert rollouts.env_steps == 0


def test_stops_within_a_step_and_can_run_again():
    asked = iter(range(100))
    with EnvPool(Walk, 3) as pool:
        actor = actor_of(agent_act, 3)
        again = functools.partial(evaluate, actor, init(2, 2), SEEDS, pool, episodes=4)
        with pytest.raises(Stopped):
            again(should_stop=lambda: next(asked) == 5)
        assert next(asked) == 6
        assert_same(run(), again())


def test_one_trace_serves_all_evaluations_and_transfers_are_explicit():
    params = init(2, 2)
    with EnvPool(Walk, 3) as pool, jax.transfer_guard('disallow'):
        actor = Actor(agent_act, 3)
        for lanes in ([0, 1, 2], [2], [0, 1]):
            evaluate(actor, params, SEEDS, pool, episodes=2, lanes=lanes)
    assert actor.traces == 1


def test_counts_steps_and_times():
    rollouts = run()
    assert rollouts.env_steps == rollouts.length.sum()
    assert rollouts.time_act_s > 0
    assert rollouts.time_env_s > 0
    assert rollouts.steps_per_s > 0


def test_more_states_than_slots_are_refused():
    with pytest.raises(ValueError, match='4 states for 3 slots'):
        Actor(agent_act, 3)([], [0] * 4, [0] * 4, [0] * 4, [0] * 4, np.zeros([4, 2]))


def test_films_an_episode(tmp_path):
    frames = functools.partial(record_video, lambda obs: np.full(2, 0.1), Walk(), seed=1)
    total = frames(tmp_path / 'film.gif')
    assert np.isfinite(total)
    from PIL import Image

    with Image.open(tmp_path / 'film.gif') as film:
        assert film.n_frames >= 3
        assert film.info['duration'] == 50


def test_a_film_without_an_encoder_is_the_users_to_mend(tmp_path):
    with pytest.raises(UserError, match='gif'):
        record_video(lambda obs: np.zeros(2), Walk(), tmp_path / 'film.unknown')
