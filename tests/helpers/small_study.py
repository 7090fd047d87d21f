"""A study of two jobs that take seconds, and its command in a process of its own."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

from dtql_jax.report.loggers import read_jsonl
from dtql_jax.runs.policy import Run
from dtql_jax.studies.folder import run_dir
from dtql_jax.studies.status import RUNNING, read_state
from tests.helpers import toy
from tests.helpers.small_runs import ROOT

BC, IQL = 'pointmaze-umaze-bc', 'pointmaze-umaze-iql'
LIMIT_S = 300  # for one process, which takes a twentieth of that on a machine of its own
FLAGS = (
    '--env=pointmaze-umaze', '--agent=bc,iql', '--num_seeds=1', '--batch_size=8', '--hidden=16',
    '--steps=30000', '--eval_every=15000', '--eval_episodes=1', '--sweep', 'expectile=0.7,0.9',
    '--clone_seeds=0',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Driver:
    """Starts `dtql sweep` on a small dataset; its output is kept."""

    dataset: pathlib.Path
    folder: pathlib.Path
    processes: list[subprocess.Popen] = dataclasses.field(default_factory=list)

    def begin(self, name, *flags):
        """Begins a study in the folder `name`."""
        return self.start(name, *FLAGS, f'--dataset_path={self.dataset}', *flags)

    def start(self, name, *flags):
        """The process of the command, in a group of its own as a terminal has it."""
        command = [sys.executable, ROOT / 'experiments' / 'sweep.py', *flags]
        log = (self.folder / f'{name}.txt').open('a')
        # Programs that compile quickly: what they compute is the same from process to process.
        changes = {'XLA_FLAGS': '--xla_backend_optimization_level=0', 'PYTHONPATH': str(ROOT)}
        process = subprocess.Popen(
            [*command, f'--out={self.folder / name}'],
            stdout=log, stderr=log, start_new_session=True, env={**os.environ, **changes},
        )  # fmt: skip
        self.processes.append(process)
        return process

    def finish(self, process, name):
        """The exit code of a process and what the command has said so far."""
        code = process.wait(LIMIT_S)
        return code, (self.folder / f'{name}.txt').read_text()


def wait_for(moment):
    """Waits for a moment, and fails where it does not come."""
    end = time.monotonic() + LIMIT_S
    while not moment():
        assert time.monotonic() < end, 'the moment did not come'
        time.sleep(0.01)


def under_way(study, job):
    """The process of a job once it trains."""
    found = []

    def moment():
        status = read_state(study, job)
        found.append(status.pid)
        return status.state == RUNNING and (status.step or 0) > 0

    wait_for(moment)
    return found[-1]


def ended(pid):
    """Whether no such process is left."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return pathlib.Path(f'/proc/{pid}/stat').read_text().split(')')[1].split()[0] == 'Z'


def kill(process):
    """Kills a process as the system does where memory is short."""
    process.send_signal(signal.SIGKILL)
    process.wait(LIMIT_S)


def rows(folder):
    """The evaluations of a run without their times."""
    found = read_jsonl(folder / 'eval.jsonl')
    return [{k: v for k, v in row.items() if not k.startswith('time/')} for row in found]


def assert_same_study(ours, theirs):
    """The jobs of both studies have the same evaluations and the same arrays."""
    for job in (BC, IQL):
        one, other = run_dir(ours, job), run_dir(theirs, job)
        assert rows(one) == rows(other)
        assert toy.equal(Run(one).progress, Run(other).progress)
        assert Run(one).cursor.step == 30_000
