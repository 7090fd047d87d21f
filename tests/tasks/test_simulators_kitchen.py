"""D4RL's kitchen: what makes it another simulator than its lookalike."""

import dataclasses
import json
import sys

import gymnasium as gym
import numpy as np
import pytest

from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.simulators import OBJECT_NOISE
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError
from tests.helpers.seeded import assert_seeded

COMPLETE = ('microwave', 'kettle', 'light switch', 'slide cabinet')
MIXED = ('microwave', 'kettle', 'bottom burner', 'light switch')
KITCHEN = Task(
    'kitchen',
    ('absent',),
    env_id='dtql_jax.tasks.simulators:D4RLKitchen-v0',
    env_kwargs={'tasks': COMPLETE},
    horizon=280,
)


def make_kitchen(tasks=COMPLETE):
    return gym.make(KITCHEN.env_id, tasks=tasks)


@pytest.fixture(scope='module')
def kitchen():
    return make_kitchen()


def test_D4RLKitchen__episodes_are_functions_of_the_seed():
    assert make_env(KITCHEN).observation_space.shape == (60,)
    assert_seeded(KITCHEN)


def test_D4RLKitchen__the_spec_survives_json():
    env = gym.make(KITCHEN.env_id, max_episode_steps=KITCHEN.horizon, **KITCHEN.env_kwargs)
    spec = gym.envs.registration.EnvSpec.from_json(env.spec.to_json())
    assert json.dumps(spec.kwargs) == json.dumps(KITCHEN.env_kwargs)
    again = gym.make(spec)
    assert again.spec.max_episode_steps == KITCHEN.horizon
    again.reset(seed=0)


def test_D4RLKitchen__a_missing_package_is_one_line(monkeypatch):
    for name in [name for name in sys.modules if name.startswith('gymnasium_robotics')]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'gymnasium_robotics', None)
    with pytest.raises(
        UserError, match=r'kitchen: .*gymnasium_robotics.*try: pip install'
    ) as error:
        make_env(KITCHEN)
    assert '\n' not in str(error.value)


def test_D4RLKitchen__refuses_unknown_tasks():
    with pytest.raises(UserError, match="no task 'oven'; tasks are bottom burner, "):
        make_env(dataclasses.replace(KITCHEN, env_kwargs={'tasks': ('oven',)}))


@pytest.mark.parametrize(
    ('tasks', 'wanted'),
    [
        (
            COMPLETE,
            {17: -0.69, 18: -0.05, 19: 0.37, 22: -0.75, 23: -0.23, 24: 0.75, 25: 1.62, 26: 0.99}
            | {29: -0.06},
        ),
        (
            MIXED,
            {11: -0.88, 12: -0.01, 17: -0.69, 18: -0.05, 22: -0.75, 23: -0.23, 24: 0.75, 25: 1.62}
            | {26: 0.99, 29: -0.06},
        ),
        (('top burner', 'hinge cabinet'), {15: -0.92, 16: -0.01, 21: 1.45}),
    ],
)
def test_D4RLKitchen__the_goal_is_d4rls(tasks, wanted):
    goal = make_kitchen(tasks).reset(seed=0)[0][30:]
    assert dict(zip(np.flatnonzero(goal), goal[goal != 0], strict=True)) == wanted


def test_D4RLKitchen__the_goals_indices_hit_the_joints_they_name(kitchen):
    model = kitchen.unwrapped.kitchen.model
    names = {int(model.joint(j).qposadr[0]): model.joint(j).name for j in range(model.njnt)}
    assert all(names[i].startswith('robot:') for i in range(9))
    assert not any(names[i].startswith('robot:') for i in names if i >= 9)
    for start, expected in {
        11: ('knob_Joint_2', 'bottom_left_burner'),
        15: ('knob_Joint_4', 'top_left_burner'),
        17: ('light_switch', 'light_joint', 'slide_cabinet'),
        20: ('left_hinge_cabinet', 'right_hinge_cabinet', 'microwave', 'kettle'),
    }.items():
        assert tuple(names[start + i] for i in range(len(expected))) == expected
    assert max(names) == 23  # the kettle's free joint: 7 positions, 23 to 29
    assert model.nq == 30


def test_D4RLKitchen__shows_positions_with_d4rls_noise(kitchen):
    noise = []
    for seed in range(200):
        obs, _ = kitchen.reset(seed=seed)
        noise.append(obs[:30] - kitchen.unwrapped.kitchen.data.qpos)
    largest = np.abs(noise).max(axis=0)
    bounds = np.concatenate([np.full(9, 0.01), OBJECT_NOISE])
    assert (largest <= bounds).all()
    assert (largest > 0.9 * bounds).all()
    assert (
        abs(np.corrcoef(np.array(noise)[:, :9].T, np.array(noise)[:, 21:30].T)[:9, 9:]).max() < 0.3
    )


def test_D4RLKitchen__each_task_pays_once_and_the_last_one_ends_the_episode(kitchen):
    robot = kitchen.unwrapped.kitchen.robot_env
    kitchen.reset(seed=0)

    def solve(joints):
        qpos = robot.data.qpos.copy()
        for index, value in joints.items():
            qpos[index] = value
        robot.set_state(qpos, np.zeros(29))
        return kitchen.step(np.zeros(9))[1:4]

    assert solve({}) == (0.0, False, False)
    assert solve({22: -0.75}) == (1.0, False, False)
    assert solve({22: -0.75}) == (0.0, False, False)
    light_and_cabinet = {17: -0.69, 18: -0.05, 19: 0.37}
    assert solve(light_and_cabinet) == (2.0, False, False)
    kettle = dict(zip(range(23, 30), (-0.23, 0.75, 1.62, 0.99, 0, 0, -0.06), strict=True))
    assert solve(kettle) == (1.0, True, False)
    kitchen.reset(seed=0)
    assert solve({22: -0.75}) == (1.0, False, False)
