"""Own data: arrays that this script makes, and a task of your own to train and evaluate on.

python examples/own_data.py

The data are 100 episodes of Pendulum-v1, played by a controller of varying skill. IQL learns from
them and should score above their mean. It takes about 30 seconds.
"""

import tempfile

import gymnasium as gym
import numpy as np

import dtql_jax

# A score of 0 is the return -1600, about that of random torques; 100 is the return -150, about
# that of a good controller. The data come as arrays, so the task names no dataset.
TASK = dtql_jax.Task(
    'my-pendulum', (), env_id='Pendulum-v1', score_range=(-1600.0, -150.0), eval_episodes=20
)
SMALL = {'hidden': 64, 'batch_size': 128, 'steps': 6000, 'eval_every': 3000}


def swings(episodes: int = 100) -> dict[str, np.ndarray]:
    """Episodes of a controller whose noise differs between episodes; one row per step."""
    env, rng, rows = gym.make(TASK.env_id), np.random.default_rng(0), []
    for episode in range(episodes):
        obs, _ = env.reset(seed=episode)
        skill, done = rng.uniform(high=0.8), False
        while not done:
            cos, sin, speed = obs
            energy = 0.5 * speed**2 + 15 * (cos - 1)  # 0 when it stands upright
            upright = cos > 0.9
            torque = -15 * sin - 3 * speed if upright else -0.5 * np.sign(speed) * energy
            noisy = skill * torque + (1 - skill) * rng.normal(scale=4)
            action = np.clip([noisy], -2, 2).astype(np.float32)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            rows.append((obs, action, reward, terminated, truncated, next_obs))
            obs, done = next_obs, terminated or truncated
    names = ('obs', 'action', 'reward', 'terminal', 'timeout', 'next_obs')
    return dict(zip(names, map(np.array, zip(*rows, strict=True)), strict=True))


def main() -> None:
    dtql_jax.register_task(TASK)
    request = {'env': TASK.name, 'agent': 'iql', 'num_seeds': 2, 'beta': 0.03, 'discount': 0.95}
    with tempfile.TemporaryDirectory() as folder:
        result = dtql_jax.run({**request, **SMALL}, data=swings(), out=f'{folder}/run')
        policy = dtql_jax.load_policy(result.run_dir, seed=0)
        print('torque when it hangs still:', policy(np.array([-1.0, 0.0, 0.0])))


if __name__ == '__main__':
    main()
