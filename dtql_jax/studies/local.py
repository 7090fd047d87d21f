"""The launcher of this machine: a worker process for each device, and more where that is asked.

Workers are processes of their own groups, so that Ctrl-C reaches this process alone. It sends them
SIGTERM, at which they save and stop. They also stop where this process dies, however that happens:
each reads the end of its standard input, which is a pipe from here.
"""

import contextlib
import dataclasses
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Mapping

from dtql_jax.studies.board import Board, lines_of
from dtql_jax.studies.folder import log_file, read_plan
from dtql_jax.studies.job import CORES, HELD
from dtql_jax.studies.launch import (
    DRIVER_PIPE,
    Launch,
    LaunchOptions,
    Machine,
    StudyStopped,
    command,
)
from dtql_jax.studies.status import (
    DONE,
    FAILED,
    STOPPED,
    JobStatus,
    job_status,
    read_state,
    read_status,
    write_state,
)
from dtql_jax.studies.tables import status_table
from dtql_jax.training.stop import StopFlag
from dtql_jax.types import UserError, outside

VISIBLE = 'CUDA_VISIBLE_DEVICES'
FRACTION = 'XLA_PYTHON_CLIENT_MEM_FRACTION'  # of a GPU's memory that a process takes
USUAL_FRACTION = 0.75  # jax's own
LOOK_S = 0.2  # between two looks at the workers
SHOW_S = 1.0  # between two of the board
# Exit codes of a job that a signal stopped before it could listen, or while it wrote its state.
EARLY = (-signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGTERM)


def check(options: LaunchOptions) -> None:
    """It works everywhere."""
    del options


def worker_environments(options: LaunchOptions, machine: Machine) -> list[dict[str, str]]:
    """What the environment of each worker has beside that of this process; one for each worker.

    Raises:
        UserError: more devices are asked for than there are.
    """
    asked = options.devices or machine.count
    if asked > machine.count:
        more = '; `jobs_per_device` runs more side by side' if machine.platform == 'cpu' else ''
        raise UserError(
            f'`devices`={asked}: this machine has {machine.count} x {machine.kind}{more}'
        )
    if machine.platform == 'cpu':
        return _of_cpu(options.jobs_per_device)
    visible = os.environ.get(VISIBLE, '').split(',') if os.environ.get(VISIBLE) else []
    names = visible or [str(number) for number in range(machine.count)]
    found = []
    for device in range(asked):
        # Another platform's devices cannot be told apart by this: one worker has them all.
        changes = {VISIBLE: names[device]} if machine.platform in ('gpu', 'cuda') else {}
        if options.jobs_per_device > 1:
            fraction = float(os.environ.get(FRACTION, USUAL_FRACTION)) / options.jobs_per_device
            changes[FRACTION] = f'{fraction:.3f}'
        found += [changes] * options.jobs_per_device
        if not changes.get(VISIBLE):
            break
    return found


