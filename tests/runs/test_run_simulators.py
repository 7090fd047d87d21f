"""Real runs of the command with a simulator that hangs, raises or reports nothing of success."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from dtql_jax.report.loggers import read_jsonl
from tests.helpers.own_scripts import ROOT

LIMIT_S = 300  # for one process, which takes a twentieth of that on a machine of its own

# The simulator has its mishap after 60 steps: trying it out takes 50.
SCRIPT = """
import ctypes, os, sys
import gymnasium as gym
import h5py
import numpy as np
import dtql_jax
from dtql_jax.cli.main import main

class Own(gym.Env):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,))
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.normal(size=3), {}

    def step(self, action):
        self.steps += 1
        mishap = os.environ.get('MISHAP') if self.steps > 60 else None
        if mishap == 'hang':
            print('it hangs', flush=True)
            ctypes.CDLL(None).pause()  # no Python code can end it
        if mishap == 'raise':
            raise ValueError('the joint broke')
        return self.np_random.normal(size=3), float(action.sum()), False, False, {}

gym.register('Own-v0', Own)
task = dict(datasets=('own.hdf5',), env_id='Own-v0', horizon=20)
dtql_jax.register_task(dtql_jax.Task('own', **task))
dtql_jax.register_task(dtql_jax.Task('scored', scored='success', score_range=(0, 1), **task))

if __name__ == '__main__':
    if not os.path.exists('own.hdf5'):
        rng = np.random.default_rng(0)
        with h5py.File('own.hdf5', 'w') as file:
            file['observations'] = rng.normal(size=(200, 3)).astype(np.float32)
            file['actions'] = rng.uniform(-1, 1, (200, 2)).astype(np.float32)
            file['rewards'] = rng.normal(size=200).astype(np.float32)
            file['terminals'] = np.zeros(200, bool)
            file['timeouts'] = np.arange(200) % 20 == 19
    fixed = '--agent=bc --num_seeds=2 --steps=4 --eval_every=2 --batch_size=8 --eval_episodes=5'
    sys.exit(main(['dtql', 'train', *fixed.split(), '--set=hidden=8', *sys.argv[1:]]))
"""

pytestmark = pytest.mark.slow


@dataclasses.dataclass(frozen=True)
class Script:
    """Runs the command in a folder."""

    folder: pathlib.Path

    def start(self, *flags, mishap='', env='own'):
        command = [sys.executable, 'own.py', f'--env={env}', '--eval_envs=1', *flags]
        # Programs that compile quickly: what they compute is the same from process to process.
        quick = {'XLA_FLAGS': '--xla_backend_optimization_level=0', 'PYTHONPATH': str(ROOT)}
        return subprocess.Popen(
            command, cwd=self.folder, env={**os.environ, **quick, 'MISHAP': mishap}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def finish(self, *flags, **options):
        """The exit code and the output, which has no traceback."""
        process = self.start(*flags, **options)
        text, _ = process.communicate(timeout=LIMIT_S)
        assert 'Traceback' not in text, text
        return process.returncode, text

    def evals(self, name):
        """The rows of its evaluations without their times."""
        rows = read_jsonl(self.folder / name / 'eval.jsonl')
        return [{k: v for k, v in row.items() if not k.startswith('time/')} for row in rows]


@pytest.fixture(scope='module')
def script(tmp_path_factory):
    """The script, which has made its data and has trained into `whole`."""
    script = Script(tmp_path_factory.mktemp('own'))
    (script.folder / 'own.py').write_text(SCRIPT)
    code, text = script.finish('--out=whole')
    assert code == 0, text
    return script


def assert_resumes(script, name):
    code, text = script.finish(f'--out={name}', '--resume')
    assert code == 0, text
    assert script.evals(name) == script.evals('whole')


@pytest.mark.parametrize(
    'numbers', [[signal.SIGTERM], [signal.SIGINT], [signal.SIGINT, signal.SIGINT]]
)
def test_run__a_signal_ends_it_while_its_simulator_hangs(script, numbers):
    name = '-'.join(number.name for number in numbers)
    process = script.start(f'--out={name}', mishap='hang')
    assert any('it hangs' in line for line in process.stdout)
    began = time.monotonic()
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.05)
    text, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 128 + numbers[0], text
    assert time.monotonic() - began < 30
    assert 'Traceback' not in text, text
    if len(numbers) == 1:
        assert f'continue with --out={script.folder / name} --resume' in text.splitlines()[-1]
    assert_resumes(script, name)


def test_run__a_simulator_that_hangs_ends_it_with_a_line_and_a_checkpoint(script):
    code, text = script.finish('--out=limit', '--eval_timeout=1', mishap='hang')
    assert code == 2
    assert text.splitlines()[-1] == (
        'error: a simulator hangs: no answer within 1 s; mend it, or set a longer --eval_timeout '
        '(seconds for one step or reset; 0 for no limit); a checkpoint is saved: go on with '
        '--resume'
    )
    assert_resumes(script, 'limit')


def test_run__a_simulator_that_raises_fails_lanes_and_not_the_run(script):
    code, text = script.finish('--out=raises', mishap='raise')
    assert code == 1  # at the end no lane has a score
    first, second, *lasts = script.evals('raises')
    assert first == script.evals('whole')[0]
    reason = 'the simulator failed, its step failed: ValueError: the joint broke'
    for row in (second, *lasts):
        assert set(row) == {'step', 'variant', 'seed', 'eval/failed', 'eval/episodes'}
        assert row['eval/failed'].startswith(f'{reason}: seed {row["seed"]}, episode ')
    assert f'bc seed 1: the evaluation at update 4 failed: {reason}' in text
    assert 'warning: no seed has a last score' in text
    assert (script.folder / 'raises' / 'curves.png').is_file()
    # A resume finds nothing left to do, and says the same.
    code, _ = script.finish('--out=raises', '--resume', mishap='raise')
    assert code == 1
    assert len(script.evals('raises')) == 4


def test_run__a_scored_success_that_nobody_reports_is_refused_before_training(script):
    code, text = script.finish('--out=scored', env='scored')
    assert code == 2
    assert text.splitlines()[-1] == (
        'error: the task cannot be evaluated: its success is scored, and the simulator reports '
        "neither info['success'] nor info['is_success'] in an episode: let it report one of them "
        "in each episode, failed ones too, or score the return (scored='return')"
    )
    assert 'compiled' not in text


def test_Result__a_failed_evaluation_is_nan_and_never_0(script):
    from dtql_jax.runs.result import Result
    from dtql_jax.types import Lane

    evals = [
        {'step': 2, 'variant': 'bc', 'seed': 0, 'eval/score': 3.0},
        {'step': 4, 'variant': 'bc', 'seed': 0, 'eval/failed': 'a reason'},
        {'step': 4, 'variant': 'bc', 'seed': 1, 'eval/score': 5.0},
    ]
    result = Result(script.folder, (Lane('bc', 0), Lane('bc', 1)), evals, {})
    np.testing.assert_array_equal(result.scores('bc'), [np.nan, 5.0])
    assert not result.failed
    assert dataclasses.replace(result, diverged={1: 3}).failed
