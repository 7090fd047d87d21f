import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.rollout.actor import EVAL_TAG, Actor
from dtql_jax.rollout.env_pool import EnvPool
from dtql_jax.rollout.evaluate import LanePolicies, evaluate
from tests.helpers.fake_env import Walk
from tests.helpers.rollouts import SEEDS, agent_act, init, run

pytestmark = pytest.mark.usefixtures('quick_compile')


def test_Actor__larger_blocks_for_accelerators_change_the_rounding_at_most():
    exact = run(slots=8)
    actor = Actor(agent_act, 8)
    actor._block, actor._padded = 3, 9
    with EnvPool(Walk, 8) as pool:
        blocks = evaluate(LanePolicies(actor, init(2, 2), SEEDS), pool, episodes=4)
    np.testing.assert_allclose(blocks.returns, exact.returns, rtol=1e-4)


def test_Actor__one_lane_of_an_accelerator_gathers_no_weights():
    params, obs = init(2, 2, lanes=1), np.ones((2, 2), np.float32)
    indices = [0, 0], [3, 3], [0, 1], [0, 0]
    exact = Actor(agent_act, 2)
    expected = exact(exact.to_device(params), *indices, obs)
    actor = Actor(agent_act, 2)
    actor._block = actor._padded = 2
    words = jnp.zeros((4, 2), jnp.uint32), jnp.asarray(obs), jnp.int32(2)
    for lanes, batched in ((1, False), (3, True)):
        text = str(jax.make_jaxpr(actor._act_on_blocks)(init(2, 2, lanes), *words))
        assert ('(([1], [1]), ([0], [0]))' in text) == batched
    np.testing.assert_allclose(actor(params, *indices, obs), expected, rtol=1e-4, atol=1e-6)


def test_Actor__one_trace_serves_all_evaluations_and_transfers_are_explicit():
    params, traces, first = init(2, 2), [], 0

    def counted(*args):
        traces.append(args)
        return agent_act(*args)

    with EnvPool(Walk, 3) as pool, jax.transfer_guard('disallow'):
        actor = Actor(counted, 3)
        for lanes in ([0, 1, 2], [2], [0, 1]):
            evaluate(LanePolicies(actor, params, SEEDS), pool, episodes=2, lanes=lanes)
            first = first or len(traces)
    assert len(traces) == first
    assert actor._jitted._cache_size() == 1


def test_Actor__refuses_more_states_than_slots():
    with pytest.raises(ValueError, match='4 states for 3 slots'):
        Actor(agent_act, 3)([], [0] * 4, [0] * 4, [0] * 4, [0] * 4, np.zeros([4, 2]))


def test_Actor__acts_by_the_lane_and_the_key_of_each_state():
    actor, params = Actor(agent_act, 4), init(2, 2)
    lane, seed, episode, step = [2, 0, 2], [3, 11, 3], [0, 5, 0], [7, 1, 8]
    obs = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    actions = actor(actor.to_device(params), lane, seed, episode, step, obs)
    assert actions.shape == (3, 2)
    assert actions.flags.writeable
    for i, parts in enumerate(zip(seed, episode, step, strict=True)):
        key = jax.random.key(EVAL_TAG)
        for part in parts:
            key = jax.random.fold_in(key, part)
        expected = agent_act([leaf[lane[i]] for leaf in params], obs[i], key)
        np.testing.assert_allclose(actions[i], expected, rtol=1e-5)
