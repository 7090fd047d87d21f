"""The antmaze behaviour: a goal-reaching policy of D4RL's ant walks from goal to goal.

An episode starts in a random free cell. A shortest way of cells, breadth first, leads to a goal in
another one; the policy heads for the next cell's centre, and for the one after that as soon as it
is within a metre, at last for the goal itself. Where the goal is reached another is drawn, as in
OGBench's navigate sets, until the task's horizon: an ant that stands at its goal, as in D4RL's
sets, teaches no more about the way. Start and goal lie up to a metre from their cells' centres in
each direction. An ant that falls on its back lies there until the episode's end.
"""

import dataclasses
import hashlib
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from dtql_jax.collect.base import Behaviour, evaluation_spec
from dtql_jax.tasks.mazes import CELL, Map, way_to
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError

ENVIRONMENT = (
    'dtql_jax.tasks.simulators:D4RLAntMaze-v0'  # with the ant that the policy was made for
)
NEXT = 1.0  # metres to a cell's centre, from where the next one is headed for
SPREAD = 1.0  # metres, of starts and goals about their cells' centres in each direction
HEADING = 10.0  # length of the direction that the policy is shown

# Layers of the policy's file, each with `.w` [out, in] and `.b` [out]; 29 numbers in, 8 out.
LAYERS, INPUT, OUTPUT = ('fc0', 'fc1', 'last_fc'), 29, 8

Weights = tuple[tuple[np.ndarray, np.ndarray], ...]  # ([in, out], [out]) of each layer


@dataclasses.dataclass(frozen=True)
class AntWalk(Behaviour):
    """Walking from goal to goal by the policy of `weights`. UserError for other ants' tasks."""

    weights: Weights = dataclasses.field(kw_only=True)

    algorithm = 'goal-reaching ant with breadth-first waypoints'

    def __post_init__(self):
        if self.task.env_id != ENVIRONMENT:
            name = self.task.name if self.task.family == 'antmaze' else 'antmaze-umaze'
            raise UserError(
                f"{self.task.name}: the policy's file is for D4RL's ant, and here is another "
                f"(gymnasium's has motors five times as strong): `env`={name}-v2"
            )

    @property
    def description(self) -> str:
        return ' '.join(__doc__.split()) + (
            f' Gaussian noise of deviation {self.noise:g} is added to the actions.'
        )

    def settings(self) -> dict[str, Any]:
        digest = hashlib.sha256(b''.join(x.tobytes() for layer in self.weights for x in layer))
        return {'policy': self.algorithm, 'policy_sha256': digest.hexdigest()}

    def env_spec(self) -> EnvSpec:
        return evaluation_spec(self.task)

    def open(self) -> tuple[gym.Env, '_Walker']:
        maze = _Maze(self.task.env_kwargs['maze_map'])
        env = gym.make(self.env_spec()).unwrapped  # whoever records counts the steps
        return _FromGoalToGoal(env, maze), _Walker(maze, self.weights)


def ant_walk(task: Task, path: Path, noise: float) -> AntWalk:
    """Walking by the policy of a file. Raises UserError for a file that holds none."""
    return AntWalk(task, noise, weights=read_weights(path))


def read_weights(path: Path) -> Weights:
    """The layers of a policy's npz file; UserError where they do not fit. Pickles are not read."""
    weights, width = [], INPUT
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for layer in LAYERS for key in (f'{layer}.w', f'{layer}.b')}
    except KeyError as error:
        key = str(error).strip('\'"').split()[0]
        raise UserError(
            f'{path}: no field {key!r}; a policy of the ant has {", ".join(LAYERS)}, each with '
            '.w and .b'
        ) from None
    except (OSError, ValueError, AttributeError, TypeError, EOFError, zipfile.BadZipFile) as error:
        reason = ' '.join(str(error).split())
        raise UserError(
            f'{path}: not an npz file of plain arrays ({reason}); save it with numpy.savez'
        ) from error
    for layer in LAYERS:
        w, b = arrays[f'{layer}.w'], arrays[f'{layer}.b']
        out = OUTPUT if layer == LAYERS[-1] else b.size
        for name, array, shape in (('b', b, (out,)), ('w', w, (out, width))):
            if array.shape != shape or not np.issubdtype(array.dtype, np.floating):
                raise UserError(
                    f'{path}: {layer}.{name} is {array.dtype} of shape {array.shape}; it must be '
                    f'floats of shape {shape}'
                )
            if not np.isfinite(array).all():
                raise UserError(f'{path}: {layer}.{name} has a number that is not finite')
        weights.append((np.ascontiguousarray(w.T, np.float32), b.astype(np.float32)))
        width = out
    return tuple(weights)


