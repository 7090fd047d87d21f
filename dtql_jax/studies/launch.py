"""What every launcher shares: the command of a job, and what a launcher is given.

A launcher is a module with two functions. `check(options)` raises UserError where the launcher
cannot work here, such as without its package; it is called before any data are read.
`launch(work)` starts the jobs. Where it waits for them, it raises `StudyStopped` after a signal.

A job is one command, which may be started any number of times and on any machine that has the
study's folder: it starts the job, goes on with it, or says that it is done. SIGINT, SIGTERM,
SIGUSR1 and SIGUSR2 make it save a checkpoint and stop. Its exit codes are `job.main`'s.
"""

import dataclasses
import pathlib
import signal
import sys
from collections.abc import Callable

from dtql_jax.agents.settings import Settings, setting
from dtql_jax.types import Stopped

# name -> module in this folder
LAUNCHERS = {
    'local': 'local',
    'print': 'print_commands',
    'slurm': 'slurm',
    'ray': 'ray_tasks',
}
# Set to 1, it says that stdin is a pipe from the driver: the job stops when the driver dies.
DRIVER_PIPE = 'DTQL_DRIVER_PIPE'


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchOptions(Settings):
    """How jobs are started; none changes a result. None leaves it to the launcher."""

    devices: int | None = setting(None, 'local: devices to use (default: all)', least=1)
    jobs_per_device: int = setting(1, 'local: jobs side by side on one device', least=1)
    time_limit: int | None = setting(
        None, 'slurm: minutes of one turn; a job that needs more queues again', least=1
    )
    partition: str | None = setting(None, 'slurm: the partition')
    account: str | None = setting(None, 'slurm: the account')
    cpus: int | None = setting(None, 'slurm, ray: processor cores of a job', least=1)
    memory_gb: float | None = setting(None, 'slurm, ray: memory of a job in GB', above=0)
    gpus: float | None = setting(None, 'slurm, ray: GPUs of a job; ray takes parts of one', least=0)
    address: str | None = setting(None, 'ray: the cluster (default: one of this machine)')
    slurm_args: str | None = setting(None, "slurm: more, as in 'constraint=a100 qos=long'")
    wait: bool = setting(False, 'slurm: wait for the end of the jobs, and show their progress')


@dataclasses.dataclass(frozen=True)
class Machine:
    """The devices of this machine that jobs can use."""

    platform: str = 'cpu'
    count: int = 1
    kind: str = 'cpu'


@dataclasses.dataclass(frozen=True)
class Launch:
    """The work of a launcher: the jobs that are neither done nor given up.

    Args:
        study_dir: the folder of the study, in full.
        jobs: their names, in order.
        options: how to start them.
        say: prints a line for the user, and not to a standard output that others read.
        machine: what the preparation found here.
    """

    study_dir: pathlib.Path
    jobs: tuple[str, ...]
    options: LaunchOptions
    say: Callable[[str], None]
    machine: Machine = Machine()


class StudyStopped(Stopped):
    """A signal stopped the driver of a study; the same command goes on.

    Args:
        study_dir: the folder of the study.
        number: the signal.
    """

    def __init__(self, study_dir: pathlib.Path, number: int):
        super().__init__(f'stopped: {study_dir} keeps what its jobs have saved')
        self.study_dir = study_dir
        self.signal = signal.Signals(number)


def command(study_dir: pathlib.Path, job: str) -> list[str]:
    """The command of a job, as the list of its words."""
    return [sys.executable, '-m', 'dtql_jax.studies.job', str(study_dir), job]
