"""Plays the episodes of a run's lanes in its task and returns their means as rows of a log.

Training evaluates by this module, and so does a later evaluation of a run.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dtql_jax.agents.base import Agent
from dtql_jax.rollout.actor import Actor
from dtql_jax.rollout.env_pool import EnvPool, choose_workers
from dtql_jax.rollout.evaluate import LanePolicies, evaluate
from dtql_jax.tasks.env import env_maker
from dtql_jax.tasks.task import Task
from dtql_jax.types import Lane, Params

SIMULATORS = 32  # side by side, unless the user says otherwise


class Player:
    """Evaluates the policies of a run's lanes; a call returns a row for each lane it plays.

    Args:
        task: gives the scores.
        agent: gives `act`.
        lanes: all lanes of the run.
        pool: the task's simulators.
        episodes: episodes of each lane.
        eval_seed: draws the starts of the episodes.
        should_stop: is called at every step; True makes a call raise `Stopped`.
    """

    def __init__(
        self,
        task: Task,
        agent: Agent,
        lanes: Sequence[Lane],
        pool: EnvPool,
        episodes: int,
        *,
        eval_seed: int = 0,
        should_stop: Callable[[], bool] = lambda: False,
    ):
        self.task = task
        self.lanes = tuple(lanes)
        self.pool = pool
        self.episodes = episodes
        self.eval_seed = eval_seed
        self.should_stop = should_stop
        self.actor = Actor(agent.precise(agent.act), pool.num_envs)

    def __call__(self, acting: Params, lanes: Sequence[int]) -> dict[int, dict[str, float]]:
        """Plays episodes and returns their means.

        Args:
            acting: the parameters that act, of all lanes `[S, ...]`.
            lanes: the lanes to play, by index.

        Returns:
            A row for each of `lanes`: 'eval/score' (the return of a task without a score),
            'eval/return', 'eval/length', 'eval/episodes', and 'eval/success' where the task has it.
        """
        rollouts = evaluate(
            LanePolicies(self.actor, acting, [lane.seed for lane in self.lanes]),
            self.pool,
            episodes=self.episodes,
            eval_seed=self.eval_seed,
            lanes=lanes,
            should_stop=self.should_stop,
        )
        returns = rollouts.returns
        scores = self.task.score(returns, rollouts.success)
        scores = returns if scores is None else scores
        columns = {'score': scores, 'return': returns, 'length': rollouts.length}
        if self.task.tells_success:
            columns['success'] = rollouts.success
        return {
            i: {f'eval/{name}': float(np.mean(values[i])) for name, values in columns.items()}
            | {'eval/episodes': self.episodes}
            for i in lanes
        }


@contextlib.contextmanager
def open_player(
    task: Task,
    agent: Agent,
    lanes: Sequence[Lane],
    episodes: int,
    eval_envs: int | None = None,
    *,
    eval_seed: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Player]:
    """Opens a `Player` with simulators of its own, and closes them at the end.

    They run in worker processes where that is faster; see `choose_workers`.

    Args:
        task: the task to play.
        agent: acts.
        lanes: all lanes of the run.
        episodes: episodes of each lane.
        eval_envs: the most simulators side by side; None means `SIMULATORS`.
        eval_seed: draws the starts of the episodes.
        should_stop: is called at every step; True makes a call of the player raise `Stopped`.
    """
    make = env_maker(task)
    slots = min(eval_envs or SIMULATORS, episodes * len(lanes))
    with EnvPool(make, slots, choose_workers(make, slots)) as pool:
        yield Player(
            task, agent, lanes, pool, episodes, eval_seed=eval_seed, should_stop=should_stop
        )
