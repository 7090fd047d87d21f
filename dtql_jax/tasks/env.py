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
from gymnasium.wrappers import ClipAction

from dtql_jax.tasks import recorded
from dtql_jax.tasks.mazes import REACHED
from dtql_jax.tasks.repeats import check_running, own_draws
from dtql_jax.tasks.spaces import action_bound, flatten, leaf_paths, same_bound
from dtql_jax.tasks.task import Task
from dtql_jax.types import Spec, UserError, outside, why


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
        spec: the registry's entry, which this process may not know; of `task.env_id`, if there is
            one.
        **kwargs: arguments of `gymnasium.make`, such as `render_mode='rgb_array'`.

    Raises:
        UserError: a package is missing, the environment is unknown or has no horizon, or agents
            cannot use its spaces.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # "a newer version exists": the data's version counts
        env = _build(task, spec, kwargs)
    if env.spec is not None and env.spec.max_episode_steps in (None, -1):  # the latter: none
        named = f'datasets={task.datasets}' if task.env_id is None else f'env_id={env.spec.id!r}'
        raise UserError(
            f'{task.name}: its environment never ends; set a horizon: '
            f'register_task(Task(..., {named}, horizon=1000))'
        )
    check_running(env, task.name)
    env = _TaskEnv(env, task, flat)
    action_bound(env.action_space, task.name)
    return env


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
    return EnvMaker(task, gym.registry.get(task.env_id or recorded.played_id(task)))


def check_env(task: Task, spec: Spec, whose: str = 'the data') -> None:
    """Raises UserError where the task's environment does not fit `whose` sizes and action box."""
    cure = 'is it the data of another task?'
    if whose != 'the data':
        cure = 'the policy was trained for another environment: mend env_id or env_kwargs'
    with contextlib.closing(make_env(task)) as env:
        sizes = {
            'observation': (env.observation_space.shape, spec.obs_dim),
            'action': (env.action_space.shape, spec.action_dim // spec.horizon_length),
        }
        bound = action_bound(env.action_space, task.name)
    for what, (shape, size) in sizes.items():
        (simulated,) = shape or (0,)
        if simulated != size:
            raise UserError(
                f'{task.name}: the environment has {what} size {simulated}, {whose} {size}: {cure}'
            )
    if not same_bound(bound, spec.max_action):
        if whose == 'the data':
            cure += ' If the two mean the same, stretch those of the data: `rescale_actions`=true'
        raise UserError(
            f'{task.name}: the environment has actions in ±{bound:g}, {whose} in '
            f'±{spec.max_action:g}: {cure}'
        )


class _TaskEnv(gym.Wrapper):
    """Applies the task: one goal, an end at success, and flat observations if `flat`."""

    def __init__(self, env: gym.Env, task: Task, flat: bool):
        super().__init__(env)
        self._task, self._goal, self._flat = task, task.fixed_goal, flat
        self._paths = leaf_paths(env.observation_space, task.observed_keys)
        self._draws = own_draws(env)
        self.action_space = _acted_in(env)
        if flat:
            size = self._seen(env.observation_space.sample()).size
            self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def _seen(self, obs: Any) -> Any:
        return flatten(obs, self._paths) if self._flat else obs

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        with self._draws(seed):
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
        with self._draws(None):
            obs, reward, terminated, truncated, info = self.env.step(action)
        terminated = bool(terminated or (self._task.success_ends and info['success']))
        return self._seen(obs), float(reward), terminated, truncated, info

    def close(self) -> None:
        with contextlib.suppress(Exception):  # all that it was needed for is there
            self.env.close()


def _acted_in(env: gym.Env) -> gym.Space:
    """The space of actions; of a `ClipAction`, whose own has no bounds, the box it clips to."""
    inner = env
    while isinstance(inner, gym.Wrapper) and inner.action_space is env.action_space:
        if isinstance(inner, ClipAction):
            return _acted_in(inner.env)
        inner = inner.env
    return env.action_space


def _build(task: Task, spec: EnvSpec | None, kwargs: dict[str, Any]) -> gym.Env:
    kwargs = {'disable_env_checker': True, **kwargs}
    if task.horizon is not None:
        kwargs['max_episode_steps'] = task.horizon
    if task.env_id is None:
        env = recorded.recover(task, kwargs, spec)
    else:
        cure = 'mend env_id and env_kwargs of the task, or the environment'
        with outside(f'{task.name}: cannot make its environment', cure), _installed(task):
            env = _make(task, spec, kwargs)
            _ = env.observation_space, env.action_space  # which a user's may lack
    for attribute in ('tmp_xml_file_path', 'fullpath'):
        # Each maze writes its model to a temporary file, which nothing reads again.
        model = Path(str(getattr(env.unwrapped, attribute, '')))
        if model.parent == Path(tempfile.gettempdir()):
            model.unlink(missing_ok=True)
    return env


def _make(task: Task, spec: EnvSpec | None, kwargs: dict[str, Any]) -> gym.Env:
    """The environment `task.env_id`, or that of `spec`."""
    name = str(task.env_id)
    if spec is None and ':' not in name and name not in gym.registry:
        with contextlib.redirect_stderr(io.StringIO()):  # its import prints a note on other tasks
            import gymnasium_robotics
        gym.register_envs(gymnasium_robotics)
    if task.success_timing is not None:
        kwargs = {'success_timing': task.success_timing, **kwargs}
    return gym.make(spec or name, **task.env_kwargs, **kwargs)


@contextlib.contextmanager
def _installed(task: Task) -> Iterator[None]:
    """Turns the lack of a package into a UserError with the command that installs it."""
    try:
        yield
    except (ImportError, gym.error.DependencyNotInstalled) as error:
        cure = 'try: pip install gymnasium-robotics "gymnasium[mujoco]"'
        if task.source == 'ogbench':
            cure = "OGBench is an extra: pip install -e '.[ogbench]'"
        raise UserError(f'{task.name}: {why(error)}; {cure}') from error
