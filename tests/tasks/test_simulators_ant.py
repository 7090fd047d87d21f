"""D4RL's ant maze: what makes it another simulator than its lookalikes."""

import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.envs.mujoco import mujoco_env

from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.mazes import CELL, MAPS, REACHED
from dtql_jax.tasks.simulators import d4rl_ant
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError
from tests.helpers.seeded import assert_seeded

SHARED = Path(__file__).parents[3] / 'shared'
EPISODES = 6
ANT = Task(
    'ant',
    ('absent',),
    env_id='dtql_jax.tasks.simulators:D4RLAntMaze-v0',
    env_kwargs={'maze_map': MAPS['umaze']},
    obs_keys=('achieved_goal', 'observation'),
    horizon=700,
)


def make_ant(size='umaze', **kwargs):
    return gym.make(ANT.env_id, maze_map=MAPS[size], **kwargs)


@pytest.fixture(scope='module')
def ant():
    return make_ant()


def ant_models():
    ogbench = pytest.importorskip('ogbench', reason='the other copy of the ant is in ogbench')
    path = Path(ogbench.__file__).parent / 'locomaze' / 'assets' / 'ant.xml'
    ours = mujoco.MjModel.from_xml_string(ET.tostring(d4rl_ant().getroot(), 'unicode'))
    return ours, mujoco.MjModel.from_xml_path(str(path))


def differences(a, b, prefix=''):
    """Names of the fields of two compiled models, or of parts of them, that differ."""
    for name in dir(a):
        x = getattr(a, name)
        if name.startswith('_') or callable(x):
            continue
        y = getattr(b, name)
        if isinstance(x, (int, float, np.ndarray)):
            if not np.array_equal(x, y):
                yield prefix + name
        elif prefix + name == 'opt':
            yield from differences(x, y, 'opt.')


def test_d4rl_ant__has_the_dynamics_of_ogbenchs():
    # What is drawn, what things are called, and how large the floor is drawn (it is endless).
    drawn = ('cam_', 'light_', 'mat_', 'tex_', 'name', 'geom_matid', 'geom_rgba', 'geom_size')
    drawn += ('nlight', 'nmat', 'nnames', 'ntex', 'nbuffer', 'signature')
    ours, theirs = ant_models()
    assert [name for name in differences(ours, theirs) if not name.startswith(drawn)] == []
    np.testing.assert_array_equal(ours.geom_size[1:], theirs.geom_size[1:])


def test_d4rl_ant__differs_from_gymnasiums_where_it_should(ant):
    path = Path(mujoco_env.__file__).parent / 'assets' / 'ant.xml'
    ours, theirs = ant.unwrapped.model, mujoco.MjModel.from_xml_path(str(path))
    assert (theirs.actuator_gear[:, 0] == 150).all()
    assert (ours.actuator_gear[:, 0] == 30).all()
    assert (ours.opt.timestep, theirs.opt.timestep) == (0.02, 0.01)
    assert ours.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
    np.testing.assert_allclose(ours.geom_solref, [[0.02, 1]] * ours.ngeom)
    np.testing.assert_allclose(ours.geom_solimp[:, :3], [[0.8, 0.8, 0.01]] * ours.ngeom)
    assert ant.unwrapped.dt == pytest.approx(0.1)


@pytest.mark.parametrize('size', ['umaze', 'medium', 'large'])
def test_D4RLAntMaze__has_a_wall_exactly_where_the_map_says(size):
    env = make_ant(size).unwrapped
    env.reset(seed=0)
    for row, cells in enumerate(MAPS[size]):
        for column, cell in enumerate(cells):
            xy = np.array([column - 1, row - 1]) * CELL['antmaze']  # `r` is the cell (1, 1)
            for dx, dy in ((0, 0), (-1.9, 1.9), (1.9, -1.9)):
                above, down = [xy[0] + dx, xy[1] + dy, 9.0], [0.0, 0.0, -1.0]
                torso = 1  # the body whose geoms the ray passes through
                depth = mujoco.mj_ray(
                    env.model, env.data, above, down, None, 1, torso, np.zeros(1, np.int32)
                )
                # A wall is 2 m high. The ant's legs at the start may be in the way.
                assert (depth == pytest.approx(7.0)) == (cell == 1), (row, column)


def test_D4RLAntMaze__walls_stop_the_ant(ant):
    """A torso inside a wall touches it; one in the next free cell touches none."""
    env = ant.unwrapped
    ant.reset(seed=0)
    qpos = env.init_qpos.copy()
    touching = {}
    for name, xy in (('wall', (0.0, 4.0)), ('free', (8.0, 4.0))):  # mirrored, both would be free
        qpos[:2] = xy
        env.set_state(qpos, env.init_qvel)
        boxes = env.model.geom_type == mujoco.mjtGeom.mjGEOM_BOX
        touching[name] = boxes[env.data.contact.geom].any()
    assert touching == {'wall': True, 'free': False}


def test_D4RLAntMaze__draws_start_and_goal_as_d4rl_does(ant):
    starts, goals = [], []
    for seed in range(400):
        obs, info = ant.reset(seed=seed)
        starts.append([*obs['achieved_goal'], *obs['observation']])
        goals.append(obs['desired_goal'])
        assert info == {'success': False}
    starts, goals = np.array(starts), np.array(goals) - [0.0, 8.0]  # `g` is two rows below `r`
    positions = starts[:, :15] - ant.unwrapped.init_qpos
    assert 0.095 < np.abs(np.delete(positions, range(3, 7), axis=1)).max() <= 0.1
    assert np.std(starts[:, 15:]) == pytest.approx(0.1, rel=0.05)
    assert goals.min() > 0
    assert 1.3 < goals.max() < 1.5
    np.testing.assert_allclose(goals.mean(axis=0), 0.75, atol=0.06)
    assert len(np.unique(goals, axis=0)) == 400


