"""Own environment: a class in this script, slow to step, evaluated by worker processes.

python examples/own_env.py

A cart must stop at a goal. Each step sleeps 2 ms, as a slow simulator would, so the evaluation
starts one worker process per core. A worker imports this script again: that registers the
environment there too, and is why the work itself stands under `if __name__ == '__main__'`.
It takes about 30 seconds.
"""

import tempfile
import time

import gymnasium as gym
import numpy as np

import dtql_jax

STEP_SECONDS = 0.002


class Cart(gym.Env):
    """Position and speed on a line; the reward is minus the distance from 0."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = np.array([self.np_random.choice([-1, 1]) * self.np_random.uniform(0.5, 1), 0])
        return self.state.astype(np.float32), {}

    def step(self, action):
        time.sleep(STEP_SECONDS)
        position, speed = self.state
        speed = 0.9 * speed + 0.1 * float(np.clip(action[0], -1, 1))
        self.state = np.array([np.clip(position + 0.3 * speed, -2, 2), speed])
        return self.state.astype(np.float32), -abs(self.state[0]), False, False, {}


# At the top of the script, so that the worker processes run it as well.
gym.register('Cart-v0', entry_point=Cart, max_episode_steps=40)
# The return -40 scores 0 (it stands at 1), the return 0 scores 100 (always at the goal).
TASK = dtql_jax.Task('cart', (), env_id='Cart-v0', score_range=(-40.0, 0.0), eval_episodes=20)


def wander(episodes: int = 100) -> dict[str, np.ndarray]:
    """Random actions, each held for a few steps; one row per step."""
    env, rng, rows = gym.make('Cart-v0'), np.random.default_rng(0), []
    for episode in range(episodes):
        obs, _ = env.reset(seed=episode)
        done, action = False, None
        while not done:
            if action is None or rng.uniform() < 0.2:
                action = rng.uniform(-1, 1, 1).astype(np.float32)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            rows.append((obs, action, reward, terminated, truncated, next_obs))
            obs, done = next_obs, terminated or truncated
    names = ('obs', 'action', 'reward', 'terminal', 'timeout', 'next_obs')
    return dict(zip(names, map(np.array, zip(*rows, strict=True)), strict=True))


def main() -> None:
    dtql_jax.register_task(TASK)
    request = {'env': TASK.name, 'agent': 'iql', 'num_seeds': 2, 'beta': 3.0, 'hidden': 64}
    request |= {'steps': 4000, 'eval_every': 4000, 'batch_size': 128, 'discount': 0.9, 'lr': 3e-3}
    began = time.monotonic()
    data = wander()
    print(f'collected {len(data["reward"]):,} steps in {time.monotonic() - began:.0f} s')
    with tempfile.TemporaryDirectory() as folder:
        result = dtql_jax.run(request, data=data, out=f'{folder}/run')
    print('scores:', result.scores('iql'))


if __name__ == '__main__':
    main()
