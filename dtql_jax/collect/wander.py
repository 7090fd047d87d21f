"""The pointmaze behaviour: wandering.

The wanderer starts in a random cell and walks to one nearby cell after another, more often than not
back to the cell that it came from. A damped spring pulls it along the shortest way from cell to
cell; each target draws a new stiffness, and thus a new speed. Correlated noise disturbs it, and now
and then it holds a random action for a while. It ignores the evaluation's goal, so a clone wanders
too, while the data cover every piece of the direct way.
"""

import dataclasses
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from dtql_jax.collect.base import Behaviour, evaluation_spec, without_marks
from dtql_jax.tasks.mazes import Cell, way_to
from dtql_jax.types import UserError

STIFFNESS = (2.0, 8.0)  # range of the spring's stiffness, in action per metre
DAMPING = 1.0  # in action per metre/second
NOISE, MEMORY = 0.5, 0.9  # deviation of the noise on actions; its correlation from step to step
BURST_CHANCE, BURST = 0.006, 20  # chance per step that a random action starts; steps it lasts
RETURN = 0.6  # chance that the next target is the cell where the last leg began
ARRIVED = 0.3  # metres from the target's centre, in each direction, that count as arrived


@dataclasses.dataclass(frozen=True)
class Wander(Behaviour):
    """Wandering in a pointmaze.

    Raises:
        UserError: the task is no pointmaze, or `noise` is not 0.
    """

    algorithm = 'wandering waypoint controller'

    def __post_init__(self) -> None:
        if self.task.family != 'pointmaze':
            raise UserError(
                f'{self.task.name}: only pointmazes have a behaviour of their own; name a policy: '
                '`policy`=RUN_DIR, a trained run, or in antmazes `policy`=FILE.npz'
            )
        if self.noise:
            raise UserError(f'`noise`={self.noise}: wandering has its own noise: leave it out')

    @property
    def description(self) -> str:
        return ' '.join(__doc__.split())

    def settings(self) -> dict[str, Any]:
        return {'policy': self.algorithm}

    def env_spec(self) -> EnvSpec:
        spec = evaluation_spec(self.task)
        spec.kwargs['maze_map'] = without_marks(spec.kwargs['maze_map'])
        return spec

    def open(self) -> tuple[gym.Env, '_WanderController']:
        spec = self.env_spec()
        env: Any = gym.make(spec).unwrapped  # `record` counts the steps
        assert spec.max_episode_steps is not None  # `evaluation_spec` has set it
        return env, _WanderController(env.maze.maze_map, spec.max_episode_steps)


class _WanderController:
    """Steers the wanderer, in plain floats: arrays of two numbers cost more than the simulator."""

    def __init__(self, maze: list[list[int]], horizon: int):
        self._horizon = horizon
        self._cells = [
            (i, j) for i, row in enumerate(maze) for j, cell in enumerate(row) if cell != 1
        ]
        self._middle = (len(maze) / 2, len(maze[0]) / 2)
        self._ahead = {cell: way_to(cell, self._cells) for cell in self._cells}
        # Near targets make it diffuse, so that a walk across the whole maze stays rare.
        self._near = {
            cell: [c for c in self._cells if self._distance(c, cell) <= len(self._cells) // 3]
            for cell in self._cells
        }

    def _distance(self, start: Cell, target: Cell) -> int:
        """Length of a shortest way, in cells."""
        steps = 0
        while start != target:
            start, steps = self._ahead[target][start], steps + 1
        return steps

    def begin(self, obs: dict[str, np.ndarray], rng: np.random.Generator) -> None:
        """Draws the first target, the noise and the bursts of the episode."""
        self._rng = rng
        self._start = self._cell(*obs['achieved_goal'].tolist())
        self._aim(self._start)
        self._noise: tuple[float, ...] = (0.0, 0.0)
        kicks = NOISE * (1 - MEMORY**2) ** 0.5 * rng.normal(size=(self._horizon, 2))
        self._kicks = iter(kicks.tolist())
        self._bursts = iter((rng.random(self._horizon) < BURST_CHANCE).tolist())
        self._held = 0

    def _aim(self, cell: Cell) -> None:
        """Draws the target that follows `cell`, and the stiffness of the way there."""
        near = self._near[cell]
        start, self._start = self._start, cell
        back = self._rng.random() < RETURN
        self._target = start if back else near[self._rng.integers(len(near))]
        self._stiffness = self._rng.uniform(*STIFFNESS)

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """The next action `[2]`, from position and velocity in metres and seconds."""
        return np.array(self._pull(*obs['observation'].tolist()), np.float32)

    def _pull(self, x: float, y: float, vx: float, vy: float) -> tuple[float, float]:
        """The action at a position and a velocity."""
        self._noise = tuple(
            MEMORY * old + kick for old, kick in zip(self._noise, next(self._kicks), strict=True)
        )
        if max(map(abs, self._offset(self._target, x, y))) < ARRIVED:
            self._aim(self._target)
        if next(self._bursts):
            self._held, self._action = BURST, tuple(self._rng.uniform(-1, 1, 2).tolist())
        if self._held:
            self._held -= 1
            return self._action
        ahead = self._ahead[self._target].get(self._cell(x, y), self._target)
        dx, dy = self._offset(ahead, x, y)
        pull_x = self._stiffness * dx - DAMPING * vx + self._noise[0]
        pull_y = self._stiffness * dy - DAMPING * vy + self._noise[1]
        return min(max(pull_x, -1.0), 1.0), min(max(pull_y, -1.0), 1.0)

    def _cell(self, x: float, y: float) -> Cell:
        """The cell of a position."""
        rows, columns = self._middle
        return int(rows - y), int(x + columns)

    def _offset(self, cell: Cell, x: float, y: float) -> tuple[float, float]:
        """From a position to the centre of a cell, in metres."""
        rows, columns = self._middle
        return cell[1] + 0.5 - columns - x, rows - cell[0] - 0.5 - y
