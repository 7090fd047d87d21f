"""D4RL's ant maze and kitchen, for which gymnasium and gymnasium-robotics have lookalikes only.

An environment of the same name and sizes may still be another simulator: gymnasium's ant has
motors five times as strong as D4RL's, its mazes are mirrored, and its kitchen shows velocities
where D4RL's shows the goal. What is learnt from D4RL's data is evaluated here:

```python
gym.make('dtql_jax.tasks.simulators:D4RLAntMaze-v0', maze_map=MAPS['medium'], max_episode_steps=1000)
gym.make('dtql_jax.tasks.simulators:D4RLKitchen-v0', tasks=('microwave', 'kettle'))
```

Worker processes import this module, so it must stay light: no jax.
"""

import contextlib
import io
import os
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

# Bounds of the noise on the kitchen's object positions, rad or metres `[21]`: a tenth of what the
# robot's specification, which gymnasium-robotics took over from D4RL, gives these joints.
OBJECT_NOISE = np.repeat([5e-4, 5e-5, 5e-4, 1e-2, 5e-4, 1e-2, 5e-4], [2, 6, 3, 3, 3, 3, 1])


def d4rl_ant() -> ET.ElementTree:
    """gymnasium's model of the ant with the numbers in which D4RL's (and OGBench's) differs.

    Motors a fifth as strong, a time step twice as long, softer contacts.
    """
    tree = ET.parse(os.path.join(os.path.dirname(mujoco_env.__file__), 'assets', 'ant.xml'))
    tree.find('option').set('timestep', '0.02')
    tree.find('default/geom').attrib.update(solref='.02 1', solimp='.8 .8 .01')
    for motor in tree.iterfind('actuator/motor'):
        motor.set('gear', '30')
    return tree


def _add_maze(tree: ET.ElementTree, walls: np.ndarray) -> None:
    """Adds a box for each wall, given by the xy of their centres `[N, 2]`, and the goal's mark."""
    world, cell, half = tree.find('worldbody'), CELL['antmaze'] / 2, WALL_HEIGHT / 2
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

    The origin is the centre of the map's `r` cell, x grows with the column and y with the row. The
    ant starts at the origin, each number of its state moved a little; the goal of an episode lies
    beyond the centre of the `g` cell by U(0, 1) + U(0, 0.5) metres in x and likewise in y.
    The reward is 1 where the torso is within `REACHED` of the goal after the step, else 0. No
    episode ends by itself, neither at the goal nor when the ant falls.

    Observations: `achieved_goal` (xy) followed by `observation` (13 positions, 14 velocities) are
    D4RL's 29 numbers in D4RL's order. Raises UserError for a map without exactly one `r` and `g`.
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
        boxes = {
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
        """Moves the mark that is drawn at the goal to `goal`."""
        self.model.site('target').pos[:2] = self.goal

    def reset_model(self) -> dict[str, np.ndarray]:
        draw = self.np_random
        self.goal = self._goal_cell + draw.uniform(0, 1, 2) + draw.uniform(0, 0.5, 2)
        self.update_target_site_pos()
        qpos = self.init_qpos + draw.uniform(-0.1, 0.1, self.model.nq)
        qvel = self.init_qvel + 0.1 * draw.standard_normal(self.model.nv)
        self.set_state(qpos, qvel)
        return self._obs()

    def step(self, action: np.ndarray):
        self.do_simulation(action, self.frame_skip)
        info = self._get_reset_info()
        return self._obs(), float(info['success']), False, False, info

    def _get_reset_info(self) -> dict[str, bool]:
        distance = np.linalg.norm(self.data.qpos[:2] - self.goal)
        return {'success': bool(distance <= REACHED['d4rl-antmaze'])}

    def _obs(self) -> dict[str, np.ndarray]:
        return {
            'achieved_goal': self.data.qpos[:2].copy(),
            'desired_goal': self.goal.copy(),
            'observation': np.concatenate([self.data.qpos[2:], self.data.qvel]),
        }


class D4RLKitchen(gym.Env):
    """gymnasium-robotics' kitchen as D4RL shows it: what it observes, and how noisily.

    Observations `[60]`: joint positions of the robot (9) and the objects (21), and the goal (30),
    which holds what the `tasks` want of these 30 positions and 0 elsewhere. The reward is the
    number of tasks completed in the step, each once; the episode ends when all are.

    Noise of D4RL's size: up to 0.01 rad on the robot's joints, ten times gymnasium-robotics'. It
    acts on the robot, whose controller starts from the position last observed. On the objects
    `OBJECT_NOISE`, where gymnasium-robotics has next to none.

    Raises ImportError without gymnasium-robotics, UserError for a task that is not there.
    """

    metadata = {'render_modes': ['human', 'rgb_array', 'depth_array'], 'render_fps': 12}  # noqa: RUF012

    def __init__(self, tasks: tuple[str, ...], render_mode: str | None = None):
        with contextlib.redirect_stderr(io.StringIO()):  # it greets with a note on other tasks
            from gymnasium_robotics.envs.franka_kitchen import kitchen_env
        known = kitchen_env.OBS_ELEMENT_GOALS
        if unknown := sorted(set(tasks) - set(known)):
            raise UserError(
                f'D4RLKitchen: no task {unknown[0]!r}; tasks are {", ".join(sorted(known))}'
            )
        self.kitchen = kitchen_env.KitchenEnv(
            tasks_to_complete=list(tasks),
            robot_noise_ratio=0.1,
            object_noise_ratio=0.0,  # its amplitudes are one joint out of place: see `_flat`
            render_mode=render_mode,
        )
        self.render_mode = render_mode
        self.goal = np.zeros(30)
        for task in tasks:
            self.goal[kitchen_env.OBS_ELEMENT_INDICES[task]] = known[task]
        self.action_space = self.kitchen.action_space
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (60,), np.float64)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        obs, info = self.kitchen.reset(seed=seed)
        return self._flat(obs), info

    def step(self, action: np.ndarray):
        obs, *rest = self.kitchen.step(action)
        return self._flat(obs), *rest

    def render(self):
        return self.kitchen.render()

    def close(self) -> None:
        self.kitchen.close()

    def _flat(self, obs: dict[str, Any]) -> np.ndarray:
        # The kitchen's own observation: positions and velocities of the robot, then of the objects.
        robot, objects = obs['observation'][:9], obs['observation'][18:39]
        noise = self.kitchen.robot_env.np_random.uniform(-OBJECT_NOISE, OBJECT_NOISE)
        return np.concatenate([robot, objects + noise, self.goal])


gym.register('D4RLAntMaze-v0', f'{__name__}:D4RLAntMaze', max_episode_steps=1000)
gym.register('D4RLKitchen-v0', f'{__name__}:D4RLKitchen', max_episode_steps=280)
