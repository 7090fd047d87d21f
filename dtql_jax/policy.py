"""Trained policies for use outside training: `load_policy`."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import numpy as np
from absl import logging

from dtql_jax import training
from dtql_jax.agents import AGENTS
from dtql_jax.configs import task_config
from dtql_jax.engine import Lane
from dtql_jax.evaluation import Actor
from dtql_jax.plan import read_run
from dtql_jax.runner import blank_engine
from dtql_jax.types import Params, Spec, UserError

Which = Literal['last', 'best']


class Run:
    """A run folder, read back: its agent, its lanes, and the policies of its newest checkpoint."""

    def __init__(self, run_dir: str | pathlib.Path):
        self.run_dir = pathlib.Path(run_dir)
        self.description = read_run(self.run_dir)
        identity = self.description['identity']
        config = {
            name.removeprefix('config.'): value
            for name, value in identity.items()
            if name.startswith('config.')
        }
        name = identity['agent']
        self.agent = AGENTS[name](Spec(**self.description['spec']), task_config(name, '', config))
        self.lanes = [Lane(**lane) for lane in identity['lanes']]
        engine = blank_engine(self.agent, self.lanes)
        self.progress, self.cursor = training.restore_progress(
            engine, self.run_dir, logging.warning
        )

    def acting(self, which: Which = 'last') -> Params:
        """What `agent.act` reads, for all lanes `[S, ...]`: of the last update or the best."""
        if which not in ('last', 'best'):
            raise UserError(f"which={which!r}: use 'last' or 'best'")
        if which == 'last':
            return jax.vmap(self.agent.acting)(self.progress.state)
        if not np.isfinite(np.asarray(self.progress.best_score)).any():
            raise UserError(f"{self.run_dir} has no evaluation yet: use 'last'")
        return self.progress.best

    def lane(self, seed: int | None, variant: str | None = None) -> int:
        """The index of a seed (None: the first) of a variant (None: the run's own agent)."""
        variant = variant or self.lanes[0].variant
        seeds = [lane.seed for lane in self.lanes if lane.variant == variant]
        if not seeds:
            raise UserError(f'{self.run_dir} has no lanes of {variant!r}')
        if seed is not None and seed not in seeds:
            raise UserError(f'{self.run_dir} has no seed {seed}; there are {seeds}')
        lane = Lane(variant, seeds[0] if seed is None else seed)
        return [(x.variant, x.seed) for x in self.lanes].index((lane.variant, lane.seed))


def load_policy(
    run_dir: str | pathlib.Path,
    seed: int | None = None,
    which: Which = 'last',
    batch: int = 1,
) -> Callable[[np.ndarray], np.ndarray]:
    """The policy of one seed of a run: a function from observations to actions, both numpy.

    The function takes one observation `[O]`, or up to `batch` of them `[B, O]`, and returns `[A]`
    or `[B, A]` inside the box. Policies are stochastic: each call draws anew, in an order that is
    the same in every process. Raises UserError where there is no such run, seed or evaluation.
    """
    run = Run(run_dir)
    lane = run.lane(seed)
    acting = jax.tree.map(lambda x: x[lane : lane + 1], run.acting(which))
    actor = Actor(run.agent.act, batch)
    acting = actor.place(acting)
    calls = 0

    def policy(obs: np.ndarray) -> np.ndarray:
        nonlocal calls
        obs = np.asarray(obs, np.float32)
        many: Sequence[np.ndarray] = obs if obs.ndim == 2 else obs[None]
        n = len(many)
        index = np.arange(n)
        action = actor(
            acting, 0 * index, 0 * index + run.lanes[lane].seed, index, 0 * index + calls, many
        )
        calls += 1
        return action if obs.ndim == 2 else action[0]

    return policy
