"""Episodes of a simulator are functions of their seed."""

import numpy as np

from dtql_jax.tasks.env import make_env


def rollout(env, seed, steps=5):
    """The observations of a few random steps, `[steps + 1, O]`."""
    draw = np.random.default_rng(0)
    seen = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        seen.append(env.step(draw.uniform(-1, 1, env.action_space.shape).astype(np.float32))[0])
    return np.array(seen)


def assert_seeded(task):
    """Equal seeds give equal episodes, in one environment and in a new one; others differ."""
    env = make_env(task)
    once, again, other = rollout(env, 3), rollout(env, 3), rollout(env, 4)
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)
    np.testing.assert_array_equal(once, rollout(make_env(task), 3))
