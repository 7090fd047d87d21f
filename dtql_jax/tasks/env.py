"""A task's evaluation environment: `make_env` here, `env_maker` for worker processes.

Worker processes import this module, so it imports no jax.
"""

import contextlib
import dataclasses
import io
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from dtql_jax.tasks.mazes import REACHED
from dtql_jax.tasks.spaces import action_bound, flatten, leaf_paths
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError


def minari_folder(name: str) -> Path:
    """The folder of a Minari dataset, given its id or the folder itself. It may not exist."""
    if Path(name, 'data').is_dir():
        return Path(name)
    from minari.storage import get_dataset_path  # takes 0.25 s, and few tasks need it

    return get_dataset_path(name)


def make_env(
    task: Task, *, flat: bool = True, spec: EnvSpec | None = None, **kwargs: Any
) -> gym.Env:
    """Makes the evaluation environment of `task`.

    Episodes are functions of `reset(seed=...)` and the actions. Mazes report `info['success']` at
    every step.

    Args:
        task: the task.
        flat: whether observations are laid out as in transitions, float32 `[O]`. Otherwise they are
            those of the simulator, as a dataset of the task holds them.
        spec: made in place of `task.env_id`, which this process may not know.
        **kwargs: arguments of `gymnasium.make`, such as `render_mode='rgb_array'`.

    Raises:
        UserError: a package is missing, the environment is unknown or has no horizon, or agents
            cannot use its spaces.
    """
    with _explained(task):
        env = _build(task, spec, kwargs)
    if env.spec is not None and env.spec.max_episode_steps in (None, -1):  # the latter: none
        raise UserError(
            f'{task.name}: its environment never ends; set a horizon: '
            f'register_task(Task(..., env_id={env.spec.id!r}, horizon=1000))'
        )
    action_bound(env.action_space, task.name)
    return _TaskEnv(env, task, flat)


@dataclasses.dataclass(frozen=True)
class EnvMaker:
    """Makes a task's environment when called, in this process or in a worker.

    It carries the environment's registry entry, so that workers can make an environment that only
    this process has registered.
    """

    task: Task
    spec: EnvSpec | None  # None: a worker finds the environment by itself

    def __call__(self) -> gym.Env:
        return make_env(self.task, spec=self.spec)


def env_maker(task: Task) -> EnvMaker:
    """The maker of the task's evaluation environment, for an `EnvPool`."""
    return EnvMaker(task, gym.registry.get(task.env_id or ''))


class _TaskEnv(gym.Wrapper):
    """Applies the task: one goal, an end at success, and flat observations if `flat`."""

    def __init__(self, env: gym.Env, task: Task, flat: bool):
        super().__init__(env)
        self._task, self._goal, self._flat = task, task.fixed_goal, flat
        self._paths = leaf_paths(env.observation_space, task.observed_keys)
        if flat:
            size = self._seen(env.observation_space.sample()).size
            self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def _seen(self, obs: Any) -> Any:
        return flatten(obs, self._paths) if self._flat else obs

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        if self._goal is not None:
            # The simulator moves the goal by up to a quarter of a cell; the start's noise stays.
            maze: Any = self.unwrapped
            maze.goal = self._goal.copy()
            maze.update_target_site_pos()
            distance = np.linalg.norm(obs['achieved_goal'] - self._goal)
            info['success'] = bool(distance <= REACHED[self._task.family])
            obs = {**obs, 'desired_goal': self._goal.copy()}
        return self._seen(obs), info

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        terminated = bool(terminated or (self._task.success_ends and info['success']))
        return self._seen(obs), float(reward), terminated, truncated, info


@contextlib.contextmanager
def _explained(task: Task) -> Iterator[None]:
    """Turns what gymnasium raises into UserError, and hides its warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # "a newer version exists": the data's version counts
            yield
    except (ImportError, gym.error.DependencyNotInstalled) as error:
        raise UserError(f'{task.name}: {error}; {_cure(task)}') from error
    except gym.error.Error as error:
        raise UserError(f'{task.name}: cannot make its environment: {error}') from error


def _build(task: Task, spec: EnvSpec | None, kwargs: dict[str, Any]) -> gym.Env:
    kwargs = {'disable_env_checker': True, **kwargs}
    if task.horizon is not None:
        kwargs['max_episode_steps'] = task.horizon
    if task.env_id is None:
        return _recover(task, kwargs)
    if spec is None and ':' not in task.env_id and task.env_id not in gym.registry:
        with contextlib.redirect_stderr(io.StringIO()):  # its import prints a note on other tasks
            import gymnasium_robotics
        gym.register_envs(gymnasium_robotics)
    env = gym.make(spec or task.env_id, **task.env_kwargs, **kwargs)
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
    """The evaluation environment that the task's first dataset records."""
    from minari import MinariDataset

    if not task.datasets or task.source == 'arrays':
        raise UserError(
            f'{task.name}: it has no environment, and no dataset that records one; name one: '
            'register_task(Task(..., env_id=...))'
        )
    name, data = task.datasets[0], minari_folder(task.datasets[0]) / 'data'
    if not (data.is_dir() or Path(name).is_file()):
        raise UserError(f'{task.name}: {data.parent} is absent; run: minari download {name}')
    dataset = MinariDataset(data) if data.is_dir() else None
    if dataset is None or dataset.env_spec is None:
        raise UserError(
            f'{task.name}: {name} records no environment; name one: '
            'register_task(Task(..., env_id=...))'
        )
    return dataset.recover_environment(eval_env=True, **kwargs)
