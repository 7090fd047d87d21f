"""The task registry, and a task's environment.

A task (`task.Task`) says which data one trains on, which simulator goes with them, and what success
means. `published` has those of the benchmarks; `register` adds one's own.

Worker processes import this module, so that it must stay light: no jax, not even through `types`.
"""

import contextlib
import difflib
import io
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from dtql_jax.mazes import REACHED
from dtql_jax.published import published
from dtql_jax.spaces import action_bound, flatten, leaf_paths, user_error
from dtql_jax.task import SOURCES, Task, adjust

__all__ = ['SOURCES', 'TASKS', 'Task', 'adjust', 'make_env', 'minari_folder', 'register', 'resolve']

FORMATS = {'.hdf5': 'd4rl', '.npz': 'ogbench'}  # suffix of a file -> source

TASKS: dict[str, Task] = {task.name: task for task in published()}


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


def resolve(
    name: str, source: str | None = None, dataset_path: str | None = None
) -> tuple[Task, str | None]:
    """Task of a name, and one line to tell the user where the data are not what the name suggests.

    A registered name is that task; a D4RL name without its version the default of those that share
    it; `minari:<dataset id or folder>` own data. `source` asks for the same task from another
    source. Without it the format of `dataset_path` decides, where the name leaves it open. Raises
    UserError with the nearest names, or with the sources and versions that there are.
    """
    if source is not None and source not in SOURCES:
        raise user_error(f'--source={source}: there are {", ".join(SOURCES)}')
    if name.startswith('minari:'):
        dataset = name.removeprefix('minari:')
        if not re.fullmatch(r'\S+', dataset) or source not in (None, 'minari'):
            raise user_error(f'{name!r} names no dataset: write minari:<dataset id>')
        return Task(name, (dataset,)), None
    asked = TASKS.get(name)
    same = [task for task in TASKS.values() if task.base == (asked.base if asked else name)]
    if not same:
        names = dict.fromkeys(known for task in TASKS.values() for known in (task.base, task.name))
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        raise user_error(
            f'unknown task {name!r}; nearest: {", ".join(near or list(TASKS)[:3])} '
            '(--list has all; minari:<dataset id> takes your own)'
        )
    if source is None and dataset_path is not None and (asked is None or asked.base == name):
        # The name leaves open whose data they are, and a file tells.
        source = FORMATS.get(Path(dataset_path).suffix)
        source = source if source in {task.source for task in same} else None
    if source is None:
        source = (asked or same[0]).source
    if not (fitting := [task for task in same if task.source == source]):
        there = ', '.join(f'--source={s}' for s in dict.fromkeys(task.source for task in same))
        raise user_error(f'{name} does not come from {source}: there is {there}')
    if asked in fitting:
        return asked, None
    if len(fitting) > 1:
        names = ' or '.join(f'--env={task.name}' for task in fitting)
        raise user_error(f'{name}: D4RL has several versions; name one: {names}')
    (task,) = fitting
    if asked is None or source != 'minari':
        return task, None
    return task, (
        f'{name}: served by {" + ".join(task.datasets)} (from Minari, {task.env_id}), other data '
        "than D4RL's, so that scores do not compare with published D4RL scores"
    )


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
            info['success'] = bool(distance <= REACHED[self._task.family])
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
        raise user_error(f'{task.name}: {error}; {_cure(task)}') from error
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
    if ':' not in task.env_id and task.env_id not in gym.registry:
        with contextlib.redirect_stderr(io.StringIO()):  # it greets with a note on other tasks
            import gymnasium_robotics
        gym.register_envs(gymnasium_robotics)
    env = gym.make(task.env_id, **task.env_kwargs, **kwargs)
    for attribute in ('tmp_xml_file_path', 'fullpath'):
        # Each maze writes its model to a temporary file, which nothing reads again.
        model = Path(getattr(env.unwrapped, attribute, ''))
        if model.parent == Path(tempfile.gettempdir()):
            model.unlink(missing_ok=True)
    return env


def _cure(task: Task) -> str:
    """The command that installs the package of the task's simulator."""
    if task.source == 'ogbench':
        return "OGBench is an extra: pip install -e '.[ogbench]'"
    return 'try: pip install gymnasium-robotics "gymnasium[mujoco]"'


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
