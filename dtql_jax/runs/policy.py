"""Trained policies for use outside training: `load_policy`."""

import pathlib
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import numpy as np
from absl import logging

from dtql_jax.agents.base import Agent
from dtql_jax.agents.registry import find_agent, task_config
from dtql_jax.collect.trained import Trained
from dtql_jax.data.columns import one_row
from dtql_jax.rollout.actor import Actor
from dtql_jax.runs.folder import check_settings, read_run, restore_agent, task_of_run
from dtql_jax.tasks.env import check_env
from dtql_jax.training.compilation import own_numbers, start_jax
from dtql_jax.training.engine import Engine
from dtql_jax.training.progress import restore_progress
from dtql_jax.types import Lane, Params, Spec, UserError, lasting_path, machine_told

Which = Literal['last', 'best']


class Run:
    """A run folder, read back: its task, agent, lanes, and the policies of its checkpoint.

    Args:
        run_dir: the folder.

    Raises:
        UserError: it is no run folder, or its agent or a checkpoint cannot be found.
    """

    def __init__(self, run_dir: str | pathlib.Path):
        self.run_dir = lasting_path('run_dir', run_dir)
        self.description: dict[str, Any] = read_run(self.run_dir)
        self.agent = self._agent()
        self.lanes = [Lane(**lane) for lane in self.description['identity']['lanes']]
        self.task = task_of_run(self.description)
        start_jax()
        row = one_row(self.agent.spec, self.agent.columns)
        engine = Engine(self.agent, row, self.lanes, devices=jax.local_devices()[:1])
        self.progress, self.cursor = restore_progress(
            engine, self.run_dir, logging.warning, trains=False
        )

    def _agent(self) -> Agent:
        """The agent as it was trained."""
        name = self.description['request']['agent']
        try:
            restore_agent(self.description)
            check_settings(self.description)
            config = task_config(name, (), self.description['identity']['config'])
        except UserError as error:
            raise UserError(f'{self.run_dir}: {error}') from None
        return find_agent(name).agent(Spec(**self.description['spec']), config)

    @own_numbers()
    def acting(self, which: Which = 'last') -> Params:
        """The policies of all lanes, as `agent.act` reads them, `[S, ...]`.

        Args:
            which: 'last' for those of the last update, 'best' for those of the best evaluation.
        """
        if which not in get_args(Which):
            raise UserError(f"`which`={which!r}: use 'last' or 'best'")
        if which == 'last':
            return jax.vmap(self.agent.acting)(self.progress.state)
        return self.progress.best

    def missing(self, lane: int, which: Which) -> str | None:
        """The reason why a lane has no such policy; None where it has one."""
        name = f'{self.lanes[lane].variant} seed {self.lanes[lane].seed}'
        diverged = self.cursor.diverged.get(str(lane))
        if which == 'best' and not np.isfinite(np.asarray(self.progress.best_score)[lane]):
            return f"{name} has no evaluation, so no best policy: use 'last'"
        if which == 'last' and diverged is not None:
            return f"{name} diverged at update {diverged:,}: use 'best', if it was evaluated before"
        return None

    def step(self, lane: int, which: Which) -> int:
        """The update at which a lane had such a policy."""
        return int(self.progress.best_step[lane]) if which == 'best' else self.cursor.step

    def lane(self, seed: int | None, variant: str | None = None) -> int:
        """The index of the lane of a seed (None: the first) of a variant (None: the first)."""
        variants = list(dict.fromkeys(lane.variant for lane in self.lanes))
        variant = variant or variants[0]
        if variant not in variants:
            raise UserError(
                f'{self.run_dir} has no variant {variant!r}; there are: {", ".join(variants)}'
            )
        seeds = {lane.seed: i for i, lane in enumerate(self.lanes) if lane.variant == variant}
        if seed is not None and seed not in seeds:
            known = ', '.join(map(str, seeds))
            raise UserError(f'{self.run_dir} has no seed {seed} of {variant}; there are: {known}')
        return seeds[next(iter(seeds)) if seed is None else seed]


@machine_told()
def load_policy(
    run_dir: str | pathlib.Path,
    seed: int | None = None,
    which: Which = 'last',
    batch: int = 1,
    variant: str | None = None,
) -> Callable[[np.ndarray], np.ndarray]:
    """The policy of one seed of a run, as a function from observations to actions.

    A policy is stochastic: each call draws anew, in an order that is the same in every process.

    Args:
        run_dir: the folder of the run, finished or stopped.
        seed: the seed; the first one without.
        which: 'last' for the policy of the last update, 'best' for that of the best evaluation.
        batch: the largest number of observations that one call may have.
        variant: the label of the lanes: a variant of the run, or 'clone'; the first without.

    Returns:
        A function of numpy arrays: one observation `[O]` to an action `[A]` inside the box, or
        `[B, O]` to `[B, A]`. With `horizon_length` h above 1 it returns the h actions to play
        before it is asked again, `[h, A]` or `[B, h, A]`. It raises UserError for observations of
        another shape.

    Raises:
        UserError: there is no such run, seed, variant or evaluation, or the machine fails.
    """
    run = Run(run_dir)
    return policy_of(run, run.lane(seed, variant), which, batch)


def acting_of(run: Run, lane: int, which: Which) -> Params:
    """The policy of one lane, as `agent.act` reads it, `[1, ...]`.

    Raises:
        UserError: there is no such policy.
    """
    acting = run.acting(which)
    if reason := run.missing(lane, which):
        raise UserError(f'{run.run_dir}: {reason}')
    return jax.tree.map(lambda x: x[lane : lane + 1], acting)


def policy_of(
    run: Run, lane: int, which: Which, batch: int = 1
) -> Callable[[np.ndarray], np.ndarray]:
    """`load_policy` for a run that is read already. The first call acts as step 0 of episode 0."""
    actor = Actor(run.agent.precise(run.agent.behave), batch, run.agent.config.deterministic)
    acting = actor.to_device(acting_of(run, lane, which))
    seed, size = run.lanes[lane].seed, run.agent.spec.obs_dim
    horizon_length = run.agent.spec.horizon_length
    step = 0

    def policy(obs: np.ndarray) -> np.ndarray:
        nonlocal step
        obs = np.asarray(obs, np.float32)
        if obs.ndim not in (1, 2) or obs.shape[-1] != size:
            raise UserError(
                f'observations of shape {obs.shape}: the policy takes [{size}] or [B, {size}]'
            )
        many = obs if obs.ndim == 2 else obs[None]
        if len(many) > batch:
            raise UserError(
                f'{len(many)} observations at once: load_policy(..., batch={len(many)})'
            )
        count = len(many)
        action = actor(acting, [0] * count, [seed] * count, range(count), [step] * count, many)
        step += horizon_length
        if horizon_length > 1:
            action = action.reshape(count, horizon_length, -1)
        return action if obs.ndim == 2 else action[0]

    return policy


def trained_behaviour(run_dir: pathlib.Path, noise: float) -> Trained:
    """A behaviour that collects data with the last policy of a run's first seed.

    Args:
        run_dir: the folder of the run.
        noise: the standard deviation of Gaussian noise on its actions.

    Raises:
        UserError: there is no such run or policy.
    """
    run = Run(run_dir)
    check_env(run.task, run.agent.spec, 'the policy')
    index = run.lane(None)
    acting = jax.tree.map(np.asarray, acting_of(run, index, 'last'))
    lane = run.lanes[index]
    origin = f'{lane.variant} seed {lane.seed} at update {run.step(index, "last")}'
    return Trained(run.task, noise, agent=run.agent, acting=acting, origin=origin)
