"""A task's environment of evaluation.

Worker processes import this module, so that it must stay light: no jax.
"""

import contextlib
import io
import tempfile
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from dtql_jax.tasks.mazes import REACHED
from dtql_jax.tasks.spaces import action_bound, flatten, leaf_paths
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError


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
        raise UserError(f'{task.name}: {error}; {_cure(task)}') from error
    except gym.error.Error as error:
        raise UserError(f'{task.name}: cannot make its environment: {error}') from error
    if env.spec.max_episode_steps is None:
        raise UserError(
            f'{task.name}: its environment never ends; set a horizon: '
            f'register_task(Task(..., env_id={env.spec.id!r}, horizon=1000))'
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
        raise UserError(f'{task.name}: {data.parent} is absent; run: minari download {name}')
    dataset = MinariDataset(data) if data.is_dir() else None
    if dataset is None or dataset.env_spec is None:
        raise UserError(
            f'{task.name}: {name} records no environment; name one: register_task(Task(..., env_id=...))'
        )
    return dataset.recover_environment(eval_env=True, **kwargs)
