"""Collecting with a policy that this package trained, in its task's evaluation environment."""

import dataclasses
import hashlib
from typing import Any

import gymnasium as gym
import jax
import numpy as np
from gymnasium.envs.registration import EnvSpec

from dtql_jax.agents.base import Agent
from dtql_jax.collect.base import Behaviour, evaluation_spec
from dtql_jax.rollout.actor import Actor
from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.spaces import flatten, leaf_paths
from dtql_jax.training.compilation import start_jax
from dtql_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Trained(Behaviour):
    """A copy of a run's policy, which further training of the run does not change."""

    agent: Agent = dataclasses.field(kw_only=True)
    acting: Params = dataclasses.field(kw_only=True)  # what `agent.act` reads, numpy `[1, ...]`
    origin: str = dataclasses.field(kw_only=True)  # names the policy for the set's description

    algorithm = 'trained policy of dtql_jax'

    @property
    def description(self) -> str:
        return (
            f"{self.origin}, trained by dtql_jax on {self.task.name}, in the task's environment of "
            f'evaluation, with Gaussian noise of deviation {self.noise:g} on its actions.'
        )

    def settings(self) -> dict[str, Any]:
        digest = hashlib.sha256(repr(self.task).encode())
        for leaf in jax.tree.leaves(self.acting):
            digest.update(leaf.tobytes())
        if self.agent.spec.obs_mean:
            digest.update(repr(self.agent.spec).encode())
        return {'policy': self.origin, 'policy_sha256': digest.hexdigest()}

    def env_spec(self) -> EnvSpec:
        return evaluation_spec(self.task)

    def open(self) -> tuple[gym.Env, '_TrainedController']:
        env = make_env(self.task, flat=False)
        paths = leaf_paths(env.observation_space, self.task.observed_keys)
        return env, _TrainedController(self, paths)


class _TrainedController:
    """Acts with a random key for each episode, folded with the step; plays chunks to their end."""

    def __init__(self, behaviour: Trained, paths: list[tuple[str, ...]]):
        start_jax()
        self._actor = Actor(behaviour.agent.precise(behaviour.agent.behave), 1)
        self._acting = self._actor.to_device(behaviour.acting)
        self._horizon_length = behaviour.agent.spec.horizon_length
        self._paths = paths

    def begin(self, obs: Any, rng: np.random.Generator) -> None:
        self._key, self._step = int(rng.integers(2**32)), 0
        self._planned: list[np.ndarray] = []

    def act(self, obs: Any) -> np.ndarray:
        if not self._planned:
            flat = flatten(obs, self._paths)[None]
            chunk = self._actor(self._acting, [0], [self._key], [0], [self._step], flat)[0]
            self._planned = list(chunk.reshape(self._horizon_length, -1))
        self._step += 1
        return self._planned.pop(0)