def _of_cpu(workers: int) -> list[dict[str, str]]:
    """A CPU is one device. Several workers have a share of its cores each."""
    if workers == 1 or not hasattr(os, 'sched_getaffinity'):
        return [{}] * workers
    mine = sorted(os.sched_getaffinity(0))
    shares = [
        mine[i * len(mine) // workers : (i + 1) * len(mine) // workers] for i in range(workers)
    ]
    return [
        {CORES: ','.join(map(str, share or [mine[i % len(mine)]]))}
        for i, share in enumerate(shares)
    ]


@dataclasses.dataclass
class Worker:
    """A process that runs a job."""

    job: str
    slot: int
    process: subprocess.Popen
    began: float


def launch(work: Launch) -> None:
    """Runs the jobs, each in a process of its own, and prints a table at the end.

    Raises:
        StudyStopped: SIGINT or SIGTERM came. The jobs have saved their checkpoints.
    """
    driver = Driver(work)
    stop = StopFlag()
    with stop.listening():
        try:
            driver.run(stop)
        finally:
            driver.close()
    if stop.signal is not None:
        raise StudyStopped(work.study_dir, stop.signal)
    driver.board.say(f'\n{status_table(read_status(work.study_dir))}')


class Driver:
    """Starts workers while there are jobs and slots, and watches them."""

    def __init__(self, work: Launch):
        self.board = Board()
        self._work = work
        self._plan = read_plan(work.study_dir)
        self._slots = worker_environments(work.options, work.machine)
        self._waiting = list(work.jobs)
        self._workers: list[Worker] = []
        self._statuses = {status.name: status for status in read_status(work.study_dir)}
        self._shown = 0.0

    def run(self, stop: StopFlag) -> None:
        """Returns once all jobs have ended, or the workers after the stop flag was set."""
        told = False
        while self._workers or (self._waiting and not stop()):
            if stop() and not told:
                self.board.say('stopping: the jobs save their checkpoints (again: at once)')
                self._signal(signal.SIGTERM)
                told = True
            if not stop():
                self._start()
            for worker in [w for w in self._workers if w.process.poll() is not None]:
                self._workers.remove(worker)
                self.board.say(self._ended(worker))
            self._show()
            time.sleep(LOOK_S)

    def close(self) -> None:
        """Ends the workers that are left, as after an error: each saves and stops."""
        for worker in self._workers:
            with contextlib.suppress(OSError):
                assert worker.process.stdin is not None
                worker.process.stdin.close()

    def _start(self) -> None:
        """Starts a worker in each free slot."""
        taken = {worker.slot for worker in self._workers}
        for slot in (number for number in range(len(self._slots)) if number not in taken):
            if not self._waiting:
                return
            job = self._waiting.pop(0)
            process = start_worker(self._work.study_dir, job, self._slots[slot])
            self._workers.append(Worker(job, slot, process, time.monotonic()))

    def _signal(self, number: int) -> None:
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(number)

    def _ended(self, worker: Worker) -> str:
        """What became of a job, in one line."""
        assert worker.process.stdin is not None
        worker.process.stdin.close()
        status = settle(self._work.study_dir, worker.job, worker.process)
        self._statuses[worker.job] = status
        if worker.process.returncode == HELD:
            return f'{worker.job}: left out, another process has it'
        reason = f': {status.reason}' if status.reason else ''
        return f'{worker.job}: {status.state}{reason}'

    def _show(self) -> None:
        if time.monotonic() - self._shown < SHOW_S or not self._workers:
            return
        self._shown = time.monotonic()
        for job in (worker.job for worker in self._workers):
            self._statuses[job] = job_status(self._work.study_dir, job)
        statuses = [self._statuses[name] for name in self._plan.names()]
        self.board.show(lines_of(self._plan.jobs, statuses, len(self._slots)))


def start_worker(study_dir: pathlib.Path, job: str, changes: Mapping[str, str]) -> subprocess.Popen:
    """Starts the process of a job; what it says before it opens its log goes there too."""
    path = log_file(study_dir, job)
    with outside(f'{path} cannot be written', 'make room or give permission'):
        log = path.open('ab')
    with log:
        return subprocess.Popen(
            command(study_dir, job),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, **changes, DRIVER_PIPE: '1'},
            start_new_session=True,
        )


def settle(study_dir: pathlib.Path, job: str, process: subprocess.Popen) -> JobStatus:
    """The state of a job whose process has ended; it is written where the process could not."""
    status, code = read_state(study_dir, job), process.returncode
    if code == HELD or (status.pid == process.pid and status.state in (DONE, FAILED, STOPPED)):
        return status
    if code == 0:  # it was done before
        return status
    state, reason = FAILED, f'ended with exit code {code}: see {log_file(study_dir, job)}'
    if code in EARLY:
        state, reason = STOPPED, ''
    elif code < 0:
        reason = f'killed by signal {-code}' + (' (memory?)' if code == -signal.SIGKILL else '')
    status = dataclasses.replace(status, state=state, reason=reason, left_s=None)
    write_state(study_dir, status)
    return status
