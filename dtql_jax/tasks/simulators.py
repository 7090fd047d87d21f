"""D4RL's ant maze and kitchen, of which gymnasium and gymnasium-robotics only have lookalikes.

An environment of the same name and sizes may still be another simulator. gymnasium's ant has motors
five times as strong as D4RL's, gymnasium-robotics mirrors D4RL's mazes, and its kitchen observes
velocities where D4RL's observes the goal. Agents that learn from D4RL's own files are evaluated in
these:

```python
gym.make('dtql_jax.tasks.simulators:D4RLAntMaze-v0', maze_map=MAPS['medium'])
gym.make('dtql_jax.tasks.simulators:D4RLKitchen-v0', tasks=('microwave', 'kettle'))
```

Worker processes import this module, so it imports no jax.
"""

import contextlib
import io
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv, mujoco_env

from dtql_jax.tasks.mazes import CELL, REACHED, Map
from dtql_jax.types import UserError

WALL_HEIGHT = 0.5 * CELL['antmaze']  # metres

# Bounds of the noise on the kitchen's object positions, rad or metres `[21]`: a tenth of the noise
# of these joints in the robot's specification, which gymnasium-robotics took over from D4RL.
OBJECT_NOISE = np.repeat([5e-4, 5e-5, 5e-4, 1e-2, 5e-4, 1e-2, 5e-4], [2, 6, 3, 3, 3, 3, 1])


def d4rl_ant() -> 'ET.ElementTree[ET.Element]':
    """D4RL's (and OGBench's) model of the ant: gymnasium's with other numbers.

    Its motors are a fifth as strong, its time step is twice as long, and its contacts are softer.
    """
    tree = ET.parse(Path(mujoco_env.__file__).parent / 'assets' / 'ant.xml')
    _part(tree, 'option').set('timestep', '0.02')
    _part(tree, 'default/geom').attrib.update(solref='.02 1', solimp='.8 .8 .01')
    for motor in tree.iterfind('actuator/motor'):
        motor.set('gear', '30')
    return tree


def _part(tree: 'ET.ElementTree[ET.Element]', path: str) -> ET.Element:
    """The first element at `path`."""
    element = tree.find(path)
    assert element is not None, path
    return element


def _add_maze(tree: 'ET.ElementTree[ET.Element]', walls: np.ndarray) -> None:
    """Adds the goal's mark, and a box at each of `walls`, the xy of their centres `[N, 2]`."""
    world, cell, half = _part(tree, 'worldbody'), CELL['antmaze'] / 2, WALL_HEIGHT / 2
    for x, y in walls:
        ET.SubElement(
            world,
            'geom',
            type='box',
            pos=f'{x} {y} {half}',
            size=f'{cell} {cell} {half}',
            contype='1',
            conaffinity='1',
            rgba='0.7 0.5 0.3 1',
        )
    ET.SubElement(world, 'site', name='target', pos=f'0 0 {half}', size='0.5', rgba='1 0 0 0.7')


