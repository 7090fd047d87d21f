"""What runs on a node of SLURM: one job of a study, as submitit's callable."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import time
from typing import Any

from dtql_jax.studies.child import Child
from dtql_jax.studies.folder import log_file
from dtql_jax.studies.status import DONE, FAILED, STOPPED, read_state, write_state

BARREN = 3  # turns up to the time limit without one update, after which a job is given up
TURN = 1 / 3  # of the time limit: a shorter turn did not end by it
ANSWER_S = 60.0


class SlurmJob:
    """Runs a job of a study on a node.

    submitit pickles and calls it. Near the time limit, and when the cluster wants the node back,
    submitit calls `checkpoint` and puts what that returns into the queue.

    Args:
        study_dir: the folder of the study.
        job: the name of the job.
        minutes: the time limit.
        barren: how many turns before this one made no update.
    """

    def __init__(self, study_dir: str, job: str, minutes: int, barren: int = 0):
        self.study_dir, self.job, self.minutes, self.barren = study_dir, job, minutes, barren
        self._child: Child | None = None

    def __call__(self) -> str:
        """Runs the job to its end, and returns its state.

        Raises:
            RuntimeError: it failed or was stopped. SLURM then counts it as failed.
        """
        study_dir = pathlib.Path(self.study_dir)
        self._began, self._step = time.monotonic(), self._updates()
        before = signal.signal(
            signal.SIGTERM, self._pass_on
        )  # SLURM's, of which submitit says no more
        try:
            self._child = Child(study_dir, self.job, {})
            status = self._child.run()
            if status is not None and status.state == STOPPED and _still_ours():
                signal.raise_signal(_notice())  # it is preempted soon: `checkpoint` is called
        finally:
            signal.signal(signal.SIGTERM, before)
        if status is None:
            raise RuntimeError(f'{self.job}: another process has it')
        if status.state != DONE:
            log = log_file(study_dir, self.job)
            raise RuntimeError(f'{self.job}: {status.reason or status.state}; see {log}')
        return status.state

    def checkpoint(self) -> Any:
        """Has the job save a checkpoint.

        Returns:
            The call that goes on, or None where further turns would not help.
        """
        import submitit

        barren = self.barren
        if self._child is not None:
            self._child.signal()
            self._child.wait()
            if self._updates() != self._step:
                barren = 0
            elif time.monotonic() - self._began > TURN * 60 * self.minutes:
                barren += 1
        if barren == BARREN:
            self._give_up()
            return None
        again = SlurmJob(self.study_dir, self.job, self.minutes, barren)
        return submitit.helpers.DelayedSubmission(again)

    def _give_up(self) -> None:
        reason = f'no update in {BARREN} turns of {self.minutes} minutes: raise the time limit'
        study_dir = pathlib.Path(self.study_dir)
        status = read_state(study_dir, self.job)
        write_state(study_dir, dataclasses.replace(status, state=FAILED, reason=reason))
        print(f'{self.job}: {reason}', flush=True)

    def _updates(self) -> int | None:
        return read_state(pathlib.Path(self.study_dir), self.job).step

    def _pass_on(self, *_: Any) -> None:
        """Handles SIGTERM, which comes before SLURM ends a job that is cancelled or preempted."""
        if self._child is not None:
            self._child.signal()


def _notice() -> signal.Signals:
    """The signal by which submitit learns that a turn ends."""
    import submitit

    return signal.Signals[f'SIG{submitit.JobEnvironment.USR_SIG}']


def _still_ours() -> bool:
    """Whether SLURM lets this job run on: it is neither cancelled nor in the queue again."""
    # An element by its place: the number of one of them is that of the whole array, too.
    array, place = (os.environ.get(f'SLURM_ARRAY_{name}_ID') for name in ('JOB', 'TASK'))
    job = f'{array}_{place}' if array else os.environ.get('SLURM_JOB_ID', '')
    line = ['squeue', '-h', '-j', job, '-o', '%T']
    try:
        answer = subprocess.run(line, capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.stdout.strip() == 'RUNNING'
