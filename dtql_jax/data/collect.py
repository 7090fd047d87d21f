"""Collectors that make a task's data on the spot, in the real simulator, as an ordinary Minari set.

The pointmaze behaviour wanders: from a random cell it walks to one nearby cell after another, more
often than not back to where it came from. A damped spring pulls it along the shortest way from
cell to cell, with a stiffness, and thus a speed, drawn anew for each target. Correlated noise
pushes it about, and now and then it holds a random action for a while. It never knows the
evaluation's goal: a clone dithers as it does, while the data hold every piece of the direct way.
"""

import collections
import contextlib
import copy
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium as gym
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from minari.namespace import create_namespace, list_local_namespaces
from minari.storage import get_dataset_path

from dtql_jax.tasks import Task, make_env
from dtql_jax.types import UserError

STEPS = {'pointmaze-umaze': 90_000, 'pointmaze-medium': 180_000, 'pointmaze-large': 320_000}
STIFFNESS, DAMPING = (2.0, 8.0), 1.0  # of the spring, in action per metre and per metre/second
NOISE, MEMORY = 0.5, 0.9  # deviation of the noise on actions, its correlation from step to step
BURST_CHANCE, BURST = 0.006, 20  # a random action starts with that chance, and lasts so many steps
RETURN = 0.6  # chance that the next target is the cell where the last leg began
ARRIVED = 0.3  # metres to the target's centre, in each direction

Cell = tuple[int, int]


