"""Makers of environments, which worker processes receive: also of those that a script registers."""

import pickle

import gymnasium as gym
import pytest

from dtql_jax.rollout.env_pool import cores
from dtql_jax.rollout.worker import reaches_workers
from dtql_jax.tasks.env import env_maker
from dtql_jax.tasks.registry import TASKS
from dtql_jax.tasks.task import Task
from tests.helpers import fake_env
from tests.helpers.own_scripts import run_own_script

# An environment that is slow to step and registered in `main`, as a user's own script has it.
OWN = """
import sys, time
import gymnasium as gym
import numpy as np
from dtql_jax.rollout.env_pool import EnvPool, choose_workers
from dtql_jax.tasks.env import env_maker
from dtql_jax.tasks.task import Task

class Slow(gym.Env):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,))
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, scale):
        self.scale = scale

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.normal(size=3), {}

    def step(self, action):
        time.sleep(0.002)
        return self.scale * self.np_random.normal(size=3), float(action.sum()), False, False, {}

def main(entry):
    gym.register('Slow-v0', {'class': Slow, 'lambda': lambda scale: Slow(scale)}[entry])
    make = env_maker(Task('slow', env_id='Slow-v0', env_kwargs={'scale': 3.0}, horizon=5))
    workers = choose_workers(make, 4)
    with EnvPool(make, 4, workers) as pool:
        obs = pool.reset(range(4), range(4)).obs
        steps = pool.step(range(4), np.ones((4, 2), np.float32))
    print(workers > 0, 'jax' in sys.modules, obs.sum(), steps.obs.sum())

if __name__ == '__main__':
    main(*sys.argv[1:] or ['class'])
"""


def test_env_maker__workers_make_what_only_the_script_has_registered(tmp_path):
    script = tmp_path / 'own.py'
    script.write_text(OWN)
    by_workers, here = (
        run_own_script(script, 'class').split(),
        run_own_script(script, 'lambda').split(),
    )
    assert by_workers[:2] == [str(cores() > 1), 'False']
    assert here[:2] == ['False', 'False']  # a lambda stays in the script's process
    assert by_workers[2:] == here[2:]


def test_env_maker__a_script_from_standard_input_has_no_workers():
    assert run_own_script(None, input=OWN).split()[0] == 'False'


@pytest.fixture
def registered(request):
    gym.register('Own-v0', request.param)
    yield env_maker(Task('own', env_id='Own-v0', horizon=20))
    del gym.registry['Own-v0']


@pytest.mark.parametrize('registered', [fake_env.Walk], indirect=True)
def test_env_maker__makes_the_environment_again_after_pickling(registered):
    assert reaches_workers(registered)
    spec, text = registered.spec, pickle.dumps(registered)
    gym.registry.pop('Own-v0')
    again = pickle.loads(text)
    gym.registry['Own-v0'] = spec
    assert again().spec.max_episode_steps == 20
    assert isinstance(again().unwrapped, fake_env.Walk)


@pytest.mark.parametrize('name', ['pointmaze-umaze', 'antmaze-umaze-v2', 'kitchen-complete-v0'])
def test_env_maker__of_published_tasks_reaches_workers(name):
    assert reaches_workers(env_maker(TASKS[name]))


@pytest.mark.parametrize('registered', [lambda: fake_env.Walk()], indirect=True, ids=['lambda'])
def test_env_maker__of_a_lambda_stays_in_this_process(registered):
    assert not reaches_workers(registered)
    assert registered().spec.max_episode_steps == 20
