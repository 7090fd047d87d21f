"""Real runs of the command, stopped, killed and resumed: they end as if nothing had happened.

`DTQL_KILLS=20 python -m pytest tests/runs/test_resume.py -s` adds as many kills at random moments
as one likes, and tells when each came.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from dtql_jax.collect.wander import Wander
from dtql_jax.collect.write import collect
from dtql_jax.report.loggers import read_jsonl
from dtql_jax.runs.policy import Run
from dtql_jax.tasks.registry import TASKS
from tests.helpers import toy

ROOT = pathlib.Path(__file__).parents[2]
RANDOM_KILLS = int(os.environ.get('DTQL_KILLS', '0'))
LIMIT_S = 300  # for one process, which takes a twentieth of that on a machine of its own
SETTINGS = {'hidden': 16, 'candidates': 4, 'clone_seeds': 1, 'lr_decay': True}
FLAGS = (
    '--env=pointmaze-umaze', '--num_seeds=1', '--batch_size=8', '--pretrain_steps=1200',
    '--steps=1600', '--eval_every=800', '--eval_episodes=1',
    *[f'--set={name}={value}' for name, value in SETTINGS.items()],
)  # fmt: skip

LOGS = ('metrics', 'eval')

pytestmark = pytest.mark.slow


@dataclasses.dataclass(frozen=True)
class Launcher:
    """Starts the command on a dataset of a few hundred steps."""

    dataset: pathlib.Path
    folder: pathlib.Path
    processes: list[subprocess.Popen] = dataclasses.field(default_factory=list)

    def start(self, name, *flags):
        """A process of its own group, which trains into `name`."""
        out = [f'--dataset_path={self.dataset}', f'--out={self.folder / name}']
        command = [sys.executable, ROOT / 'experiments' / 'run.py', *FLAGS, *out, *flags]
        log = (self.folder / f'{name}.txt').open('a')
        # Programs that compile quickly: what they compute is the same from process to process.
        flags = {'XLA_FLAGS': '--xla_backend_optimization_level=0', 'PYTHONPATH': str(ROOT)}
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **flags}
        )
        self.processes.append(process)
        return process

    def finish(self, name, *flags):
        """The exit code of the whole process, and what the command has said so far."""
        code = self.start(name, *flags).wait(LIMIT_S)
        return code, (self.folder / f'{name}.txt').read_text()


@pytest.fixture(scope='module')
def launcher(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp('resume')
        patch.setenv('MINARI_DATASETS_PATH', str(folder / 'minari'))
        task = TASKS['pointmaze-umaze']
        launcher = Launcher(collect(Wander(task), 'dtql/few-v0', 900).path, folder)
        yield launcher
        for process in launcher.processes:
            process.kill()  # does nothing where it has ended


@pytest.fixture(scope='module')
def whole(launcher):
    """A run that nothing disturbed."""
    code, text = launcher.finish('whole')
    assert code == 0, text
    return launcher.folder / 'whole'


def rows(folder, log):
    """The rows so far without their times."""
    path = folder / f'{log}.jsonl'
    if not path.exists():
        return []
    return [{k: v for k, v in row.items() if not k.startswith('time/')} for row in read_jsonl(path)]


def assert_same_run(folder, whole):
    for log in LOGS:
        assert rows(folder, log) == rows(whole, log)
        keys = [(row['step'], row['variant'], row['seed']) for row in rows(folder, log)]
        assert len(set(keys)) == len(keys)
    ours, theirs = Run(folder), Run(whole)
    assert toy.equal(ours.progress, theirs.progress)
    assert ours.cursor.step == theirs.cursor.step == 2800


# The moments that are hard to survive, told by what is on the disk.


def pretraining(folder):
    return len(rows(folder, 'metrics')) >= 2


def saving(folder):
    return any('tmp' in path.name for path in folder.glob('checkpoints/*'))


def evaluating(folder):
    steps = [{row['step'] for row in rows(folder, log)} for log in LOGS]
    return bool({2000, 2800} & (steps[0] - steps[1]))


def wait_for(moment, process, folder):
    """Whether the moment came before the process ended."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end and process.poll() is None:
        if moment(folder):
            return True
        time.sleep(0.002)
    return False


def test_run__stopped_and_killed_ends_as_if_it_were_not(launcher, whole):
    """Signals to the process, as `kill` sends them, or to its group, as a terminal's Ctrl-C."""
    run = Victim(launcher, 'stopped')
    run.stop(signal.SIGTERM, pretraining, os.kill)
    assert 0 < Run(run.folder).cursor.step <= 1200
    run.kill(evaluating)
    run.kill(saving)
    run.stop(signal.SIGINT, evaluating, os.killpg)
    run.end(whole)


