"""Runs that take seconds: a small dataset of InvertedPendulum, and the fixtures around it.

A folder's conftest.py imports the fixtures that its tests use.
"""

import contextlib
import functools
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import h5py
import jax
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from dtql_jax.cli import train
from dtql_jax.report import plots as plots_module
from dtql_jax.runs import run as run_module
from dtql_jax.training import loop
from tests.helpers import minari_sets
from tests.helpers.compiling import quick_environment, quickly_compiled
from tests.helpers.sharing import made_once, shared_folder

ROOT = Path(__file__).parents[2]
ENV = 'minari:test/pendulum-v0'
SMALL = {'hidden': 8, 'candidates': 4, 'batch_size': 8, 'pretrain_steps': 0}
FLAGS = [f'--{name}={value}' for name, value in SMALL.items()]
SHORT = ['--steps=5', '--eval_every=2', '--eval_episodes=2']
# Traced in a fifth of the time, for tests of what all agents share.
CLONING = ['--agent=bc', '--hidden=8', '--batch_size=8']


def pendulum_episodes(env):
    """Random actions until the pole falls."""
    rng = np.random.default_rng(0)
    for seed in range(20):
        obs, rows, ended = [env.reset(seed=seed)[0]], [], False
        while not ended:
            action = rng.uniform(-3, 3, 1).astype(np.float32)
            after, reward, terminated, truncated, _ = env.step(action)
            obs.append(after)
            rows.append((action, float(reward), terminated, truncated))
            ended = terminated or truncated
        columns = [np.array(column) for column in zip(*rows, strict=True)]
        names = ('actions', 'rewards', 'terminations', 'truncations')
        yield EpisodeBuffer(
            observations=np.array(obs), infos={}, **dict(zip(names, columns, strict=True))
        )


def pendulum_arrays(reward=1.0, bound=3.0):
    """Two episodes of the pendulum as columns under D4RL's names."""
    rng = np.random.default_rng(0)
    return {
        'observations': rng.normal(size=(40, 4)),
        'actions': rng.uniform(-bound, bound, (40, 1)),
        'rewards': np.full(40, reward),
        'terminals': np.isin(np.arange(40), [19, 39]),
    }


def pendulum_file(path, **changes):
    """`pendulum_arrays` as a D4RL or an OGBench file."""
    fields = {**pendulum_arrays(**changes), 'masks': np.ones(40)}
    if path.endswith('.npz'):
        np.savez(path, **fields)
    else:
        with h5py.File(path, 'w') as file:
            file.update(fields)


def refused(capsys, main, *arguments):
    """The one line on stderr of a command that ends with exit code 2, without 'error: '."""
    assert main(['command', *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: '), error
    assert error.count('\n') == 1
    assert error.endswith('\n')
    return error.removeprefix('error: ').rstrip()


def process(*arguments, **options):
    """Python with these arguments, in a process of its own that finds the checkout.

    It compiles as `quickly_compiled` does.
    """
    environment = {
        **os.environ,
        'PYTHONPATH': str(ROOT),
        **quick_environment(),
        **options.pop('env', {}),
    }
    line = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        line, capture_output=True, text=True, check=False, env=environment, **options
    )


@functools.cache  # once a process, although several conftest.py have the fixture
def make_minari_root(shared):
    return made_once(shared / 'minari', write_pendulum)


def write_pendulum(root):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MINARI_DATASETS_PATH', str(root))
        env = gym.make('InvertedPendulum-v5')
        episodes = list(pendulum_episodes(env))
        spaces = (env.observation_space, env.action_space)
        minari_sets.write('test/pendulum-v0', episodes, *spaces, env=env)


@functools.cache
def make_run(base, name, *flags):
    """The folder of a run, a copy for this process, and what the command said."""
    shared = shared_folder(base)

    def train_there(folder):
        given = [f'--env={ENV}', f'--out={folder / "run"}', *flags]
        output = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, quickly_compiled():
            patch.setenv('MINARI_DATASETS_PATH', str(make_minari_root(shared)))
            with contextlib.redirect_stdout(output):
                code = train.main(['dtql train', *given, *SHORT])
        assert code == 0
        (folder / 'output.txt').write_text(output.getvalue())

    made = made_once(shared / f'{name}-made', train_there)
    folder = base / name
    shutil.copytree(made, folder)
    text = (made / 'output.txt').read_text()
    return folder / 'run', text.replace(str(made), str(folder))


@pytest.fixture(scope='session')
def minari_root(tmp_path_factory):
    """A Minari root with the small dataset, which all processes read."""
    return make_minari_root(shared_folder(tmp_path_factory.getbasetemp()))


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
    """A run of DTQL with two seeds and a clone: its folder and the output of the command."""
    return make_run(tmp_path_factory.getbasetemp(), 'trained', *FLAGS, '--set=clone_seeds=1')


@pytest.fixture(scope='session')
def cloned(tmp_path_factory):
    """The folder of a run of behaviour cloning, which is read and resumed in a fifth of the time.

    For tests of what all agents share.
    """
    return make_run(tmp_path_factory.getbasetemp(), 'cloned', *CLONING)[0]


@pytest.fixture
def here(minari_root, tmp_path, monkeypatch):
    """The working directory of the test: empty, and the small dataset is found."""
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(minari_root))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def compiled():
    """The names of the programs that jax compiled since the test began."""
    names = []

    def listen(event, _, **details):
        if event == '/jax/core/compile/backend_compile_duration':
            names.append(details)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def no_workers(monkeypatch):
    """Simulators run in this process: a worker process takes half a second to start."""
    monkeypatch.setattr('dtql_jax.rollout.player.choose_workers', lambda *_, **__: 0)


@pytest.fixture
def no_training(monkeypatch, no_workers):
    """Replaces training by nothing; returns the trainers, each with whether it was to resume."""
    calls = []

    def run(self, resume, networks=None):
        calls.append((self, resume))

    monkeypatch.setattr(loop.Trainer, 'run', run)
    monkeypatch.setattr(run_module, 'read_jsonl', lambda path: [])
    monkeypatch.setattr(plots_module, 'plot_curves', lambda *_: 'curves.png')
    monkeypatch.setattr(run_module, 'describe', lambda *_: 'plan')
    return calls