class D4RLAntMaze(MujocoEnv):
    """D4RL's ant in D4RL's maze, with the goals of its v2 environments.

    The origin is the centre of the map's `r` cell; x grows with the column and y with the row. The
    ant starts at the origin, with noise on each number of its state. Each episode draws its goal:
    the centre of the `g` cell plus U(0, 1) + U(0, 0.5) metres, in x and in y. The reward is 1 if
    the torso is within `REACHED` of the goal after the step, else 0. Neither the goal nor a fall
    ends an episode.

    `achieved_goal` (xy) followed by `observation` (13 positions, 14 velocities) are D4RL's 29
    numbers in D4RL's order.

    Args:
        maze_map: rows of cells: 1 is a wall, `'r'` the start, `'g'` the goal, 0 another free cell.
        render_mode: gymnasium's.
        **kwargs: arguments of gymnasium's `MujocoEnv`.

    Raises:
        UserError: the map does not have exactly one `r` and one `g`.
    """

    metadata = {  # noqa: RUF012 (gymnasium's convention)
        'render_modes': ['human', 'rgb_array', 'depth_array', 'rgbd_tuple'],
        'render_fps': 10,
    }

    def __init__(self, maze_map: Map, render_mode: str | None = None, **kwargs: Any):
        cells = np.array(maze_map, dtype=object)
        for mark in 'rg':
            if (found := np.count_nonzero(cells == mark)) != 1:
                raise UserError(f'D4RLAntMaze: maze_map has {found} {mark!r} cells, give it one')
        start = np.argwhere(cells == 'r')[0]

        def centres(mark: int | str) -> np.ndarray:
            return (np.argwhere(cells == mark) - start)[:, ::-1] * CELL['antmaze']

        (self._goal_cell,), self.goal = centres('g'), np.zeros(2)
        middle = ((np.array(cells.shape) - 1) / 2 - start)[::-1] * CELL['antmaze']
        from_above = {
            'lookat': np.array([*middle, 0.0]),
            'distance': 1.25 * CELL['antmaze'] * max(cells.shape),
            'elevation': -90.0,
            'azimuth': 90.0,
        }
        boxes: dict[str, gym.Space] = {
            name: gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)
            for name, size in (('achieved_goal', 2), ('desired_goal', 2), ('observation', 27))
        }
        tree = d4rl_ant()
        _add_maze(tree, centres(1))
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder, 'ant.xml')
            tree.write(model)
            super().__init__(
                str(model),
                frame_skip=5,
                observation_space=gym.spaces.Dict(boxes),
                default_camera_config=from_above,
                render_mode=render_mode,
                **kwargs,
            )

    def update_target_site_pos(self) -> None:
        """Draws the mark at `goal`."""
        self.model.site('target').pos[:2] = self.goal

    def reset_model(self) -> Any:
        draw = self.np_random
        self.goal = self._goal_cell + draw.uniform(0, 1, 2) + draw.uniform(0, 0.5, 2)
        self.update_target_site_pos()
        qpos = self.init_qpos + draw.uniform(-0.1, 0.1, self.model.nq)
        qvel = self.init_qvel + 0.1 * draw.standard_normal(self.model.nv)
        self.set_state(qpos, qvel)
        return self._obs()

    def step(self, action: np.ndarray) -> Any:
        self.do_simulation(action, self.frame_skip)
        info = self._get_reset_info()
        return self._obs(), float(info['success']), False, False, info

    def _get_reset_info(self) -> dict[str, Any]:
        distance = np.linalg.norm(self.data.qpos[:2] - self.goal)
        return {'success': bool(distance <= REACHED['d4rl-antmaze'])}

    def _obs(self) -> dict[str, np.ndarray]:
        return {
            'achieved_goal': self.data.qpos[:2].copy(),
            'desired_goal': self.goal.copy(),
            'observation': np.concatenate([self.data.qpos[2:], self.data.qvel]),
        }


class D4RLKitchen(gym.Env):
    """gymnasium-robotics' kitchen with D4RL's observations and D4RL's noise.

    Observations `[60]` are the joint positions of the robot (9) and the objects (21), then the goal
    (30): the positions that the `tasks` ask for, 0 for the others. The reward is the number of
    tasks completed in the step; each task counts once. The episode ends when all are completed.

    The noise on the robot's joints is up to 0.01 rad, ten times gymnasium-robotics'. It moves the
    robot, because its controller starts from the last observed position. The noise on the objects
    is up to `OBJECT_NOISE`; gymnasium-robotics has almost none.

    Args:
        tasks: names of the kitchen's tasks to complete, such as 'kettle'.
        render_mode: gymnasium's.

    Raises:
        ImportError: gymnasium-robotics is not installed.
        UserError: the kitchen has no such task.
    """

    metadata = {'render_modes': ['human', 'rgb_array', 'depth_array'], 'render_fps': 12}  # noqa: RUF012

    def __init__(self, tasks: tuple[str, ...], render_mode: str | None = None):
        with contextlib.redirect_stderr(io.StringIO()):  # its import prints a note on other tasks
            from gymnasium_robotics.envs.franka_kitchen import kitchen_env
        known = kitchen_env.OBS_ELEMENT_GOALS
        if unknown := sorted(set(tasks) - set(known)):
            raise UserError(
                f'D4RLKitchen: no task {unknown[0]!r}; tasks are {", ".join(sorted(known))}'
            )
        self.kitchen = kitchen_env.KitchenEnv(
            tasks_to_complete=list(tasks),
            robot_noise_ratio=0.1,
            object_noise_ratio=0.0,  # its amplitudes are off by one joint; `_flat` adds the noise
            render_mode=render_mode,
        )
        self.render_mode = render_mode
        self.goal = np.zeros(30)
        for task in tasks:
            self.goal[kitchen_env.OBS_ELEMENT_INDICES[task]] = known[task]
        self.action_space = self.kitchen.action_space
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (60,), np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        obs, info = self.kitchen.reset(seed=seed)
        return self._flat(obs), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.kitchen.step(action)
        return self._flat(obs), reward, terminated, truncated, info

    def render(self) -> Any:
        return self.kitchen.render()

    def close(self) -> None:
        self.kitchen.close()

    def _flat(self, obs: dict[str, Any]) -> np.ndarray:
        # `observation` holds positions and velocities of the robot, then of the objects.
        robot, objects = obs['observation'][:9], obs['observation'][18:39]
        noise = self.kitchen.robot_env.np_random.uniform(-OBJECT_NOISE, OBJECT_NOISE)
        return np.concatenate([robot, objects + noise, self.goal])


gym.register('D4RLAntMaze-v0', f'{__name__}:D4RLAntMaze', max_episode_steps=1000)
gym.register('D4RLKitchen-v0', f'{__name__}:D4RLKitchen', max_episode_steps=280)
