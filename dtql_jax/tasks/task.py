"""`Task`: what one trains on and is evaluated in.

How observations become one float32 vector: a Box as it is; of a Dict the keys in `Task.obs_keys`,
in that order; without `obs_keys` every key in sorted order, nested dicts depth first.

How mazes treat the goal, by `Task.goal`:

* `'relabel'` (default with Minari's sets, and D4RL's convention): the goal is no part of the
  observation. Evaluation has one fixed goal, and every reward is recomputed against it: 1 if the
  position after the action lies within `mazes.REACHED` of it, else 0.
* `'observe'`: the goal of each episode is appended to the observation, and rewards, as recorded,
  mean that goal.
* `'recorded'` (default with D4RL's own files, which hold no goal): rewards and ends are those of
  the file, computed by D4RL against the goal of its evaluation; the simulator draws its goal as
  D4RL's does, around one cell.

With `Task.success_ends` the return ends where the goal is reached (mask 0 in the data, termination
in the environment); without, the episode goes on and collects reward there until its time-out.

Why the default: Minari's antmaze episodes stay at their goal, each at its own, and IQL with D4RL's
settings is reported to fail on them (Farama-Foundation/Minari issue 296). Relabelled, every
trajectory teaches the one task that is evaluated, as in D4RL. Scores still do not compare with
D4RL's: the data differ.

Worker processes import this module, so it must stay light: no jax.
"""

import dataclasses
import re
from typing import Any

import numpy as np

from dtql_jax.tasks.mazes import CELL, goal_xy
from dtql_jax.types import UserError

SOURCES = ('minari', 'd4rl', 'ogbench')
GOALS = ('observe', 'relabel', 'recorded')


@dataclasses.dataclass(frozen=True)
class Task:
    """What one trains on and is evaluated in: plain data, so that it travels to other processes.

    Raises UserError for a combination that has no meaning.
    """

    name: str
    # Minari ids, their folders, or files (.hdf5, .npz) by path or address; joined in order.
    datasets: tuple[str, ...]
    family: str = 'custom'  # 'custom', 'mujoco', a maze of `mazes.CELL`, ...
    env_id: str | None = None  # None: the evaluation environment that the first dataset records
    env_kwargs: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    obs_keys: tuple[str, ...] = ()  # keys of a Dict observation, in order, without `desired_goal`
    goal: str = 'none'
    success_ends: bool = False
    score_range: tuple[float, float] | None = None  # the values that score 0 and 100
    scored: str = 'return'  # what is normalised by it: 'return' or 'success'
    horizon: int | None = None  # steps of an episode; None: the environment's own limit
    eval_episodes: int = 10
    collect: str | None = None  # the embedded collector that makes the dataset where it is absent
    source: str = 'minari'
    settings: str = ''  # a group of tasks that share a row of the agents' tables
    caveat: str = ''  # why scores do not compare with others of that name: said with each result

    def __post_init__(self):
        maze = self.family in CELL
        if self.goal not in (GOALS if maze else ('none',)):
            cure = "'observe' or 'relabel'" if maze else "'none' (only mazes have goals)"
            raise UserError(f'{self.name}: goal={self.goal!r} has no meaning here, use {cure}')
        if type(self.success_ends) is not bool:
            raise UserError(f'{self.name}: success_ends={self.success_ends!r}: use True or False')
        if self.success_ends and not maze:
            raise UserError(f'{self.name}: success_ends=True needs a goal, which only mazes have')
        cells = [cell for row in self.env_kwargs.get('maze_map', []) for cell in row]
        if self.goal == 'relabel' and cells.count('g') != 1:
            raise UserError(
                f"{self.name}: goal='relabel' needs a maze_map with exactly one 'g' cell"
            )

    @property
    def base(self) -> str:
        """The name that tasks share which differ in their source only: D4RL's without version."""
        return re.sub(r'-v\d+$', '', self.name) if self.source == 'd4rl' else self.name

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of its row in an agent's table; the first that the table has counts.

        Its name, its base, what the five tasks of an OGBench set share, its group, its family.
        """
        shared = re.sub(r'-task\d(?=-v\d+$)', '', self.name)
        names = (self.name, self.base, shared, self.settings, self.family)
        return tuple(name for name in dict.fromkeys(names) if name)

    @property
    def observed_keys(self) -> tuple[str, ...]:
        """Keys of a Dict observation in flattening order; empty: all, sorted."""
        return (*self.obs_keys, 'desired_goal') if self.goal == 'observe' else self.obs_keys

    @property
    def fixed_goal(self) -> np.ndarray | None:
        """Position of the evaluation's goal, float64 `[2]`; None unless `goal='relabel'`."""
        relabel = self.goal == 'relabel'
        return goal_xy(self.env_kwargs['maze_map'], self.family) if relabel else None

    @property
    def tells_success(self) -> bool:
        """Whether an episode of its environment succeeds or fails."""
        return self.goal != 'none' or self.scored == 'success'

    def score(self, returns, success=None):
        """Normalised score, 100 * (x - low) / (high - low); None without a score range.

        x is the return, or with `scored='success'` whether the episode succeeded.
        """
        if self.score_range is None:
            return None
        low, high = self.score_range
        value = np.asarray(success if self.scored == 'success' else returns)
        return 100 * (value - low) / (high - low)


def adjust(task: Task, **settings: Any) -> Task:
    """Copy of `task` with `goal` and/or `success_ends` changed.

    Where an episode goes on at the goal, returns count steps: the score range, which is meant for
    0 or 1, is dropped. Raises UserError for other names and for values without meaning.
    """
    unknown = sorted(set(settings) - {'goal', 'success_ends'})
    if unknown:
        raise UserError(f'unknown task setting {unknown[0]!r}: there are goal and success_ends')
    task = dataclasses.replace(task, **settings)
    counts_steps = task.family in CELL and not task.success_ends
    return dataclasses.replace(task, score_range=None) if counts_steps else task
