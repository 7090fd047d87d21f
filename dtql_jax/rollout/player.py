"""Plays the episodes of a run's lanes in its task and returns rows of a log: means and episodes.

Training evaluates by this module, and so does a later evaluation of a run.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from dtql_jax.agents.base import Agent
from dtql_jax.rollout.actor import Actor
from dtql_jax.rollout.env_pool import NO_SUCCESS, EnvPool, choose_workers, cores
from dtql_jax.rollout.evaluate import LanePolicies, Rollouts, evaluate
from dtql_jax.rollout.patience import USUAL, Patience
from dtql_jax.rollout.worker import WorkerLost
from dtql_jax.tasks.env import env_maker
from dtql_jax.tasks.task import Task
from dtql_jax.types import Lane, Params, Stopped, UserError, outside, why

SIMULATORS = 32  # side by side, unless the user says otherwise
# With an accelerator, more lanes have more of them, up to this number for each core.
SIMULATORS_OF_A_CORE = 16


Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Conditions:
    """How lanes are played.

    Args:
        episodes: episodes of each lane.
        eval_envs: the most simulators side by side; None leaves it to `side_by_side`.
        eval_seed: draws the starts of the episodes.
        patience: with a simulator. At every step it is asked whether to stop.
        warn: is called with a line about each mishap.
    """

    episodes: int
    eval_envs: int | None = None
    eval_seed: int = 0
    patience: Patience = USUAL
    warn: Callable[[str], None] = logging.warning


class Player:
    """Evaluates the policies of a run's lanes; a call returns a row for each lane it plays.

    Args:
        task: gives the scores.
        agent: gives `act`.
        lanes: all lanes of the run.
        open_pool: opens the task's simulators, which the first call needs.
        conditions: how lanes are played.
    """

    def __init__(
        self,
        task: Task,
        agent: Agent,
        lanes: Sequence[Lane],
        open_pool: Callable[[], EnvPool],
        conditions: Conditions,
    ):
        self.task = task
        self.agent = agent
        self.lanes = tuple(lanes)
        self.conditions = conditions
        self._open_pool = open_pool
        self._pool: EnvPool | None = None

    @property
    def pool(self) -> EnvPool:
        """The simulators, opened at the first use."""
        if self._pool is None:
            self._pool = self._open_pool()
        return self._pool

    def close(self) -> None:
        """Closes the simulators."""
        if self._pool is not None:
            self._pool.close()

    @functools.cached_property
    def actor(self) -> Actor:
        """Acts for all simulators at once."""
        agent = self.agent
        act = agent.precise(agent.behave)
        return Actor(act, self.pool.num_envs, agent.config.deterministic)

    def __call__(self, acting: Params, lanes: Sequence[int]) -> dict[int, Row]:
        """Plays episodes and returns their means.

        Args:
            acting: the parameters that act, of all lanes `[S, ...]`.
            lanes: the lanes to play, by index.

        Returns:
            A row for each of `lanes`: 'eval/score' (the return of a task without a score),
            'eval/return', 'eval/length', 'eval/episodes', and 'eval/success' where the task has it
            and the simulator tells it. Lists have the value of each episode: 'episode/return',
            'episode/length', 'episode/success' where 'eval/success' is, and 'episode/score' where
            the task has a score. A lane whose evaluation failed has only 'eval/failed', the reason
            in one line, and 'eval/episodes'.

        Raises:
            Stopped: on request.
            UserError: a simulator in this process hangs, or the simulators cannot be made again.
        """
        try:
            return self._play(acting, lanes)
        except WorkerLost as lost:
            self.conditions.warn(f'{lost}. The lanes are played again, one by one')
        # Nobody knows whose episode it was, or whether it was one. A lane that is played alone and
        # loses its worker again has lost it itself. Lanes do not depend on what runs beside them.
        rows: dict[int, Row] = {}
        self._restart()
        for lane in lanes:
            try:
                rows |= self._play(acting, [lane])
            except WorkerLost as lost:
                rows[lane] = self._failed(str(lost))
                self._restart()
        return rows

    def _play(self, acting: Params, lanes: Sequence[int]) -> dict[int, Row]:
        rollouts = evaluate(
            LanePolicies(
                self.actor,
                acting,
                [lane.seed for lane in self.lanes],
                self.agent.spec.horizon_length,
            ),
            self.pool,
            episodes=self.conditions.episodes,
            eval_seed=self.conditions.eval_seed,
            lanes=lanes,
            should_stop=self.conditions.patience.should_stop,
        )
        return {lane: self._row(rollouts, lane) for lane in lanes}

    def _row(self, rollouts: Rollouts, lane: int) -> Row:
        """The row of one lane."""
        if lane in rollouts.failed:
            return self._failed(rollouts.failed[lane])
        returns, success = rollouts.returns[lane], rollouts.success[lane]
        told = not np.isnan(success).any()
        if self.task.scored == 'success' and not told:
            episode = int(np.argmax(np.isnan(success)))
            return self._failed(f'{NO_SUCCESS}: episode {episode}')
        scores = self.task.score(returns, success)
        columns = {} if scores is None else {'score': scores}
        columns |= {'return': returns, 'length': rollouts.length[lane]}
        if self.task.tells_success and told:
            columns['success'] = success
        means = {f'eval/{name}': float(np.mean(values)) for name, values in columns.items()}
        return {
            'eval/score': means['eval/return'],  # of a task without a score
            **means,
            'eval/episodes': self.conditions.episodes,
            **{f'episode/{name}': values.tolist() for name, values in columns.items()},
        }

    def _restart(self) -> None:
        with outside('the simulators cannot be started again', 'free memory, then `resume`'):
            self.pool.restart()

    def _failed(self, reason: str) -> Row:
        """The row of a lane whose evaluation failed."""
        return {'eval/failed': reason, 'eval/episodes': self.conditions.episodes}


@contextlib.contextmanager
def open_player(
    task: Task, agent: Agent, lanes: Sequence[Lane], conditions: Conditions
) -> Iterator[Player]:
    """Opens a `Player` with simulators of its own, and closes them at the end.

    They run in worker processes where that is faster; see `choose_workers`. One is tried at once,
    all are made at the first call, so that training does not wait for them.

    Args:
        task: the task to play.
        agent: acts.
        lanes: all lanes of the run.
        conditions: how lanes are played.

    Raises:
        Stopped: on request.
        UserError: the simulator cannot be made or played, or does not report what is scored.
    """
    most = conditions.eval_envs or side_by_side(len(lanes))
    slots = min(most, conditions.episodes * len(lanes))
    player = Player(task, agent, lanes, pool_opener(task, slots, conditions), conditions)
    with contextlib.closing(player):
        yield player


def side_by_side(lanes: int) -> int:
    """The most simulators at once where the user names no number.

    An accelerator acts for hundreds of states in the time of a few, so the number of its calls
    counts: with 16 cores, 32 lanes need an eighth of the calls that 32 simulators need. On a CPU
    every state costs the same.
    """
    if jax.local_devices()[0].platform == 'cpu':
        return SIMULATORS
    return max(SIMULATORS, min(SIMULATORS * lanes, SIMULATORS_OF_A_CORE * cores()))


def open_pool(task: Task, slots: int, conditions: Conditions) -> EnvPool:
    """Simulators of a task, in worker processes where that is faster and they can make them.

    Raises:
        Stopped: on request.
        UserError: the simulator cannot be made or played, or does not report what is scored.
    """
    return pool_opener(task, slots, conditions)()


def pool_opener(task: Task, slots: int, conditions: Conditions) -> Callable[[], EnvPool]:
    """Tries one simulator of a task; returns a function that makes all, see `open_pool`."""
    make = env_maker(task)
    choose = functools.partial(
        choose_workers, make, slots, success=task.scored == 'success', warn=conditions.warn
    )
    workers = conditions.patience.call(choose, f'{task.name}: a simulator')

    def opened() -> EnvPool:
        try:
            return EnvPool(make, slots, workers, conditions.patience)
        except Stopped:
            raise
        except Exception as error:  # also what a pickle or a user's module raises
            if not workers:
                raise
            reason = str(error) if isinstance(error, UserError | WorkerLost) else why(error)
            conditions.warn(
                f'the simulators run in this process, which is slower: a worker process cannot '
                f'make them ({reason}). Define or register the environment in a module, or at the '
                'top of the script'
            )
            return EnvPool(make, slots, 0, conditions.patience)

    return opened
