"""Minari sets that are recorded from environments, as users record them, through wrappers."""

import json
import warnings

import gymnasium as gym
import minari
import numpy as np

from dtql_jax.tasks.minari_sets import minari_folder

NAME = 'me/recorded-v0'


class Line(gym.Env):
    """A point that actions push along a line, from a random start; it tells `info['success']`."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    metadata = {'render_modes': ['human', 'rgb_array']}  # noqa: RUF012  as gymnasium has it

    def __init__(self, render_mode=None, gui=False, step=0.1):
        assert render_mode != 'human', 'a window opens'
        assert not gui, 'a window opens'
        self.render_mode, self.stride = render_mode, step

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = self.np_random.uniform(-1, 1, 2)
        return self.at.copy(), {'success': False}

    def step(self, action):
        self.at = self.at + self.stride * np.asarray(action, float)
        return self.at.copy(), -float(abs(self.at).sum()), False, False, {'success': self.at[0] > 0}


class Counting(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """A wrapper of a user's own that counts episodes into its observations."""

    def __init__(self, env, by=1.0):
        gym.utils.RecordConstructorArgs.__init__(self, by=by)
        gym.Wrapper.__init__(self, env)
        self.by, self.count = by, 0

    def reset(self, **kwargs):
        self.count += 1
        obs, info = self.env.reset(**kwargs)
        return obs + self.by * self.count, info


class Halving(gym.ObservationWrapper, gym.utils.RecordConstructorArgs):
    """A wrapper of a user's own without a state."""

    def __init__(self, env):
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.ObservationWrapper.__init__(self, env)

    def observation(self, observation):
        return observation / 2


class Plain(gym.Wrapper):
    """A wrapper of a user's own whose arguments gymnasium cannot record."""


def record(*wrappers, env='Pendulum-v1', horizon=20, name=NAME, infos=False, **kwargs):
    """A set of three episodes, played at random in `env` through `wrappers`, inside first."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        inner = gym.make(env, max_episode_steps=horizon)
        for wrapper in wrappers:
            inner = wrapper(inner)
        collector = minari.DataCollector(inner, record_infos=infos)
        for seed in range(3):
            collector.reset(seed=seed)
            collector.action_space.seed(seed)
            done = False
            while not done:
                *_, terminated, truncated, _ = collector.step(collector.action_space.sample())
                done = terminated or truncated
        collector.create_dataset(name, **kwargs)
        collector.close()
    return name


def metadata(name=NAME):
    """What the set's `metadata.json` holds."""
    return json.loads((minari_folder(name) / 'data' / 'metadata.json').read_text())


def mend(name=NAME, **fields):
    """Changes fields of `metadata.json`; None removes one."""
    content = {k: v for k, v in (metadata(name) | fields).items() if v is not None}
    (minari_folder(name) / 'data' / 'metadata.json').write_text(json.dumps(content))


def mend_spec(name=NAME, field='env_spec', **changes):
    """Changes fields of a recorded spec."""
    mend(name, **{field: json.dumps(json.loads(metadata(name)['env_spec']) | changes)})
