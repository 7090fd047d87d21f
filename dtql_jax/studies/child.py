"""The process of one job below a worker of a cluster: of a SLURM job or a Ray task."""

import contextlib
import os
import pathlib
import signal
import time
from collections.abc import Mapping

from dtql_jax.studies.job import HELD
from dtql_jax.studies.local import settle, start_worker
from dtql_jax.studies.status import JobStatus

LOOK_S = 0.2
HELD_S = 15.0  # then a job that another process has is tried again
HELD_TRIES = 20


class Child:
    """A job in a process of its own, which stops with a checkpoint when this process dies.

    Args:
        study_dir: the folder of the study.
        job: its name.
        changes: environment variables beside this process's.
    """

    def __init__(self, study_dir: pathlib.Path, job: str, changes: Mapping[str, str]):
        self._study_dir, self._job, self._changes = study_dir, job, changes
        self._process = start_worker(study_dir, job, changes)

    def run(self) -> JobStatus | None:
        """Waits for the end of the job; returns its state, or None: another process has it.

        The process that had it may be about to end, such as that of a lost node: it is tried again.
        """
        for _ in range(HELD_TRIES):
            self.wait()
            if self._process.wait() != HELD:
                return settle(self._study_dir, self._job, self._process)
            time.sleep(HELD_S)
            self._process = start_worker(self._study_dir, self._job, self._changes)
        return None

    def signal(self) -> None:
        """Asks the job to save a checkpoint and stop."""
        if self._process.returncode is None:  # else its number may be another process's by now
            os.kill(self._process.pid, signal.SIGTERM)

    def wait(self) -> None:
        """Waits for the end of the process.

        A signal's handler may wait while the code that it interrupts waits too, so no lock is held
        as Popen's. And Ray interrupts no call into the system, so the calls are short.
        """
        with contextlib.suppress(ChildProcessError):  # its exit code is fetched already
            flags = os.WEXITED | os.WNOWAIT | os.WNOHANG
            while os.waitid(os.P_PID, self._process.pid, flags) is None:
                time.sleep(LOOK_S)
