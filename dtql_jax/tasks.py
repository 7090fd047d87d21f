"""The task registry: a name gives a dataset, an environment and the meaning of success.

How observations become one float32 vector: a Box as it is; of a Dict the keys in `Task.obs_keys`,
in that order; without `obs_keys` every key in sorted order, nested dicts depth first.

How mazes treat the goal, by `Task.goal`:

* `'relabel'` (default, D4RL's convention): the goal is no part of the observation. Evaluation has
  one fixed goal, the centre of the maze map's `g` cell, and every reward is recomputed against it:
  1 if the position after the action lies within `mazes.REACHED` of it, else 0.
* `'observe'`: the goal of each episode is appended to the observation, and rewards, as recorded,
  mean that goal.

With `Task.success_ends` the return ends where the goal is reached (mask 0 in the data, termination
in the environment); without, the episode goes on and collects reward there until its time-out.

Why the default: Minari's antmaze episodes stay at their goal, each at its own, and IQL with D4RL's
settings is reported to fail on them (Farama-Foundation/Minari issue 296). Relabelled, every
trajectory teaches the one task that is evaluated, as in D4RL. Scores still do not compare with
D4RL's: the data differ.

Worker processes import this module, so that it must stay light: no jax, not even through `types`.
"""

import contextlib
import dataclasses
import difflib
import io
import re
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from dtql_jax.mazes import CELL, MAPS, REACHED, goal_xy
from dtql_jax.spaces import action_bound, flatten, leaf_paths, user_error


@dataclasses.dataclass(frozen=True)
class Task:
    """What one trains on and is evaluated in: plain data, so that it travels to other processes.

    Raises UserError for a combination that has no meaning.
    """

    name: str
    datasets: tuple[str, ...]  # Minari ids, their folders, or files (.hdf5, .npz); joined in order
    family: str = 'custom'  # 'mujoco', 'antmaze', 'pointmaze' or 'custom'
    env_id: str | None = None  # None: the evaluation environment that the first dataset records
    env_kwargs: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    obs_keys: tuple[str, ...] = ()  # keys of a Dict observation, in order, without `desired_goal`
    goal: str = 'none'
    success_ends: bool = False
    score_range: tuple[float, float] | None = None  # the returns that score 0 and 100
    horizon: int | None = None  # steps of an episode; None: the environment's own limit
    eval_episodes: int = 10
    collect: str | None = None  # the embedded collector that makes the dataset where it is absent

    def __post_init__(self):
        maze = self.family in CELL
        if self.goal not in (('observe', 'relabel') if maze else ('none',)):
            cure = "'observe' or 'relabel'" if maze else "'none' (only mazes have goals)"
            raise user_error(f'{self.name}: goal={self.goal!r} has no meaning here, use {cure}')
        if type(self.success_ends) is not bool:
            raise user_error(f'{self.name}: success_ends={self.success_ends!r}: use True or False')
        if self.success_ends and not maze:
            raise user_error(f'{self.name}: success_ends=True needs a goal, which only mazes have')
        cells = [cell for row in self.env_kwargs.get('maze_map', []) for cell in row]
        if self.goal == 'relabel' and cells.count('g') != 1:
            raise user_error(
                f"{self.name}: goal='relabel' needs a maze_map with exactly one 'g' cell"
            )

    @property
    def observed_keys(self) -> tuple[str, ...]:
        """Keys of a Dict observation in flattening order; empty: all, sorted."""
        return (*self.obs_keys, 'desired_goal') if self.goal == 'observe' else self.obs_keys

    @property
    def fixed_goal(self) -> np.ndarray | None:
        """Position of the evaluation's goal, float64 `[2]`; None unless `goal='relabel'`."""
        relabel = self.goal == 'relabel'
        return goal_xy(self.env_kwargs['maze_map'], self.family) if relabel else None

    def score(self, returns):
        """Normalised score, 100 * (return - low) / (high - low); None without a score range."""
        if self.score_range is None:
            return None
        low, high = self.score_range
        return 100 * (np.asarray(returns) - low) / (high - low)


def adjust(task: Task, **settings: Any) -> Task:
    """Copy of `task` with `goal` and/or `success_ends` changed.

    Where an episode goes on at the goal, returns count steps: the score range, which is meant for
    0 or 1, is dropped. Raises UserError for other names and for values without meaning.
    """
    unknown = sorted(set(settings) - {'goal', 'success_ends'})
    if unknown:
        raise user_error(f'unknown task setting {unknown[0]!r}: there are goal and success_ends')
    task = dataclasses.replace(task, **settings)
    counts_steps = task.family in CELL and not task.success_ends
    return dataclasses.replace(task, score_range=None) if counts_steps else task