def collect_pointmaze(task: Task, steps: int | None = None, seed: int = 0) -> Path:
    """Write at least `steps` steps of wandering as the task's Minari set; returns its folder.

    Episodes start in a random cell and last the task's horizon. The same seed gives the same data.
    The set appears whole or not at all. Raises UserError where it cannot be written.
    """
    began = time.perf_counter()
    # Without the marked cells of the evaluation's map any cell may be an episode's start or goal.
    unmarked = [[int(cell == 1) for cell in row] for row in task.env_kwargs['maze_map']]
    env = make_env(task)
    evaluation, horizon = copy.deepcopy(env.unwrapped.spec), env.spec.max_episode_steps
    evaluation.max_episode_steps = horizon
    count = -(-(steps or STEPS.get(task.name, 100_000)) // horizon)
    spec = copy.deepcopy(evaluation)
    spec.kwargs['maze_map'] = unmarked
    env = gym.make(spec).unwrapped
    env.reset(seed=seed)
    walker = _Walker(unmarked, np.random.default_rng(seed))
    with _written(task.datasets[0], spec, evaluation) as storage:
        storage.update_episodes(_episode(env, walker, horizon) for _ in range(count))
    path, spent = get_dataset_path(task.datasets[0]), time.perf_counter() - began
    print(
        f'collected {task.datasets[0]}: {count * horizon:,} steps, {count} episodes, in '
        f'{spent:.1f} s ({count * horizon / spent:,.0f} steps/s), into {path}',
        flush=True,
    )
    return path


COLLECTORS: dict[str, Callable[[Task], Path]] = {'pointmaze': collect_pointmaze}


class _Walker:
    """The controller. Plain floats: arrays of two numbers would cost more than the simulator."""

    def __init__(self, maze: list[list[int]], rng: np.random.Generator):
        self._rng = rng
        self._cells = [
            (i, j) for i, row in enumerate(maze) for j, cell in enumerate(row) if cell != 1
        ]
        self._middle = (len(maze) / 2, len(maze[0]) / 2)
        self._ahead = {cell: _way_to(cell, self._cells) for cell in self._cells}
        # Targets close to the last one make it diffuse: a walk across the whole maze stays rare.
        self._near = {
            cell: [c for c in self._cells if self._distance(c, cell) <= len(self._cells) // 3]
            for cell in self._cells
        }

    def _distance(self, start: Cell, target: Cell) -> int:
        steps = 0
        while start != target:
            start, steps = self._ahead[target][start], steps + 1
        return steps

    def begin(self, x: float, y: float, horizon: int) -> None:
        """Start an episode of at most `horizon` steps: new target, noise and bursts."""
        self._start = self._cell(x, y)
        self._aim(self._start)
        self._noise = (0.0, 0.0)
        self._kicks = iter(
            (NOISE * (1 - MEMORY**2) ** 0.5 * self._rng.normal(size=(horizon, 2))).tolist()
        )
        self._bursts = iter((self._rng.random(horizon) < BURST_CHANCE).tolist())
        self._held = 0

    def _aim(self, cell: Cell) -> None:
        near = self._near[cell]
        start, self._start = self._start, cell
        back = self._rng.random() < RETURN
        self._target = start if back else near[self._rng.integers(len(near))]
        self._stiffness = self._rng.uniform(*STIFFNESS)

    def act(self, x: float, y: float, vx: float, vy: float) -> tuple[float, float]:
        """Next action, in the box, at a position and velocity in metres and seconds."""
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
        rows, columns = self._middle
        return int(rows - y), int(x + columns)

    def _offset(self, cell: Cell, x: float, y: float) -> tuple[float, float]:
        rows, columns = self._middle
        return cell[1] + 0.5 - columns - x, rows - cell[0] - 0.5 - y


def _way_to(target: Cell, cells: list[Cell]) -> dict[Cell, Cell]:
    """For each cell the next one on a shortest way to `target`, by breadth-first search."""
    ahead, queue = {target: target}, collections.deque([target])
    while queue:
        i, j = queue.popleft()
        for cell in ((i, j + 1), (i + 1, j), (i, j - 1), (i - 1, j)):
            if cell in cells and cell not in ahead:
                ahead[cell] = (i, j)
                queue.append(cell)
    return ahead


def _episode(env: gym.Env, walker: _Walker, horizon: int) -> EpisodeBuffer:
    obs, _ = env.reset()
    walker.begin(*obs['achieved_goal'].tolist(), horizon)
    seen, actions, rewards = [obs], [], []
    for _ in range(horizon):
        actions.append(np.array(walker.act(*obs['observation'].tolist()), np.float32))
        obs, reward, *_ = env.step(actions[-1])
        seen.append(obs)
        rewards.append(reward)
    return EpisodeBuffer(
        observations={key: np.stack([obs[key] for obs in seen]) for key in obs},
        actions=np.stack(actions),
        rewards=np.array(rewards),
        terminations=np.zeros(horizon, bool),
        truncations=np.arange(1, horizon + 1) == horizon,
        infos={},
    )


@contextlib.contextmanager
def _written(
    dataset: str, env: gym.envs.registration.EnvSpec, evaluation: gym.envs.registration.EnvSpec
) -> Iterator[MinariStorage]:
    """Storage in a hidden folder, which takes its place among the datasets when it is complete."""
    try:
        final = get_dataset_path(dataset)
        final.parent.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(prefix='.collecting-', dir=get_dataset_path()))
    except OSError as error:
        raise UserError(
            f'cannot write dataset {dataset} ({error}); point to a folder of yours: '
            'export MINARI_DATASETS_PATH=/path/to/datasets'
        ) from error
    try:
        storage = MinariStorage.new(hidden / 'data', env_spec=env)
        yield storage
        storage.update_metadata(
            {
                'dataset_id': dataset,
                'eval_env_spec': evaluation.to_json(),
                'algorithm_name': 'wandering waypoint controller',
                'author': {'dtql_jax'},
                'description': ' '.join(__doc__.split()),
                'minari_version': minari.__version__,
            }
        )
        namespace = dataset.rpartition('/')[0]
        if namespace and namespace not in list_local_namespaces():
            create_namespace(namespace)
        with contextlib.suppress(OSError):  # another run was faster: same data
            os.rename(hidden, final)
        if not (final / 'data').is_dir():
            raise UserError(f'cannot move the collected dataset {dataset} to {final}')
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