@pytest.mark.skipif(not RANDOM_KILLS, reason='takes minutes: set DTQL_KILLS to a number of kills')
def test_run__killed_at_any_moment_ends_as_if_it_were_not(launcher, whole):
    """Two moments of each run, which then goes on to its end."""
    lives_s = 20.0  # of a process from its start to its end, once one has been seen
    for i in range(-(-RANDOM_KILLS // 2)):
        run = Victim(launcher, f'killed-{i}')
        kills = 0
        while kills < 2:
            seconds = random.uniform(0, lives_s)
            if run.kill_after(seconds):
                kills += 1
            else:  # it was over before
                assert_same_run(run.folder, whole)
                lives_s = 0.9 * seconds
                run = Victim(launcher, f'{run.name}-again')
        run.end(whole)


class Victim:
    """A run that is ended again and again."""

    def __init__(self, launcher, name):
        self.launcher, self.name = launcher, name
        self.folder = launcher.folder / name

    def kill(self, moment):
        """SIGKILL, some milliseconds after the moment."""
        process = self._start()
        assert wait_for(moment, process, self.folder), self._text()
        time.sleep(random.uniform(0, 0.02))
        self._kill(process, moment.__name__)

    def kill_after(self, seconds):
        """SIGKILL, so long after the start; whether the process was still there."""
        process = self._start()
        with contextlib.suppress(subprocess.TimeoutExpired):
            assert process.wait(seconds) == 0, self._text()
            return False
        self._kill(process, f'after {seconds:.2f} s')
        return True

    def _kill(self, process, when):
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, self._text()
        self._tell(f'SIGKILL {when} ({self._text().splitlines()[-1:]})')

    def end(self, whole):
        """Lets the run go to its end, which must be that of an undisturbed one."""
        code, text = self.launcher.finish(self.name, *self._resume())
        assert code == 0, text
        assert_same_run(self.folder, whole)
        assert not saving(self.folder)  # nothing unfinished is left

    def stop(self, number, moment, send):
        """A signal that leaves a checkpoint within 10 s."""
        process = self._start()
        assert wait_for(moment, process, self.folder), self._text()
        began = time.monotonic()
        send(process.pid, number)
        code = process.wait(LIMIT_S)
        seconds = time.monotonic() - began
        self._tell(f'{number.name}, exit code {code} after {seconds:.1f} s')
        assert code == 128 + number, self._text()
        assert seconds < 10
        assert '--resume' in self._text().splitlines()[-1]
        assert 'Traceback' not in self._text()

    def _start(self):
        return self.launcher.start(self.name, *self._resume())

    def _resume(self):
        return ['--resume'] if self.folder.exists() else []

    def _text(self):
        return self.folder.with_suffix('.txt').read_text()

    def _tell(self, what):
        logs = {log: [row['step'] for row in rows(self.folder, log)] for log in LOGS}
        last = {log: max(steps, default=0) for log, steps in logs.items()}
        saved = sorted(path.name for path in self.folder.glob('checkpoints/*'))
        print(f'{self.name}: {what}; last rows {last}, checkpoints {saved}', flush=True)


def test_run__a_folder_is_never_overwritten(launcher, whole):
    def content():
        return {
            path: (path.stat().st_mtime_ns, path.read_bytes())
            for path in whole.rglob('*')
            if path.is_file()
        }

    before = content()
    code, text = launcher.finish('whole')
    assert code == 2
    assert text.splitlines()[-1].startswith('error: ')
    assert '--resume' in text.splitlines()[-1]
    assert content() == before
    code, text = launcher.finish('whole', '--resume', '--set=alpha=3', '--seed=5')
    assert code == 2
    last = text.splitlines()[-1]
    assert last.startswith('error: ')
    assert 'alpha' in last
    assert 'lanes' in last
    assert 'discount' not in last
    assert content() == before


def test_run__what_it_leaves(whole):
    names = {path.name for path in whole.iterdir()}
    logs = {'metrics.jsonl', 'eval.jsonl'}
    assert names >= {'config.json', 'curves.png', 'checkpoints', *logs}
    config = json.loads((whole / 'config.json').read_text())
    assert config['identity']['config']['hidden'] == 16
    steps = [row['step'] for row in rows(whole, 'metrics') if row['variant'] == 'dtql']
    assert steps == [800, 1200, 2000, 2800]
    assert [row['step'] for row in rows(whole, 'eval')] == [2000, 2000, 2800, 2800]
