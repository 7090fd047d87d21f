"""`Task`: the data that an agent learns from, and the environment that it is evaluated in.

Observations become one float32 vector. A Box is used as it is. Of a Dict, the keys in
`Task.obs_keys` are concatenated in that order; without `obs_keys`, all keys in sorted order, nested
dicts depth first.

`Task.goal` says how a maze treats its goal:

* `'relabel'` (default with Minari's sets, and D4RL's convention): the observation leaves the goal
  out. Evaluation has one fixed goal. Every reward is recomputed for that goal: 1 if the position
  after the action lies within `mazes.REACHED` of it, else 0.
* `'observe'`: each episode's goal is appended to the observation. Rewards are those recorded, which
  refer to that goal.
* `'recorded'` (default with D4RL's own files, which hold no goal): rewards and ends are those of
  the file, which D4RL computed for the goal of its evaluation. The simulator draws its goal around
  one cell, as D4RL's does.

With `Task.success_ends` the return ends at the goal: the data have mask 0 there, and the
environment terminates. Without it the episode goes on and collects reward until its time-out.

`Task.success_timing` says when OGBench's environments judge success, reward and end: `'pre'`, on
the state before the action, as its data are relabelled and as OGBench does since 1.2, or `'post'`,
on the state after it, as OGBench 1.1 did, from which most published numbers come.

Why `'relabel'` is the default: in Minari's antmaze episodes the ant stays at its goal, and each
episode has its own goal. IQL with D4RL's settings is reported to fail on them
(Farama-Foundation/Minari issue 296). Relabelled, every trajectory teaches the one task that is
evaluated, as in D4RL. Scores still do not compare with D4RL's, because the data differ.

Worker processes import this module, so it imports no jax.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dtql_jax.tasks.mazes import CELL, goal_xy
from dtql_jax.tasks.own_files import is_own
from dtql_jax.types import UserError

MADE = 'made'  # the source of data that are made in memory
SOURCES = ('minari', 'd4rl', 'ogbench', MADE)
GOALS = ('observe', 'relabel', 'recorded')
ACTIONS = ('refuse', 'clip', 'rescale')
TIMINGS = ('pre', 'post')
# What a run may set.
ADJUSTABLE = (
    'goal', 'success_ends', 'success_timing', 'rescale_actions', 'actions', 'normalize_obs',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Task:
    """What an agent learns from and is evaluated in. Plain data, so that workers can receive it.

    Raises:
        UserError: fields contradict each other, such as a `goal` outside a maze.
    """

    name: str
    # Minari ids, Minari folders, files (.hdf5, .npz, .csv, .parquet) by path or URL, or folders of
    # files, joined in order. Empty for a task whose data are given as arrays. Names of sets of
    # `toys` where the source is 'made'.
    datasets: tuple[str, ...] = ()
    family: str = 'custom'  # 'custom', 'mujoco', a maze of `mazes.CELL`, ...
    # None: the evaluation environment that the first dataset records. Files and arrays record none:
    # such a task is trained, and never evaluated.
    env_id: str | None = None
    env_kwargs: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    obs_keys: tuple[str, ...] = ()  # keys of a Dict observation, in order, without `desired_goal`
    goal: str = 'none'
    success_ends: bool = False
    success_timing: str | None = None  # OGBench's: success is judged before or after the action
    score_range: tuple[float, float] | None = None  # the values that score 0 and 100
    scored: str = 'return'  # the value that is scored: 'return' or 'success'
    horizon: int | None = None  # steps of an episode; None: the environment's own limit
    eval_episodes: int = 10
    collect: str | None = None  # the collector that makes an absent dataset
    source: str = 'minari'
    group: str = ''  # tasks of one group share a row of the agents' tables
    caveat: str = ''  # why scores do not compare with others of this name; shown with each result
    rescale_actions: bool = False  # the data's action box is stretched to the simulator's
    # What becomes of actions outside of the box: refused, clipped, or each number of the action is
    # stretched so that its range in the data is the box.
    actions: str = 'refuse'
    # The box (low, high) of a task without an environment, each a number or one for each number of
    # an action; None: the range in the data.
    action_box: tuple[Any, Any] | None = dataclasses.field(default=None, hash=False)
    normalize_obs: bool = False  # (obs - mean) / std, both computed from the data
    # The columns of files of your own, for names of `data.arrays`: {'obs': ('x', 'y'), ...}.
    columns: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if isinstance(self.datasets, str):
            raise UserError(
                f'{self.name}: datasets={self.datasets!r}: give a tuple, ({self.datasets!r},)'
            )
        maze = self.family in CELL
        if self.goal not in (GOALS if maze else ('none',)):
            cure = "'observe' or 'relabel'" if maze else "'none' (only mazes have goals)"
            raise UserError(f'{self.name}: goal={self.goal!r} has no meaning here, use {cure}')
        for flag in ('success_ends', 'rescale_actions', 'normalize_obs'):
            if type(getattr(self, flag)) is not bool:
                raise UserError(f'{self.name}: {flag}={getattr(self, flag)!r}: use True or False')
        if self.horizon is not None and not (type(self.horizon) is int and self.horizon > 0):
            raise UserError(
                f'{self.name}: horizon={self.horizon!r}: give a whole number of steps, or None'
            )
        if self.success_timing is not None:
            if self.family != 'ogbench':
                raise UserError(
                    f'{self.name}: success_timing={self.success_timing!r} has a meaning in tasks '
                    'of OGBench only: leave it out'
                )
            if self.success_timing not in TIMINGS:
                raise UserError(
                    f"{self.name}: success_timing={self.success_timing!r}: use 'pre' or 'post'"
                )
        if self.actions not in ACTIONS:
            raise UserError(
                f'{self.name}: actions={self.actions!r}: use one of {", ".join(ACTIONS)}'
            )
        if self.actions == 'rescale' and self.rescale_actions:
            raise UserError(
                f'{self.name}: rescale_actions=True stretches the box that the data record, and '
                "actions='rescale' their range: use one of them"
            )
        if self.action_box is not None and self.env_id is not None:
            raise UserError(
                f'{self.name}: action_box={self.action_box}: the environment has the box: leave '
                'one of the two out'
            )
        if self.success_ends and not maze:
            raise UserError(f'{self.name}: success_ends=True needs a goal, which only mazes have')
        cells = [cell for row in self.env_kwargs.get('maze_map', []) for cell in row]
        if self.goal == 'relabel' and cells.count('g') != 1:
            raise UserError(
                f"{self.name}: goal='relabel' needs a maze_map with exactly one 'g' cell"
            )

    @property
    def has_env(self) -> bool:
        """Whether it can be evaluated: it names an environment, or its data may record one."""
        if self.env_id is not None:
            return True
        none = not self.datasets or self.source in ('arrays', 'files')
        return not none and not is_own(self.datasets[0])

    @property
    def base(self) -> str:
        """The name without D4RL's version; tasks that differ only in their source share it."""
        return re.sub(r'-v\d+$', '', self.name) if self.source == 'd4rl' else self.name

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of the task's row in an agent's table; the first that the table has is used.

        They are its name, its base, the name that the five tasks of an OGBench set share, its
        group, and its family.
        """
        shared = re.sub(r'-task\d(?=-v\d+$)', '', self.name)
        names = (self.name, self.base, shared, self.group, self.family)
        return tuple(name for name in dict.fromkeys(names) if name)

    @property
    def observed_keys(self) -> tuple[str, ...]:
        """Keys of a Dict observation in flattening order; empty: all keys, sorted."""
        return (*self.obs_keys, 'desired_goal') if self.goal == 'observe' else self.obs_keys

    @property
    def fixed_goal(self) -> np.ndarray | None:
        """Position of the evaluation's goal, float64 `[2]`; None unless `goal='relabel'`."""
        relabel = self.goal == 'relabel'
        return goal_xy(self.env_kwargs['maze_map'], self.family) if relabel else None

    @property
    def tells_success(self) -> bool:
        """Whether episodes of its environment report success."""
        return self.goal != 'none' or self.scored == 'success'

    def score(self, returns: ArrayLike, success: ArrayLike | None = None) -> np.ndarray | None:
        """`100 * (x - low) / (high - low)`, the normalised score.

        Args:
            returns: undiscounted returns, which are `x` where `scored` is 'return'.
            success: whether the episodes succeeded, which is `x` where `scored` is 'success'.

        Returns:
            The scores, shaped like `x`; None for a task without a score range.
        """
        if self.score_range is None:
            return None
        low, high = self.score_range
        value = np.asarray(success if self.scored == 'success' else returns)
        return 100 * (value - low) / (high - low)


def adjust(task: Task, **settings: Any) -> Task:
    """Copies `task` with other values of the settings in `ADJUSTABLE`.

    The score range holds for returns of 0 or 1. Where an episode goes on at the goal, returns count
    steps, so the copy has no score range.

    Raises:
        UserError: the name is another one, or the task cannot have the value.
    """
    unknown = sorted(set(settings) - set(ADJUSTABLE))
    if unknown:
        raise UserError(f'unknown task setting {unknown[0]!r}: there are {", ".join(ADJUSTABLE)}')
    task = dataclasses.replace(task, **settings)
    counts_steps = task.family in CELL and not task.success_ends
    return dataclasses.replace(task, score_range=None) if counts_steps else task


def recorded_fields(task: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a task as the `config.json` of a run has them.

    A version without one of the fields did as the field says by default. OGBench's environments
    judge success before the action unless they are told otherwise.
    """
    timing = {'success_timing': 'pre'} if task['family'] == 'ogbench' else {}
    return {**dataclasses.asdict(Task('')), **timing, **task}
