"""Collects data of OGBench's cube and scene by OGBench's oracles, as a file of OGBench's format.

  python experiments/studies/hands.py --env=cube-single --kind=play --out=data/cube-single-play.npz
  dtql train --env=cube-single-play-singletask-v0 --dataset_path=data/cube-single-play.npz

An arm is given one random target after another: a cube to carry, in a scene also a button, a drawer
or a window. `play` follows a plan whose noise is correlated over time; `noisy` decides by the
state, with Gaussian noise and one random action in ten. Protocol and numbers are those of OGBench's
`generate_manipspace.py` (seohongpark/ogbench, 1d41409), but for the number of episodes: OGBench's
sets have 1,000.
"""

import importlib
import os
import pathlib
import sys
import time
from typing import Any

import gymnasium as gym
import numpy as np
from absl import flags

from dtql_jax.cli.flags import define_whole, run_command
from dtql_jax.types import UserError

FLAGS = flags.FlagValues()
flags.DEFINE_enum(
    'env', 'cube-single', ['cube-single', 'cube-double', 'scene'], 'environment', FLAGS
)
flags.DEFINE_enum('kind', 'play', ['play', 'noisy'], 'kind of oracle', FLAGS)
define_whole('episodes', 200, 'episodes', FLAGS)
define_whole('length', 1001, 'rows of an episode; the last one has no successor', FLAGS)
define_whole('seed', 0, 'decides every episode', FLAGS)
flags.DEFINE_string('out', None, 'npz file to write', FLAGS)

TARGETS = {'cube': ('cube',), 'scene': ('cube', 'button', 'drawer', 'window')}
KINDS: dict[str, tuple[str, dict[str, float]]] = {
    'play': ('plan', {'noise': 0.1, 'noise_smoothing': 0.5}),
    'noisy': ('markov', {'min_norm': 0.4}),
}
# Of `noisy`: the largest deviation of the noise on an action, by number, and the share of actions
# drawn from the box.
NOISE, RANDOM = 0.1 * np.array([1, 1, 1, 3, 10]), 0.1
# The range of chances that a cube's target lies on another cube.
STACK = {'cube-single': (0.0, 0.0), 'cube-double': (0.0, 0.25), 'scene': (0.5, 0.5)}
DTYPES = {'terminals': bool, 'button_states': np.int64}  # float32 for others


def oracles(env: gym.Env, scene: str, kind: str) -> dict[str, Any]:
    """OGBench's oracle for each kind of target."""
    module, settings = KINDS[kind]
    made = {}
    for target in TARGETS[scene.split('-')[0]]:
        name = f'{target.capitalize()}{module.capitalize()}Oracle'
        source = importlib.import_module(f'ogbench.manipspace.oracles.{module}.{target}_{module}')
        made[target] = getattr(source, name)(env=env, **settings)
    return made


def episode(
    env: Any, agents: dict[str, Any], scene: str, kind: str, rng: np.random.Generator
) -> dict[str, list[Any]]:
    """Plays an episode; returns its rows by the fields of OGBench's files."""
    rows: dict[str, list[Any]] = {'observations': [], 'actions': [], 'terminals': []}
    states = ['qpos', 'qvel'] + ['button_states'] * (scene == 'scene')
    rows |= {name: [] for name in states}
    obs, info = env.reset(seed=int(rng.integers(2**31)))
    env.action_space.seed(int(rng.integers(2**31)))
    stack, noise = rng.uniform(*STACK[scene]), NOISE * rng.uniform()
    agent = agents[info['privileged/target_task']]
    agent.reset(obs, info)
    ended = False
    while not ended:
        if kind == 'noisy' and rng.uniform() < RANDOM:
            action = env.action_space.sample()
        else:
            action = np.asarray(agent.select_action(obs, info))
            if kind == 'noisy':
                action = action + noise * rng.normal(size=action.shape)
        action = np.clip(action, -1, 1)
        before = obs
        obs, _, terminated, truncated, info = env.step(action)
        ended = terminated or truncated
        if agent.done:
            seen, told = env.unwrapped.set_new_target(p_stack=stack)
            agent = agents[told['privileged/target_task']]
            agent.reset(seen, told)
        for name, value in (('observations', before), ('actions', action), ('terminals', ended)):
            rows[name].append(value)
        for name in states:
            rows[name].append(info[f'prev_{name}'])
    return rows


def in_sight(rows: dict[str, list[Any]]) -> bool:
    """Whether the cube of a scene was in reach, or in the drawer, all the time."""
    y, z = np.array(rows['qpos'])[:, 15:17].T
    lost_left = (y <= -0.3) & ((z < 0.06) | (z > 0.08))
    return not (lost_left | (y >= 0.29)).any()


def main(asked: flags.FlagValues) -> None:
    if asked.out is None:
        raise UserError('--out: name the npz file to write')
    out = pathlib.Path(asked.out)
    if out.exists():
        raise UserError(f'--out={out} exists and is never overwritten: name another file')
    # The name registers the environment.
    made = f'ogbench:{asked.env}-v0'
    env = gym.make(
        made, terminate_at_goal=False, mode='data_collection', max_episode_steps=asked.length
    )
    agents = oracles(env, asked.env, asked.kind)
    np.random.seed(asked.seed)  # noqa: NPY002 (the oracles draw from it)
    rng = np.random.default_rng(asked.seed)
    began, kept = time.perf_counter(), []
    while len(kept) < asked.episodes:
        rows = episode(env, agents, asked.env, asked.kind, rng)
        if asked.env != 'scene' or in_sight(rows):
            kept.append({k: np.array(v, DTYPES.get(k, np.float32)) for k, v in rows.items()})
            if len(kept) % 10 == 0:
                rate = len(kept) * asked.length / (time.perf_counter() - began)
                print(f'{len(kept)}/{asked.episodes} episodes, {rate:,.0f} steps/s', flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f'.{out.name}.{os.getpid()}.npz')
    np.savez_compressed(part, **{k: np.concatenate([rows[k] for rows in kept]) for k in kept[0]})
    part.rename(out)
    print(f'{out}: {asked.episodes * asked.length:,} rows')


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
