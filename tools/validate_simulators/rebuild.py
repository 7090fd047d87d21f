"""Puts simulators into recorded states, by one function per family of tasks."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np


def physics(env: gym.Env) -> Any:
    """The part of an environment that has MuJoCo's model and data, and `set_state`."""
    env = env.unwrapped
    for part in ('ant_env', 'point_env', 'kitchen'):
        env = getattr(env, part, env)
    return getattr(env, 'robot_env', env)


def flat(obs: Any) -> np.ndarray:
    """An observation `[..., O]` without a maze's goal: all positions and velocities."""
    if not isinstance(obs, dict):
        return obs
    # The ant's `observation` lacks its position, the point's has it.
    point = obs['observation'].shape[-1] == 4
    parts = [obs['observation']] if point else [obs['achieved_goal'], obs['observation']]
    return np.concatenate(parts, axis=-1)


def start_anew(env: gym.Env) -> None:
    """Resets what rows do not record: controls, time, and the start of the solver."""
    mujoco.mj_resetData(physics(env).model, physics(env).data)


def set_all(env: gym.Env, state: np.ndarray) -> None:
    """Sets all positions and velocities, which the row holds."""
    sim = physics(env)
    sim.set_state(*np.split(state, [sim.model.nq]))


def set_lagging(env: gym.Env, state: np.ndarray) -> None:
    """Sets positions and velocities, and poses of the substep before, as MuJoCo leaves them.

    OGBench controls its arm from the hand's pose at that substep.
    """
    sim = physics(env)
    qpos, qvel = np.split(state, [sim.model.nq])
    before = qpos.copy()
    mujoco.mj_integratePos(sim.model, before, qvel, -sim.model.opt.timestep)
    sim.set_state(before, qvel)
    sim.data.qpos[:] = qpos


def set_planar(env: gym.Env, state: np.ndarray) -> None:
    """Sets a row without the root's x, which nothing depends on."""
    set_all(env, np.concatenate([[0.0], state]))


def set_door(env: gym.Env, obs: np.ndarray) -> None:
    """Sets a door at rest. The palm tells the arm's slide, the handle the position of the door."""
    sim = physics(env)
    qpos = np.concatenate([[0.0], obs[:27], obs[[28, 27]]])
    sim.set_state(qpos, np.zeros(30))
    axis = sim.data.xaxis[0].copy()
    qpos[0] = axis @ (obs[29:32] - sim.data.site_xpos[sim.grasp_site_id])
    # The body's parent is the world, so its position is in the world's frame.
    sim.model.body_pos[sim.door_body_id] += obs[32:35] - sim.data.site_xpos[sim.handle_site_id]
    sim.set_state(qpos, np.zeros(30))


def set_pen(env: gym.Env, obs: np.ndarray) -> None:
    """Sets the start of every pen episode, with this episode's wanted direction."""
    sim = physics(env)
    sim.set_state(sim.init_qpos, sim.init_qvel)
    tip, tail = (sim.data.site_xpos[i] for i in (sim.tar_t_site_id, sim.tar_b_site_id))
    turn, product = np.zeros(4), np.zeros(4)
    now, wanted = (tip - tail) / np.linalg.norm(tip - tail), obs[36:39]
    # The shortest rotation; a rotation about the pen's own axis changes nothing.
    turn[0], turn[1:] = 1 + now @ wanted, np.cross(now, wanted)
    body = sim.model.body_quat[sim.target_obj_body_id]
    mujoco.mju_mulQuat(product, turn / np.linalg.norm(turn), body)
    body[:] = product
    sim.set_state(sim.init_qpos, sim.init_qvel)


def set_kitchen(env: gym.Env, obs: np.ndarray) -> None:
    """Sets a kitchen at rest. The robot continues from the observed position, noise included."""
    sim = physics(env)
    sim.set_state(sim.init_qpos, np.zeros(29))
    sim._last_robot_qpos = obs[:9]


# Family -> how a state is set, and where: at any 'row', or only at the 'start' of an episode.
FAMILIES: dict[str, tuple[Callable[[gym.Env, np.ndarray], None], str]] = {
    'all': (set_all, 'row'),
    'lagging': (set_lagging, 'row'),
    'planar': (set_planar, 'row'),
    'door': (set_door, 'start'),
    'pen': (set_pen, 'start'),
    'kitchen': (set_kitchen, 'start'),
}