@pytest.mark.parametrize(('distance', 'reached'), [(0.49, True), (0.51, False)])
def test_D4RLAntMaze__success_is_being_near_after_the_step(ant, distance, reached):
    env = ant.unwrapped
    ant.reset(seed=0)
    env.goal = np.array([5.0, 0.0])
    env.update_target_site_pos()
    assert ant.step(np.zeros(8))[1:3] == (0.0, False)
    after = ant.step(np.zeros(8))[0]['achieved_goal']
    ant.reset(seed=0)  # the same two steps again, which do not depend on the goal
    ant.step(np.zeros(8))
    env.goal = after + np.array([0.0, distance])
    obs, reward, terminated, truncated, info = ant.step(np.zeros(8))
    assert np.linalg.norm(obs['achieved_goal'] - obs['desired_goal']) < 0.52
    assert REACHED['d4rl-antmaze'] == 0.5
    assert (reward, info['success']) == (float(reached), reached)
    assert not terminated
    assert not truncated


def test_D4RLAntMaze__a_fallen_ant_goes_on(ant):
    ant.reset(seed=0)
    qpos = ant.unwrapped.init_qpos.copy()
    qpos[2:7] = 0.3, 0, 1, 0, 0  # on its back
    ant.unwrapped.set_state(qpos, ant.unwrapped.init_qvel)
    for _ in range(20):
        assert ant.step(ant.action_space.sample())[2] is False


def test_D4RLAntMaze__episodes_are_functions_of_the_seed():
    assert make_env(ANT).observation_space.shape == (29,)
    assert_seeded(ANT)


def test_D4RLAntMaze__the_29_numbers_are_the_state(ant):
    obs, _ = make_env(ANT).reset(seed=1)
    ant.reset(seed=1)
    data = ant.unwrapped.data
    np.testing.assert_array_equal(obs, np.concatenate([data.qpos, data.qvel]).astype(np.float32))


def goal_reacher(weights):
    """The policy of D4RL's generation code: state `[29]` and a waypoint `[2]` -> action `[8]`."""

    def act(state, waypoint):
        ahead = waypoint - state[:2]
        x = np.concatenate([state[2:], 10 * ahead / np.linalg.norm(ahead)])
        for layer in ('fc0', 'fc1'):
            x = np.maximum(weights[f'{layer}.w'] @ x + weights[f'{layer}.b'], 0)
        return np.tanh(weights['last_fc.w'] @ x + weights['last_fc.b'])

    return act


def test_D4RLAntMaze__d4rls_own_policy_reaches_the_goal():
    """The ant of another simulator, five times as strong or mirrored, would not."""
    path = SHARED / 'policies' / 'ant_goal_reach.npz'
    if not path.exists():
        pytest.skip(f'{path.name}, the policy that walks the ant, is not at hand')
    with np.load(path) as file:
        act = goal_reacher(dict(file))
    env, successes = make_ant(max_episode_steps=700), 0
    for seed in range(EPISODES):
        obs, draw = env.reset(seed=seed)[0], np.random.default_rng(seed)
        # The u-maze's only way, in cells from the start.
        way = [*(4 * np.array([[1.0, 0], [2, 0], [2, 1], [2, 2], [1, 2]])), obs['desired_goal']]
        ended = False
        while not ended:
            state = np.concatenate([obs['achieved_goal'], obs['observation']])
            while len(way) > 1 and np.linalg.norm(way[0] - state[:2]) < 1:
                way.pop(0)
            action = np.clip(act(state, way[0]) + 0.2 * draw.standard_normal(8), -1, 1)
            obs, _, _, truncated, info = env.step(action)
            ended = truncated or info['success']
        successes += info['success']
    assert successes > EPISODES / 2, successes


def test_D4RLAntMaze__the_spec_survives_json():
    env = gym.make(ANT.env_id, max_episode_steps=ANT.horizon, **ANT.env_kwargs)
    spec = gym.envs.registration.EnvSpec.from_json(env.spec.to_json())
    assert json.dumps(spec.kwargs) == json.dumps(ANT.env_kwargs)
    again = gym.make(spec)
    assert again.spec.max_episode_steps == ANT.horizon
    again.reset(seed=0)


def test_D4RLAntMaze__leaves_no_file(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    make_ant().reset(seed=0)
    assert not list(tmp_path.iterdir())


def test_simulators__workers_that_import_them_stay_without_jax():
    code = "import sys, dtql_jax.tasks.simulators; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, '-c', code], check=True, env=os.environ)


@pytest.mark.parametrize(
    'maze_map', [[[1, 'r', 0]], [[1, 'g', 0]], [['r', 'g', 'g']], [['r'], ['g', 0]]]
)
def test_D4RLAntMaze__refuses_maps_without_one_start_and_goal(maze_map):
    with pytest.raises(UserError, match=r"D4RLAntMaze: maze_map has \d '[rg]' cells, give it one"):
        gym.make(ANT.env_id, maze_map=maze_map)
