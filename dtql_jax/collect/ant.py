"""The antmaze behaviour: a goal-reaching policy of D4RL's ant walks from goal to goal.

An episode starts in a random free cell and has a goal in another one. The policy follows a shortest
way of cells, found breadth first: it heads for the next cell's centre until it is within a metre,
then for the one after, and at last for the goal. Each time it reaches the goal, a new goal is
drawn, as in OGBench's navigate sets, until the task's horizon; an ant that stands at its goal, as
in D4RL's sets, teaches nothing more about the way. Start and goal lie up to a metre from their
cells' centres in each direction. An ant that falls on its back lies there until the episode ends.
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
from dtql_jax.tasks.mazes import CELL, Cell, Map, way_to
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError

ENVIRONMENT = 'dtql_jax.tasks.simulators:D4RLAntMaze-v0'  # has the ant that the policy was made for
NEXT = 1.0  # metres from a cell's centre within which the policy heads for the next cell
SPREAD = 1.0  # metres, of starts and goals from their cells' centres, in each direction
HEADING = 10.0  # length of the direction that the policy observes

# Layers of the policy's file, each with `.w` [out, in] and `.b` [out]; 29 inputs, 8 outputs.
LAYERS, INPUT, OUTPUT = ('fc0', 'fc1', 'last_fc'), 29, 8

Weights = tuple[tuple[np.ndarray, np.ndarray], ...]  # ([in, out], [out]) of each layer


@dataclasses.dataclass(frozen=True)
class AntWalk(Behaviour):
    """Walking from goal to goal by the policy with `weights`.

    Raises:
        UserError: the task has another ant.
    """

    weights: Weights = dataclasses.field(kw_only=True)

    algorithm = 'goal-reaching ant with breadth-first waypoints'

    def __post_init__(self) -> None:
        if self.task.env_id != ENVIRONMENT:
            name = self.task.name if self.task.family == 'antmaze' else 'antmaze-umaze'
            raise UserError(
                f"{self.task.name}: the policy's file is for D4RL's ant, and this task has another "
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

    def open(self) -> tuple[gym.Env, '_AntController']:
        maze = _Maze(self.task.env_kwargs['maze_map'])
        env = gym.make(self.env_spec()).unwrapped  # `record` counts the steps
        return _FromGoalToGoal(env, maze), _AntController(maze, self.weights)


def ant_walk(task: Task, path: Path, noise: float) -> AntWalk:
    """Reads the policy at `path` and walks by it in `task`.

    Raises:
        UserError: the file holds no policy of the ant, or the task has another ant.
    """
    return AntWalk(task, noise, weights=read_weights(path))


def read_weights(path: Path) -> Weights:
    """Reads the layers of a policy's npz file. Pickles in it are not loaded.

    Raises:
        UserError: the file is no such file, or its layers do not fit together.
    """
    arrays = _read_layers(path)
    weights, width = [], INPUT
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


def _read_layers(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a policy's file by name, such as 'fc0.w'."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for layer in LAYERS for key in (f'{layer}.w', f'{layer}.b')}
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


class _Maze:
    """The free cells of a map, numbered, in the simulator's frame, whose origin is the cell `r`."""

    def __init__(self, maze_map: Map):
        cells = np.array(maze_map, dtype=object)
        free = np.argwhere(cells != 1)
        self.centres = (free - np.argwhere(cells == 'r')[0])[:, ::-1] * CELL['antmaze']  # [N, 2]
        names: list[Cell] = [(row, column) for row, column in free.tolist()]
        number = {cell: i for i, cell in enumerate(names)}
        # ahead[target][cell] is the next cell on a shortest way from `cell` to `target`.
        self.ahead = [
            {number[cell]: number[after] for cell, after in way_to(target, names).items()}
            for target in names
        ]

    def cell(self, xy: np.ndarray) -> int:
        """The free cell whose centre is nearest to `xy`."""
        return int(np.argmin(np.square(self.centres - xy).sum(axis=1)))

    def draw(self, rng: np.random.Generator, other_than: int | None = None) -> np.ndarray:
        """A random position in a random free cell."""
        cells = [i for i in range(len(self.centres)) if i != other_than]
        return self.centres[rng.choice(cells)] + rng.uniform(-SPREAD, SPREAD, 2)


class _FromGoalToGoal(gym.Wrapper):
    """Draws starts and goals. After a success it draws a new goal, observed from the next step."""

    def __init__(self, env: gym.Env, maze: _Maze):
        super().__init__(env)
        self._maze = maze

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        ant: Any = self.env
        qpos = ant.data.qpos.copy()
        qpos[:2] = self._maze.draw(ant.np_random)
        ant.set_state(qpos, ant.data.qvel.copy())
        self._new_goal(qpos[:2])
        obs = {**obs, 'achieved_goal': qpos[:2], 'desired_goal': ant.goal.copy()}
        return obs, {**info, 'success': False}

    def step(self, action: np.ndarray) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        if info['success']:
            self._new_goal(obs['achieved_goal'])
        return obs, reward, terminated, truncated, info

    def _new_goal(self, xy: np.ndarray) -> None:
        """Draws a goal in another cell than that of `xy`."""
        ant: Any = self.env
        ant.goal = self._maze.draw(ant.np_random, other_than=self._maze.cell(xy))
        ant.update_target_site_pos()


class _AntController:
    """Leads the policy, a network in plain NumPy, along the way to the goal."""

    def __init__(self, maze: _Maze, weights: Weights):
        self._maze, self._weights = maze, weights

    def begin(self, obs: dict[str, np.ndarray], rng: np.random.Generator) -> None:
        self._goal: np.ndarray | None = None

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
        """The network: relu between layers, tanh at the end."""
        *hidden, (w, b) = self._weights
        for weight, bias in hidden:
            x = np.maximum(x @ weight + bias, 0)
        return np.tanh(x @ w + b)
