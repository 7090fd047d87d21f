"""Recorded episodes for replay.py: of Minari sets, of OGBench's files, or made on the spot."""

import contextlib
import dataclasses
import io
import os
import pathlib
import tempfile
from collections.abc import Iterator
from unittest import mock

import gymnasium as gym
import numpy as np
from rebuild import flat, physics

from dtql_jax.collect.write import collect_pointmaze
from dtql_jax.tasks.registry import TASKS

EPISODES = 40  # read per dataset, spread over it


@dataclasses.dataclass
class Episode:
    """What was recorded: `obs` `[T + 1, O]`, `action` `[T, A]`, and `state` `[T, S]`, from which
    the simulator's state is rebuilt: the observations, where nothing more is there.
    """

    obs: np.ndarray
    action: np.ndarray
    state: np.ndarray


def spread(count: int, wanted: int) -> list[int]:
    """Up to `wanted` of the numbers below `count`, evenly apart."""
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).astype(int)).tolist()


def minari(root: str | None, name: str) -> Iterator[Episode] | None:
    """Episodes of a Minari set, None where it is absent."""
    folder = pathlib.Path(root or '', name, 'data')
    return _minari(folder) if root and folder.is_dir() else None


def _minari(folder: pathlib.Path) -> Iterator[Episode]:
    from minari import MinariDataset

    dataset = MinariDataset(folder)
    for episode in dataset.iterate_episodes(spread(dataset.total_episodes, EPISODES)):
        obs = flat(episode.observations)
        yield Episode(obs, episode.actions, obs[:-1])


def ogbench(folder: str | None, name: str) -> Iterator[Episode] | None:
    """Episodes of an OGBench file, states from its positions and velocities; None: absent."""
    path = pathlib.Path(folder or '', f'{name}.npz')
    return _ogbench(path) if folder and path.is_file() else None


def _ogbench(path: pathlib.Path) -> Iterator[Episode]:
    with np.load(path) as file:
        data = {k: file[k] for k in ('observations', 'actions', 'terminals', 'qpos', 'qvel')}
    ends = [0, *(np.flatnonzero(data['terminals']) + 1)]
    for i in spread(len(ends) - 1, EPISODES):
        rows = slice(ends[i], ends[i + 1])
        state = np.concatenate([data['qpos'][rows], data['qvel'][rows]], axis=1)
        yield Episode(data['observations'][rows], data['actions'][rows][:-1], state[:-1])


def wandering() -> list[Episode]:
    """A pointmaze set, collected for the occasion; the folder of all its files is removed."""
    with (
        tempfile.TemporaryDirectory() as root,
        mock.patch.object(tempfile, 'tempdir', root),
        mock.patch.dict(os.environ, MINARI_DATASETS_PATH=root),
        contextlib.redirect_stdout(io.StringIO()),  # it tells the folder's name
    ):
        folder = collect_pointmaze(TASKS['pointmaze-umaze'], steps=6000)
        return list(_minari(folder / 'data'))


def rollout(env: gym.Env, family: str, rows: int) -> Iterator[Episode]:
    """Random actions, `rows` of them, recorded as datasets are, in float32."""
    rng, sim, done = np.random.default_rng(0), physics(env), 0
    while done < rows:
        obs, ended = [flat(env.reset(seed=done)[0])], False
        actions, states = [], []
        while not ended and len(actions) < 100:
            states.append(np.concatenate([sim.data.qpos, sim.data.qvel]))
            actions.append(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))
            after, _, terminated, truncated, _ = env.step(actions[-1])
            obs.append(flat(after))
            ended = terminated or truncated
        done += len(actions)
        obs = np.array(obs, np.float32)
        state = np.array(states, np.float32) if family in ('all', 'lagging') else obs[:-1]
        yield Episode(obs, np.array(actions), state)
