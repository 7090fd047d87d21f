"""Plays the episodes of a run's lanes in its task and says how they went, as rows of a log.

Training and evaluating a run again both use this and nothing else.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dtql_jax.agents.base import Agent
from dtql_jax.rollout.actor import Actor
from dtql_jax.rollout.env_pool import EnvPool, choose_workers
from dtql_jax.rollout.evaluate import evaluate
from dtql_jax.tasks.env import env_maker
from dtql_jax.tasks.task import Task
from dtql_jax.types import Lane, Params

SIMULATORS = 32  # side by side, unless the user says otherwise


class Player:
    """Evaluates policies: called with what all lanes act by, it returns a row for some of them."""

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
        """A row of means over episodes for each of `lanes`; `acting` has all lanes `[S, ...]`."""
        rollouts = evaluate(
            self.actor,
            acting,
            [lane.seed for lane in self.lanes],
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
    **options,
) -> Iterator[Player]:
    """A `Player` with simulators of its own, at most `eval_envs`, closed at the end."""
    make = env_maker(task)
    slots = min(eval_envs or SIMULATORS, episodes * len(lanes))
    workers = choose_workers(make, slots) if make.reaches_workers else 0
    with EnvPool(make, slots, workers) as pool:
        yield Player(task, agent, lanes, pool, episodes, **options)
