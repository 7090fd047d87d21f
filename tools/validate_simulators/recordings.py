"""Recorded episodes for replay.py, from Minari sets, OGBench's files, or made on the spot."""

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Iterator
from unittest import mock

import gymnasium as gym
import numpy as np

from dtql_jax.collect.wander import Wander
from dtql_jax.collect.write import collect
from dtql_jax.tasks.registry import TASKS
from tools.validate_simulators.rebuild import flat, physics

EPISODES = 40  # read per dataset, spread over it


@dataclasses.dataclass
class Episode:
    """Observations `[T + 1, O]`, actions `[T, A]`, and the rows `[T, S]` to rebuild states from.

    `state` holds the observations where nothing more is recorded.
    """

    obs: np.ndarray
    action: np.ndarray
    state: np.ndarray


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` of the numbers below `count`, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).astype(int)).tolist()


def minari(root: str | None, name: str) -> Iterator[Episode] | None:
    """Episodes of a Minari set; None if it is absent."""
    folder = pathlib.Path(root or '', name, 'data')
    return _minari(folder) if root and folder.is_dir() else None


def _minari(folder: pathlib.Path) -> Iterator[Episode]:
    from minari import MinariDataset

    dataset = MinariDataset(folder)
    for episode in dataset.iterate_episodes(spread(dataset.total_episodes, EPISODES)):
        obs = flat(episode.observations)
        yield Episode(obs, episode.actions, obs[:-1])


def ogbench(folder: str | None, name: str) -> Iterator[Episode] | None:
    """Episodes of an OGBench file, with its positions and velocities; None if it is absent."""
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
    """Episodes of a pointmaze set that is collected for this call and removed."""
    with (
        tempfile.TemporaryDirectory() as root,
        mock.patch.object(tempfile, 'tempdir', root),
        mock.patch.dict(os.environ, MINARI_DATASETS_PATH=root),
    ):
        collected = collect(Wander(TASKS['pointmaze-umaze']), 'validate/wandering-v0', steps=6000)
        assert collected is not None  # the folder is new
        return list(_minari(collected.path / 'data'))


def rollout(env: gym.Env, family: str, rows: int) -> Iterator[Episode]:
    """Episodes of random actions, at least `rows` in all, in float32 as datasets are."""
    rng, sim, done = np.random.default_rng(0), physics(env), 0
    shape = env.action_space.shape
    while done < rows:
        shown, ended = [flat(env.reset(seed=done)[0])], False
        actions: list[np.ndarray] = []
        states: list[np.ndarray] = []
        while not ended and len(actions) < 100:
            states.append(np.concatenate([sim.data.qpos, sim.data.qvel]))
            actions.append(rng.uniform(-1, 1, shape).astype(np.float32))
            after, _, terminated, truncated, _ = env.step(actions[-1])
            shown.append(flat(after))
            ended = terminated or truncated
        done += len(actions)
        obs = np.array(shown, np.float32)
        state = np.array(states, np.float32) if family in ('all', 'lagging') else obs[:-1]
        yield Episode(obs, np.array(actions), state)