TASKS: dict[str, Task] = {}


def register(task: Task) -> Task:
    """Add a task of your own under `task.name`; raises UserError if the name is taken.

    ```python
    register(Task('my-hopper', ('me/my-hopper-v0',), env_id='Hopper-v5', horizon=1000))
    register(dataclasses.replace(TASKS['pointmaze-umaze'], name='u', datasets=('me/u-v0',)))
    ```
    """
    if task.name in TASKS:
        raise user_error(
            f'there is a task {task.name!r} already: register yours under another name'
        )
    TASKS[task.name] = task
    return task


def _register_mazes() -> None:
    shared = {'goal': 'relabel', 'success_ends': True, 'score_range': (0.0, 1.0)}
    for size, env, horizon in (
        ('umaze', 'UMaze', 300),
        ('medium', 'Medium', 600),
        ('large', 'Large', 800),
    ):
        register(
            Task(
                f'pointmaze-{size}',
                (f'dtql/pointmaze-{size}-v0',),
                'pointmaze',
                f'PointMaze_{env}-v3',
                {'maze_map': MAPS[size], 'continuing_task': True, 'reset_target': False},
                ('observation',),
                horizon=horizon,
                eval_episodes=50,
                collect='pointmaze',
                **shared,
            )
        )
    for kind, env, horizon in (
        ('umaze', 'UMaze', 700),
        ('umaze-diverse', 'UMaze', 700),
        ('medium-play', 'Medium', 1000),
        ('medium-diverse', 'Medium_Diverse_GR', 1000),
        ('large-play', 'Large', 1000),
        ('large-diverse', 'Large_Diverse_GR', 1000),
    ):
        size = kind.split('-')[0]
        maze_map = MAPS['antmaze-umaze' if size == 'umaze' else size]
        register(
            Task(
                f'antmaze-{kind}',
                (f'D4RL/antmaze/{kind}-v1',),
                'antmaze',
                f'AntMaze_{env}-v4',
                {'maze_map': maze_map, 'continuing_task': True, 'reset_target': False},
                ('achieved_goal', 'observation'),
                horizon=horizon,
                eval_episodes=100,
                **shared,
            )
        )


def _register_mujoco() -> None:
    # D4RL's returns of a random and an expert policy; Minari's mujoco sets carry none.
    for robot, env, low, high in (
        ('halfcheetah', 'HalfCheetah', -280.178953, 12135.0),
        ('hopper', 'Hopper', -20.272305, 3234.3),
        ('walker2d', 'Walker2d', 1.629008, 4592.3),
    ):
        for level in ('medium', 'expert', 'medium-expert'):
            sets = tuple(f'mujoco/{robot}/{part}-v0' for part in level.split('-'))
            register(
                Task(
                    f'{robot}-{level}',
                    sets,
                    'mujoco',
                    f'{env}-v5',
                    score_range=(low, high),
                    horizon=1000,
                )
            )


_register_mazes()
_register_mujoco()


def resolve(name: str) -> tuple[Task, str | None]:
    """Task of a name, and one line to tell the user where the data are not what the name suggests.

    Takes registry names, D4RL's spellings with a version (`hopper-medium-v2`) and
    `minari:<dataset id or folder>` for own data. Raises UserError with the nearest names.
    """
    if name.startswith('minari:'):
        dataset = name.removeprefix('minari:')
        if not re.fullmatch(r'\S+', dataset):
            raise user_error(f'{name!r} names no dataset: write minari:<dataset id>')
        return Task(name, (dataset,)), None
    if name in TASKS:
        return TASKS[name], None
    base = re.sub(r'-v\d+$', '', name)
    if base in TASKS:
        task = TASKS[base]
        made = 'collected in the simulator' if task.collect else 'from Minari'
        return task, (
            f'{name}: served by {" + ".join(task.datasets)} ({made}, {task.env_id}), other data '
            "than D4RL's, so that scores do not compare with published D4RL scores"
        )
    robot = base.removesuffix('-medium-replay')
    if robot != base and f'{robot}-medium' in TASKS:
        raise user_error(
            f"{name}: Minari has no medium-replay set (only D4RL's own hdf5 files do: "
            f'--env={robot}-medium --dataset_path=FILE); '
            f'there are {robot}-medium, {robot}-expert and {robot}-medium-expert'
        )
    near = difflib.get_close_matches(base, TASKS, n=3, cutoff=0.5) or sorted(TASKS)
    raise user_error(f'unknown task {name!r}; nearest: {", ".join(near)} (or minari:<dataset id>)')