class _Maze:
    """The free cells, by number, in the simulator's coordinates: the origin is the cell `r`."""

    def __init__(self, maze_map: Map):
        cells = np.array(maze_map, dtype=object)
        free = np.argwhere(cells != 1)
        self.centres = (free - np.argwhere(cells == 'r')[0])[:, ::-1] * CELL['antmaze']  # [N, 2]
        names = [tuple(cell) for cell in free.tolist()]
        number = {cell: i for i, cell in enumerate(names)}
        # ahead[target][cell]: the next cell on a shortest way
        self.ahead = [
            {number[cell]: number[after] for cell, after in way_to(target, names).items()}
            for target in names
        ]

    def cell(self, xy: np.ndarray) -> int:
        """The free cell whose centre is nearest."""
        return int(np.argmin(np.square(self.centres - xy).sum(axis=1)))

    def draw(self, rng: np.random.Generator, other_than: int | None = None) -> np.ndarray:
        """A place in a random free cell."""
        cells = [i for i in range(len(self.centres)) if i != other_than]
        return self.centres[rng.choice(cells)] + rng.uniform(-SPREAD, SPREAD, 2)


class _FromGoalToGoal(gym.Wrapper):
    """Random starts and goals; a new goal, shown one step later, where one is reached."""

    def __init__(self, env: gym.Env, maze: _Maze):
        super().__init__(env)
        self._maze = maze

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        obs, info = self.env.reset(seed=seed, options=options)
        ant = self.env
        qpos = ant.data.qpos.copy()
        qpos[:2] = self._maze.draw(ant.np_random)
        ant.set_state(qpos, ant.data.qvel.copy())
        self._new_goal(qpos[:2])
        obs = {**obs, 'achieved_goal': qpos[:2], 'desired_goal': ant.goal.copy()}
        return obs, {**info, 'success': False}

    def step(self, action: np.ndarray):
        obs, *rest, info = self.env.step(action)
        if info['success']:
            self._new_goal(obs['achieved_goal'])
        return obs, *rest, info

    def _new_goal(self, xy: np.ndarray) -> None:
        self.env.goal = self._maze.draw(self.env.np_random, other_than=self._maze.cell(xy))
        self.env.update_target_site_pos()


class _Walker:
    """The policy, in plain NumPy, and the way to the goal that it is led along."""

    def __init__(self, maze: _Maze, weights: Weights):
        self._maze, self._weights = maze, weights

    def begin(self, obs: dict[str, np.ndarray], rng: np.random.Generator) -> None:
        self._goal = None

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        xy, goal, centres = obs['achieved_goal'], obs['desired_goal'], self._maze.centres
        if self._goal is None or (goal != self._goal).any():
            self._goal, self._last = goal, self._maze.cell(goal)
            self._ahead = self._maze.ahead[self._last]
            self._next = self._ahead[self._maze.cell(xy)]
        if self._next != self._last and np.linalg.norm(centres[self._next] - xy) < NEXT:
            self._next = self._ahead[self._next]
        way = (goal if self._next == self._last else centres[self._next]) - xy
        heading = HEADING * way / max(np.linalg.norm(way), 1e-6)
        return self._forward(np.concatenate([obs['observation'], heading], dtype=np.float32))

    def _forward(self, x: np.ndarray) -> np.ndarray:
        *hidden, (w, b) = self._weights
        for weight, bias in hidden:
            x = np.maximum(x @ weight + bias, 0)
        return np.tanh(x @ w + b)
