"""Runs of the toys that go on in an environment: 6 and 12 updates on data, then 10 there."""

import contextlib

import gymnasium
import numpy as np

from dtql_jax.rollout.env_pool import EnvPool
from dtql_jax.rollout.explorer import Explorer
from dtql_jax.training.online import Online
from tests.helpers import toy, toy_run
from tests.helpers.fake_env import Walk

BEGINS, ENDS = 18, 28


class Walk3(Walk):
    """A walk that also tells how many steps are left."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,))

    def reset(self, *, seed=None, options=None):
        obs, info = super().reset(seed=seed)
        return np.append(obs, self.left), info

    def step(self, action):
        obs, *rest = super().step(action)
        return np.append(obs, self.left), *rest


class Failing(Walk3):
    """Raises at the fourth step of its life."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 4:
            raise ValueError('the joint broke')
        return super().step(action)


class Forgetful(Walk3):
    """Its walks do not repeat."""

    lives = 0

    def reset(self, *, seed=None, options=None):
        Forgetful.lives += 1
        return super().reset(seed=Forgetful.lives)


def halved(reward):
    """A transform of rewards."""
    return reward / 2


def engine(lanes, one_by_one=None, agent=toy.Toy, **settings):
    """An engine of lanes that go on in the environment; an evaluation every 4 updates."""
    return toy.engine(lanes, None, agent, one_by_one, online_steps=10, **settings)


@contextlib.contextmanager
def trainer(folder, engine, make_env=Walk3, **options):
    """A `Trainer` of a run in `folder`, with an environment for each lane."""
    made = toy_run.trainer(folder, engine, **options)
    with EnvPool(make_env, len(engine.lanes)) as pool:
        columns = dict.fromkeys(engine.agent.columns, False)
        explorer = Explorer(engine.agent, engine.lanes, pool, halved, columns, made.report.warn)
        made.online = Online(engine, explorer)
        yield made