def minari_folder(name: str) -> Path:
    """Folder of a Minari dataset, given by its id or by the folder itself. It may not exist."""
    if Path(name, 'data').is_dir():
        return Path(name)
    from minari.storage import get_dataset_path  # a quarter of a second, needed for few tasks

    return get_dataset_path(name)


class _TaskEnv(gym.Wrapper):
    """One goal, an end at success, and flat float32 observations `[O]`, as the task says.

    Without `flat` observations are those of the simulator.
    """

    def __init__(self, env: gym.Env, task: Task, flat: bool):
        super().__init__(env)
        self._task, self._goal, self._flat = task, task.fixed_goal, flat
        self._paths = leaf_paths(env.observation_space, task.observed_keys)
        if flat:
            size = self._seen(env.observation_space.sample()).size
            self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def _seen(self, obs: Any) -> Any:
        return flatten(obs, self._paths) if self._flat else obs

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        obs, info = self.env.reset(seed=seed, options=options)
        if self._goal is not None:
            # The simulator moves the goal by up to a quarter of a cell; the start's noise stays.
            self.unwrapped.goal = self._goal.copy()
            self.unwrapped.update_target_site_pos()
            distance = np.linalg.norm(obs['achieved_goal'] - self._goal)
            info['success'] = bool(distance <= REACHED)
            obs = {**obs, 'desired_goal': self._goal.copy()}
        return self._seen(obs), info

    def step(self, action: np.ndarray):
        obs, reward, terminated, truncated, info = self.env.step(action)
        terminated = bool(terminated or (self._task.success_ends and info['success']))
        return self._seen(obs), float(reward), terminated, truncated, info


def make_env(task: Task, *, flat: bool = True, **kwargs: Any) -> gym.Env:
    """Evaluation environment of `task`, deterministic given `reset(seed=...)`.

    Observations are laid out as in the dataset's transitions, float32 `[O]`; without `flat` they
    are left as the simulator gives them, and as a dataset of the task holds them. Mazes report
    `info['success']` at every step. `kwargs` go to `gymnasium.make` (`render_mode='rgb_array'`).
    Raises UserError for a missing package and for an environment that cannot be used.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # "a newer version exists": the data's version counts
            env = _build(task, kwargs)
    except (ImportError, gym.error.DependencyNotInstalled) as error:
        packages = 'gymnasium-robotics "gymnasium[mujoco]"'
        raise user_error(f'{task.name}: {error}; try: pip install {packages}') from error
    except gym.error.Error as error:
        raise user_error(f'{task.name}: cannot make its environment: {error}') from error
    if env.spec.max_episode_steps is None:
        raise user_error(
            f'{task.name}: its environment never ends; set a horizon: '
            f'register(Task(..., env_id={env.spec.id!r}, horizon=1000))'
        )
    action_bound(env.action_space, task.name)
    return _TaskEnv(env, task, flat)


def _build(task: Task, kwargs: dict[str, Any]) -> gym.Env:
    kwargs = {'disable_env_checker': True, **kwargs}
    if task.horizon is not None:
        kwargs['max_episode_steps'] = task.horizon
    if task.env_id is None:
        return _recover(task, kwargs)
    if task.family in CELL:
        with contextlib.redirect_stderr(io.StringIO()):  # it greets with a note on other tasks
            import gymnasium_robotics
        gym.register_envs(gymnasium_robotics)
    env = gym.make(task.env_id, **task.env_kwargs, **kwargs)
    if task.family in CELL:
        # Each maze writes its model to a temporary file, which nothing reads again.
        Path(env.unwrapped.tmp_xml_file_path).unlink(missing_ok=True)
    return env


def _recover(task: Task, kwargs: dict[str, Any]) -> gym.Env:
    """The environment that the task's first dataset records for evaluation."""
    from minari import MinariDataset

    name, data = task.datasets[0], minari_folder(task.datasets[0]) / 'data'
    if not (data.is_dir() or Path(name).is_file()):
        raise user_error(f'{task.name}: {data.parent} is absent; run: minari download {name}')
    dataset = MinariDataset(data) if data.is_dir() else None
    if dataset is None or dataset.env_spec is None:
        raise user_error(
            f'{task.name}: {name} records no environment; name one: register(Task(..., env_id=...))'
        )
    return dataset.recover_environment(eval_env=True, **kwargs)
