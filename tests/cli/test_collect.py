"""`dtql collect`: what it refuses, how it is stopped and goes on, what it collects."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import minari
import numpy as np
import pytest

import dtql_jax
from dtql_jax.cli.collect import main
from dtql_jax.data.load import load, with_dataset
from dtql_jax.tasks.registry import TASKS
from tests.helpers.same_sets import assert_same
from tests.helpers.tiny_run import collect_umaze, train_tiny_run

pytestmark = pytest.mark.usefixtures('quick_compile')

PATH = Path(__file__).parents[2] / 'experiments' / 'collect.py'  # an entry to the same command
LIMIT_S = 120


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """An empty Minari root."""
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path / 'sets'))
    monkeypatch.chdir(tmp_path)
    return tmp_path / 'sets'


def collect(*arguments):
    return main(['collect', *map(str, arguments)])


# What is refused.

MISTAKES = {
    'task': (['--env=antmaze-huge'], "unknown task 'antmaze-huge'; nearest: antmaze-"),
    'no policy': (
        ['--env=hopper-medium'],
        'hopper-medium: only pointmazes have a behaviour of their own; name a policy: --policy=RUN',
    ),
    'no file': (['--policy=nowhere'], '--policy=nowhere: there is no such file or folder'),
    'no run': (['--policy=.'], ' is no run folder (no config.json): check the path'),
    'no npz': ([f'--policy={__file__}', '--env=antmaze-umaze-v2'], 'not an npz file of plain'),
    'noise': (['--noise=0.1'], '--noise=0.1: wandering has its own noise: leave it out'),
    'negative noise': (['--noise=-1'], '--noise=-1.0: must be at least 0, and finite'),
    'infinite noise': (['--noise=inf'], '--noise=inf: must be at least 0, and finite'),
    'no number': (['--noise=nan'], '--noise=nan: must be at least 0, and finite'),
    'text': (['--noise=much'], '--noise=much: not a number'),
    'steps': (['--steps=0'], '--steps=0: must be at least 1'),
    'seed': (['--seed=-1'], '--seed=-1: must be at least 0'),
    'workers': (['--workers=0'], '--workers=0: must be at least 1'),
    'name': (['--dataset=mine'], "'mine' is no dataset id: write it like me/my-data-v0"),
    'flag': (['--polcy=x'], 'unknown flag --polcy; nearest: --policy'),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_main__a_mistake_is_one_line_and_exit_code_2(name, capsys, root):
    arguments, message = MISTAKES[name]
    assert collect(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ')
    assert message in error
    assert error.count('\n') == 1
    assert not root.exists() or not list(root.iterdir())


def test_main__an_existing_set_is_never_overwritten(root, capsys):
    assert collect('--steps=600', '--workers=1') == 0
    output = capsys.readouterr().out
    assert 'collected dtql/pointmaze-umaze-v0: 600 steps, 2 episodes, in ' in output
    assert output.endswith('train     dtql train --env=pointmaze-umaze\n')
    before = (root / 'dtql/pointmaze-umaze-v0/data/main_data.hdf5').read_bytes()
    assert collect('--steps=900', '--workers=1') == 2
    assert capsys.readouterr().err == (
        f'error: {root}/dtql/pointmaze-umaze-v0 exists and is never overwritten: choose another '
        'name with --dataset\n'
    )
    assert (root / 'dtql/pointmaze-umaze-v0/data/main_data.hdf5').read_bytes() == before


def test_main__the_pointmazes_own_set_is_what_a_run_collects(root, capsys):
    """The same behaviour and seed: whoever comes first, a run has the same data."""
    assert collect('--steps=600', '--dataset=dtql/mine-v0') == 0
    assert '--env=pointmaze-umaze --dataset_path=' in capsys.readouterr().out
    collect_umaze(600)
    assert_same('dtql/mine-v0', 'dtql/pointmaze-umaze-v0')


# Real processes that are ended.

FLAGS = ['--steps=81000', '--dataset=dtql/big-v0', '--workers=2']  # some 17 shards


def start(*flags):
    """The command in a process group of its own."""
    line = [sys.executable, str(PATH), *FLAGS, *flags]
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for_shards(root, process, count):
    end = time.monotonic() + LIMIT_S
    while len(list(root.glob('dtql/.collecting-big-v0/shard-*.npz'))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.slow
def test_main__a_collection_that_is_killed_and_stopped_ends_as_if_it_were_not(root):
    hidden = root / 'dtql' / '.collecting-big-v0'
    # SIGKILL to the process alone: its workers end by themselves.
    process = start()
    try:
        wait_for_shards(root, process, 1)
    finally:
        os.kill(process.pid, signal.SIGKILL)
    assert process.wait(LIMIT_S) == -signal.SIGKILL
    process.communicate(timeout=LIMIT_S)  # ends when the workers have closed their output, too
    assert not (root / 'dtql' / 'big-v0').exists()
    # The signals that a user sends, to the process or, by Ctrl-C, to its group.
    for number, send in ((signal.SIGTERM, os.kill), (signal.SIGINT, os.killpg)):
        before = len(list(hidden.glob('shard-*.npz')))
        process = start('--workers=1')
        wait_for_shards(root, process, before + 1)
        send(process.pid, number)
        output, error = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 128 + number
        assert error == 'stopped: finished shards are kept; the same command continues\n'
        assert 'continuing after ' in output
        assert len(list(hidden.glob('shard-*.npz'))) >= before + 1
    # Other settings are refused, the same go on.
    assert collect(*FLAGS, '--seed=1') == 2
    assert collect(*FLAGS) == 0
    assert not hidden.exists()
    assert collect(FLAGS[0], '--dataset=dtql/whole-v0', '--workers=1') == 0
    assert_same('dtql/whole-v0', 'dtql/big-v0')


# A trained run as the policy.


@pytest.fixture(scope='module')
def run_dir(tmp_path_factory, quick_compile):
    return train_tiny_run(tmp_path_factory.mktemp('run'))


@pytest.mark.slow
def test_main__a_trained_run_collects_and_a_run_trains_on_it(run_dir, root, capsys):
    flags = [f'--policy={run_dir}', '--steps=900', '--noise=0.3']
    assert collect(*flags) == 0
    output = capsys.readouterr().out
    name = 'dtql/pointmaze-umaze-collected-v0'
    assert '900 steps of pointmaze-umaze, trained policy of dtql_jax' in output
    assert f'collected {name}: ' in output
    path = root / name
    command = f'dtql train --env=pointmaze-umaze --dataset_path={path}\n'
    assert output.endswith(command)
    dataset = minari.load_dataset(name)
    assert dataset.spec.total_steps >= 900
    told = json.loads((path / 'data' / 'metadata.json').read_text())
    assert 'iql seed 0 at update 2' in told['description']
    assert told['collected']['noise'] == 0.3
    assert len(told['collected']['policy_sha256']) == 64
    # The simulator's own observations, with the goal that is evaluated.
    episode = dataset[0]
    assert {key: seen.dtype for key, seen in episode.observations.items()} == dict.fromkeys(
        ('achieved_goal', 'desired_goal', 'observation'), np.float64
    )
    goal = TASKS['pointmaze-umaze'].fixed_goal
    np.testing.assert_array_equal(episode.observations['desired_goal'] - goal, 0)
    evaluation = dataset.recover_environment(eval_env=True)
    assert evaluation.unwrapped.maze.maze_map == TASKS['pointmaze-umaze'].env_kwargs['maze_map']
    plan = {'env': 'pointmaze-umaze', 'dataset_path': str(path)}
    assert dtql_jax.run(plan, dry_run=True) is None
    data = load(with_dataset(TASKS['pointmaze-umaze'], path))
    assert data.card['transitions'] == dataset.spec.total_steps
    # By one process it would have been the same.
    assert collect(*flags, '--workers=1', '--dataset=dtql/one-v0') == 0
    assert_same(name, 'dtql/one-v0')


@pytest.mark.slow
def test_main__a_run_acts_in_its_own_task(run_dir, capsys):
    assert collect(f'--policy={run_dir}', '--env=hopper-medium') == 2
    assert capsys.readouterr().err == (
        f'error: --env=hopper-medium: {run_dir} acts in pointmaze-umaze, in which it was trained: '
        'leave out --env\n'
    )
